"""The `nisa` functions of the first generation that move, find and gather elements."""

from __future__ import annotations

from typing import Any

from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.memory import Space
from rainshadow.isa.operators import alu_operator
from rainshadow.nki import isa, tile_functions
from rainshadow.nki.constants import dge_mode, oob_mode
from rainshadow.nki.first_generation.arithmetic import as_tile, require_tensor
from rainshadow.nki.first_generation.creation import full
from rainshadow.nki.first_generation.memory import Touch
from rainshadow.nki.first_generation.operands import chosen, optional, result
from rainshadow.nki.first_generation.operation import (
    Operand,
    Result,
    along,
    run,
)
from rainshadow.nki.first_generation.tensor import Tensor
from rainshadow.sim.recorder import active_recorder


def dma_copy(
    *,
    dst: Tensor,
    src: Tensor,
    mask: Any = None,
    dst_rmw_op: Any = None,
    oob_mode: oob_mode = oob_mode.error,
    dge_mode: dge_mode = dge_mode.unknown,
    **kwargs: Any,
) -> None:
    """dst = src by DMA, or dst += src with dst_rmw_op=np.add."""
    target, source = require_tensor(dst, "dst"), require_tensor(src, "src")
    adds = dst_rmw_op is not None
    if adds and alu_operator(dst_rmw_op).name != "add":
        raise NkiValidationError("dma_copy: dst_rmw_op", allowed="np.add")

    def emit(dst: AccessPattern, src: AccessPattern) -> None:
        if adds:
            isa.dma_compute(dst, [dst, src], "add", unique_indices=True, oob_mode=oob_mode)
        else:
            isa.dma_copy(dst, src, oob_mode=oob_mode, dge_mode=dge_mode)

    touch = Touch.change if adds else Touch.write
    run(emit, [along("dst", target, touch), along("src", source)], mask)


def store(dst: Tensor, value: Any, *, mask: Any = None, **kwargs: Any) -> None:
    """Write a tile, or a number everywhere, to HBM; a tile in PSUM goes through SBUF."""
    target = require_tensor(dst, "dst")
    if hasattr(value, "__float__"):
        value = full(target.shape, value, target.dtype)
    source = require_tensor(value, "value")
    if source.size != target.size:
        source = source.stretched(target.shape)
    mode = kwargs.get("mode") or oob_mode.error

    def emit(dst: AccessPattern, src: AccessPattern) -> None:
        if src.space is Space.psum:
            copied = tile_functions.tile(src.shape, src.dtype)
            isa.tensor_copy(copied, src)
            src = copied
        isa.dma_copy(dst, src, oob_mode=mode)

    run(emit, [along("dst", target, Touch.write), along("src", source)], mask)


def atomic_rmw(dst: Tensor, value: Tensor, op: Any, *, mask: Any = None, **kwargs: Any) -> None:
    """dst = dst + value in HBM, where an index tile picks the rows."""
    dma_copy(dst=dst, src=value, dst_rmw_op=op, mask=mask)


def dma_transpose(
    src: Tensor, *, axes: Any = None, mask: Any = None, dtype: Any = None, **kwargs: Any
) -> Result:
    """src with its first and last axes exchanged, in SBUF."""
    source = require_tensor(src, "src")
    order = {2: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}.get(source.ndim)
    if order is None or (axes is not None and tuple(axes) != order):
        raise NkiValidationError(
            f"dma_transpose: axes {axes} of {source.ndim} axes",
            allowed="(1, 0), (2, 1, 0) or (3, 1, 2, 0)",
        )

    def emit(dst: AccessPattern, src: AccessPattern) -> None:
        isa.dma_transpose(dst, src)

    shape = tuple(source.shape[axis] for axis in order)
    operands = [Operand("src", source, tuple(range(source.ndim)))]
    return result(
        emit, operands, mask, shape, dtype, source.type_name, labels=order, spaces=(Space.sbuf,)
    )


def load_transpose2d(src: Tensor, *, mask: Any = None, dtype: Any = None, **kwargs: Any) -> Result:
    """An SBUF tile [columns, rows] of an HBM tensor [rows, columns].

    Blocks of 128 rows are loaded, then transposed by TensorE: any dtype and size, unlike the DMA
    engines' own transpose.
    """
    source = require_tensor(src, "src")
    if source.ndim != 2:
        raise NkiValidationError(f"load_transpose2d of {source.shape}", allowed="2 axes")

    def emit(dst: AccessPattern, src: AccessPattern) -> None:
        _transpose_blocks(dst, src)

    operands = [Operand("src", source, (0, 1))]
    return result(
        emit, operands, mask, (source.shape[1], source.shape[0]), dtype, source.type_name,
        labels=(1, 0), spaces=(Space.sbuf,),
    )  # fmt: skip


