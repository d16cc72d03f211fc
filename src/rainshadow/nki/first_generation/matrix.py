"""TensorE in the first generation: results in PSUM, which `+=` accumulates."""

from __future__ import annotations

from typing import Any

from rainshadow.isa.access import AccessPattern
from rainshadow.isa.instructions.nc_transpose import NcTranspose
from rainshadow.isa.memory import Space
from rainshadow.nki import isa
from rainshadow.nki.first_generation.arithmetic import (
    as_tile,
    copy,
)
from rainshadow.nki.first_generation.operands import result
from rainshadow.nki.first_generation.operation import (
    Operand,
    Result,
)
from rainshadow.nki.first_generation.tensor import Tensor
from rainshadow.sim.recorder import active_recorder

unknown_engine, vector_engine = isa.unknown_engine, isa.vector_engine
SBUF = (Space.sbuf, Space.psum)
PSUM = (Space.psum,)


def nc_matmul(
    stationary: Tensor,
    moving: Tensor,
    *,
    is_stationary_onezero: bool = False,
    is_moving_onezero: bool = False,
    is_transpose: bool = False,
    tile_position: tuple[int, ...] = (),
    tile_size: tuple[int, ...] = (),
    mask: Any = None,
    **kwargs: Any,
) -> Result:
    """stationary.T @ moving, in PSUM; `psum += nc_matmul(...)` accumulates there."""
    left, right = _in_sbuf(stationary, "stationary"), _in_sbuf(moving, "moving")
    perf_mode = str(kwargs.get("perf_mode") or "none").removesuffix("_gen3")
    pairs = 1 if perf_mode == "none" else 2
    rows, columns = _free_shape(left, pairs), _free_shape(right, pairs)
    operands = [
        Operand("stationary", left, ("k", *_labels("m", left, pairs))),
        Operand("moving", right, ("k", *_labels("n", right, pairs))),
    ]

    def emit(
        dst: AccessPattern,
        stationary: AccessPattern,
        moving: AccessPattern,
        accumulate: bool = False,
    ) -> None:
        isa.nc_matmul(
            dst, stationary, moving, is_stationary_onezero, is_moving_onezero, is_transpose,
            accumulate, tuple(tile_position), tuple(tile_size),
            isa.matmul_perf_mode(perf_mode),
        )  # fmt: skip

    shape = (_product(rows), *columns)
    labels = (
        _labels("m", left, pairs)[-1] if len(rows) == 1 else None,
        *_labels("n", right, pairs),
    )
    dtype = "float32"
    if is_transpose:
        dtype = left.type_name
    return result(
        emit, operands, mask, shape, None, dtype, labels=labels, spaces=PSUM,
        matmul=True,
    )  # fmt: skip


def _in_sbuf(value: Any, what: str) -> Tensor:
    """What TensorE reads must lie in SBUF: a tile in PSUM is copied there first."""
    tile = as_tile(value, what)
    return copy(tile) if tile.space is Space.psum else tile


def _free_shape(tile: Tensor, pairs: int) -> tuple[int, ...]:
    return tile.shape[1:] if pairs == 1 else tile.shape[2:]


def _labels(name: str, tile: Tensor, pairs: int) -> tuple[Any, ...]:
    """The labels of an operand's free axes; the pairs of double_row are contracted."""
    free = tuple(f"{name}{axis}" for axis in range(tile.ndim - (1 if pairs == 1 else 2)))
    return free if pairs == 1 else (None, *free)


def _product(extents: tuple[int, ...]) -> int:
    count = 1
    for extent in extents:
        count *= extent
    return count


def nc_transpose(
    data: Tensor,
    *,
    mask: Any = None,
    dtype: Any = None,
    engine: Any = unknown_engine,
    **kwargs: Any,
) -> Result:
    """data with partitions and free axes exchanged: TensorE writes PSUM, VectorE either.

    TensorE's is a matmul with the identity, which may write another dtype into PSUM.
    """
    by_vector = engine is vector_engine
    tile = as_tile(data, "data") if by_vector else _in_sbuf(data, "data")
    free = _product(tile.shape[1:])

    def emit(dst: AccessPattern, data: AccessPattern) -> None:
        flat = data if data.ndim == 2 else data.reshape((data.shape[0], data.elements))
        if dst.dtype == flat.dtype or by_vector:
            isa.nc_transpose(dst, flat, engine)
        else:
            active_recorder().issue(NcTranspose(dst, flat, by_matmul=True))

    spaces = SBUF if by_vector else PSUM
    labels = (1 if tile.ndim == 2 else None, 0)
    operands = [Operand("data", tile, tuple(range(tile.ndim)))]
    return result(
        emit, operands, mask, (free, tile.shape[0]), dtype, tile.type_name, labels=labels,
        spaces=spaces,
    )  # fmt: skip
