"""The `nisa` functions of the first generation that reduce, scan and gather statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.memory import Space
from rainshadow.nki import isa
from rainshadow.nki.constants import reduce_cmd
from rainshadow.nki.first_generation.arithmetic import (
    as_tile,
    flat_column,
    more_precise,
)
from rainshadow.nki.first_generation.memory import Touch
from rainshadow.nki.first_generation.operands import chosen, optional, result
from rainshadow.nki.first_generation.operation import (
    Operand,
    Result,
    along,
    run,
    shape_on_chip,
)
from rainshadow.nki.first_generation.tensor import Tensor

unknown_engine, vector_engine = isa.unknown_engine, isa.vector_engine
SBUF = (Space.sbuf, Space.psum)
PSUM = (Space.psum,)


def free_axes(tile: Tensor, axis: Any) -> tuple[int, ...]:
    """Axes counted from the front, in order."""
    axes = axis if isinstance(axis, list | tuple) else (axis,)
    return tuple(sorted(int(a) + tile.ndim if a < 0 else int(a) for a in axes))


def tensor_reduce(
    op: Any,
    data: Tensor,
    axis: Any,
    *,
    mask: Any = None,
    dtype: Any = None,
    negate: bool = False,
    keepdims: bool = False,
    **kwargs: Any,
) -> Result:
    """op over free axes of data, which the engine reads last."""
    tile = as_tile(data, "data")
    axes = free_axes(tile, axis)
    if 0 in axes:
        raise NkiValidationError(
            f"tensor_reduce over axes {axes}: axis 0 is the partition axis", allowed="free axes"
        )
    kept = [label for label in range(tile.ndim) if label not in axes]
    order = (*kept, *axes)
    last = tuple(range(len(kept), tile.ndim))
    shape = tuple(1 if label in axes else n for label, n in enumerate(tile.shape))
    labels: tuple[Any, ...] = tuple(None if label in axes else label for label in range(tile.ndim))
    if not keepdims:
        shape = shape_on_chip(tuple(tile.shape[label] for label in kept))
        labels = (*kept, None) if len(kept) == 1 else tuple(kept)

    def emit(dst: AccessPattern, data: AccessPattern) -> None:
        isa.tensor_reduce(dst, op, data.permute(order), last, negate)

    operands = [Operand("data", tile, tuple(range(tile.ndim)))]
    return result(emit, operands, mask, shape, dtype, tile.type_name, labels=labels)


def tensor_scalar_reduce(
    *,
    data: Tensor,
    op0: Any,
    operand0: Any,
    reduce_op: Any,
    reduce_res: Tensor,
    reverse0: bool = False,
    dtype: Any = None,
    mask: Any = None,
    **kwargs: Any,
) -> Result:
    """data op0 operand0; reduce_res = reduce_op of it over the free axes."""
    tile = as_tile(data, "data")
    operands = [along("data", tile)]
    number = optional("operand0", operand0, operands)
    optional("reduce_res", reduce_res, operands, Touch.write)

    def emit(
        dst: AccessPattern,
        data: AccessPattern,
        reduce_res: AccessPattern,
        operand0: AccessPattern | None = None,
    ) -> None:
        isa.tensor_scalar_reduce(
            dst, data, op0, chosen(number, operand0), reduce_op, flat_column(reduce_res), reverse0
        )

    return result(emit, operands, mask, tile.shape, dtype, tile.type_name)


def tensor_partition_reduce(
    op: Any, data: Tensor, *, mask: Any = None, dtype: Any = None, **kwargs: Any
) -> Result:
    """op over the partitions of data."""
    tile = as_tile(data, "data")

    def emit(dst: AccessPattern, data: AccessPattern) -> None:
        isa.tensor_partition_reduce(dst, op, data)

    labels = (None, *range(1, tile.ndim))
    operands = [Operand("data", tile, tuple(range(tile.ndim)))]
    shape = (1, *tile.shape[1:])
    return result(emit, operands, mask, shape, dtype, tile.type_name, labels=labels)


def tensor_tensor_scan(
    data0: Tensor,
    data1: Tensor,
    initial: Any,
    op0: Any,
    op1: Any,
    reverse0: bool = False,
    reverse1: bool = False,
    *,
    dtype: Any = None,
    mask: Any = None,
    **kwargs: Any,
) -> Result:
    """result[:, i] = (data0[:, i] op0 result[:, i-1]) op1 data1[:, i]."""
    tile, other = as_tile(data0, "data0"), as_tile(data1, "data1")
    operands = [along("data0", tile), along("data1", other)]
    number = optional("initial", initial, operands)

    def emit(
        dst: AccessPattern,
        data0: AccessPattern,
        data1: AccessPattern,
        initial: AccessPattern | None = None,
    ) -> None:
        start = chosen(number, initial)
        isa.tensor_tensor_scan(dst, data0, data1, start, op0, op1, reverse0, reverse1)

    return result(emit, operands, mask, tile.shape, dtype, more_precise(tile, other))


def tensor_scalar_cumulative(
    *,
    src: Tensor,
    dst: Tensor,
    op0: Any,
    op1: Any,
    imm0: Any,
    imm1: Any = None,
    reduce_cmd: reduce_cmd = reduce_cmd.reset_reduce,
    mask: Any = None,
    **kwargs: Any,
) -> None:
    """dst[:, i] = op1(op0(src[:, i], imm0), dst[:, i-1]); imm1 or the accumulator comes before."""
    operands = [
        along("dst", as_tile(dst, "dst"), Touch.write),
        along("src", as_tile(src, "src")),
    ]
    first = optional("imm0", imm0, operands)
    # As AWS's test has it: with another reduce_cmd, imm1 may be given and is not used.
    start = optional("imm1", imm1 if reduce_cmd.name == "load_reduce" else None, operands)

    def emit(
        dst: AccessPattern,
        src: AccessPattern,
        imm0: AccessPattern | None = None,
        imm1: AccessPattern | None = None,
    ) -> None:
        isa.tensor_scalar_cumulative(
            dst, src, op0, op1, chosen(first, imm0), chosen(start, imm1), reduce_cmd
        )

    run(emit, operands, mask)


def bn_stats(data: Tensor, *, mask: Any = None, dtype: Any = None, **kwargs: Any) -> Result:
    """Count, mean, variance * count of even and of odd elements."""
    return _per_partition(isa.bn_stats, data, 6, mask, dtype)


def bn_aggr(data: Tensor, *, mask: Any = None, dtype: Any = None, **kwargs: Any) -> Result:
    """Mean, variance from bn_stats triples."""
    return _per_partition(isa.bn_aggr, data, 2, mask, dtype)


def max8(*, src: Tensor, mask: Any = None, dtype: Any = None, **kwargs: Any) -> Result:
    """The 8 largest values of each partition, largest first."""
    return _per_partition(isa.max8, src, 8, mask, dtype)


def _per_partition(
    function: Callable[..., None], data: Any, count: int, mask: Any, dtype: Any
) -> Result:
    """A function that gives `count` numbers for each partition."""
    tile = as_tile(data, "data")

    def emit(dst: AccessPattern, data: AccessPattern) -> None:
        function(dst, data)

    operands = [Operand("data", tile, tuple(range(tile.ndim)))]
    shape = (tile.shape[0], count)
    return result(emit, operands, mask, shape, dtype, tile.type_name, labels=(0, None))