def _transpose_blocks(dst: AccessPattern, src: AccessPattern) -> None:
    step = int(active_recorder().core.partitions.value)
    for start in range(0, src.shape[0], step):
        stop = min(start + step, src.shape[0])
        block = tile_functions.tile((stop - start, src.shape[1]), src.dtype)
        isa.dma_copy(block, src[start:stop, :])
        shape = (src.shape[1], stop - start)
        turned = active_recorder().allocate(shape, src.dtype, Space.psum)
        isa.nc_transpose(turned, block)
        isa.tensor_copy(dst[:, start:stop], turned)


def nc_stream_shuffle(
    src: Tensor,
    dst: Tensor,
    shuffle_mask: Any,
    *,
    dtype: Any = None,
    mask: Any = None,
    **kwargs: Any,
) -> None:
    """dst[i] = src[shuffle_mask[i]] within each quadrant of 32 partitions."""

    def emit(dst: AccessPattern, src: AccessPattern) -> None:
        isa.nc_stream_shuffle(dst, src, shuffle_mask)

    operands = [along("dst", as_tile(dst, "dst"), Touch.change), along("src", as_tile(src, "src"))]
    run(emit, operands, mask)


def nc_find_index8(
    *, data: Tensor, vals: Tensor, mask: Any = None, dtype: Any = None, **kwargs: Any
) -> Result:
    """Positions of the 8 values in each partition of data."""
    tile, values = as_tile(data, "data"), as_tile(vals, "vals")

    def emit(dst: AccessPattern, data: AccessPattern, vals: AccessPattern) -> None:
        isa.nc_find_index8(dst, data, vals)

    operands = [_whole("data", tile), _rows("vals", values)]
    return result(emit, operands, mask, values.shape, dtype, "uint32", labels=_row_labels(values))


def _whole(name: str, tile: Tensor) -> Operand:
    return Operand(name, tile, tuple(range(tile.ndim)))


def _rows(name: str, tile: Tensor, touch: Touch = Touch.read) -> Operand:
    """An operand that masks cut along the partitions only."""
    return Operand(name, tile, _row_labels(tile), touch)


def _row_labels(tile: Tensor) -> tuple[Any, ...]:
    return (0, *[None] * (tile.ndim - 1))


def nc_match_replace8(
    *,
    data: Tensor,
    vals: Tensor,
    imm: float,
    dst_idx: Tensor | None = None,
    mask: Any = None,
    dtype: Any = None,
    **kwargs: Any,
) -> Result:
    """data with the first occurrence of each value replaced by imm."""
    tile, values = as_tile(data, "data"), as_tile(vals, "vals")
    operands = [_whole("data", tile), _rows("vals", values)]
    if dst_idx is not None:
        operands.append(_rows("dst_idx", as_tile(dst_idx, "dst_idx"), Touch.write))

    def emit(
        dst: AccessPattern,
        data: AccessPattern,
        vals: AccessPattern,
        dst_idx: AccessPattern | None = None,
    ) -> None:
        isa.nc_match_replace8(dst, data, vals, float(imm), dst_idx)

    return result(emit, operands, mask, tile.shape, dtype, tile.type_name)


def local_gather(
    src_buffer: Tensor,
    index: Tensor,
    num_elem_per_idx: int = 1,
    num_valid_indices: int | None = None,
    *,
    mask: Any = None,
) -> Result:
    """Elements of src_buffer by one list of indices for each 16 partitions."""
    tile, indices = as_tile(src_buffer, "src_buffer"), as_tile(index, "index")
    count = num_valid_indices or indices.size // (indices.shape[0] // 16)

    def emit(dst: AccessPattern, src_buffer: AccessPattern, index: AccessPattern) -> None:
        isa.local_gather(dst, src_buffer, index, num_elem_per_idx, num_valid_indices)

    shape: tuple[int, ...] = (tile.shape[0], count)
    if num_elem_per_idx > 1:
        shape = (*shape, num_elem_per_idx)
    operands = [_rows("src_buffer", tile), _rows("index", indices)]
    labels = (0, *[None] * (len(shape) - 1))
    return result(emit, operands, mask, shape, None, tile.type_name, labels=labels)


def sequence_bounds(*, segment_ids: Tensor, dtype: Any = None, **kwargs: Any) -> Result:
    """[P, 2, N]: where the segment of each position begins, and where it ends."""
    tile = as_tile(segment_ids, "segment_ids")

    def emit(dst: AccessPattern, segment_ids: AccessPattern) -> None:
        isa.sequence_bounds(dst, segment_ids)

    shape = (tile.shape[0], 2, tile.size // tile.shape[0])
    operands = [_rows("segment_ids", tile)]
    return result(emit, operands, None, shape, dtype, tile.type_name, labels=(0, None, None))


def dropout(
    data: Tensor, prob: Any, *, mask: Any = None, dtype: Any = None, **kwargs: Any
) -> Result:
    """data with each element zero with probability prob: a number, or [P, 1]."""
    tile = as_tile(data, "data")
    operands = [along("data", tile)]
    number = optional("prob", prob, operands)

    def emit(dst: AccessPattern, data: AccessPattern, prob: AccessPattern | None = None) -> None:
        isa.dropout(dst, data, chosen(number, prob))

    return result(emit, operands, mask, tile.shape, dtype, tile.type_name)
