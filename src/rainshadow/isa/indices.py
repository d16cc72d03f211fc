"""Knows how a kernel says which elements it means: keys, `nl.ds`, index tiles, names of axes."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import numpy as np

from rainshadow import dtypes
from rainshadow.errors import NkiValidationError, NotModelled, OutOfBoundsError
from rainshadow.isa.integers import shown, whole
from rainshadow.isa.strides import merge_axes

if TYPE_CHECKING:
    from rainshadow.isa.access import AccessPattern


class DynamicSlice:
    """`nl.ds(start, size)`: `size` elements from `start`."""

    __slots__ = ("size", "start")

    def __init__(self, start: Any, size: int) -> None:
        self.start = start
        self.size = size


#: The axis whose positions an index tile picks: rows of HBM, or columns on chip.
ROW_AXIS, COLUMN_AXIS = 0, 1


class Indirection:
    """Rows or columns picked by an index tile: number i of the view is `index[i]` of the parent's.

    axis: which of them.  stride, limit: of the parent's axis.
    """

    __slots__ = ("axis", "index", "limit", "stride")

    def __init__(self, index: AccessPattern, axis: int, stride: int, limit: int) -> None:
        self.index = index
        self.axis = axis
        self.stride = stride
        self.limit = limit


def picked_rows(view: AccessPattern, index: AccessPattern, stride: int, limit: int) -> Indirection:
    """The indirection of a view whose axis 0 picks among `limit` rows, `stride` elements apart.

    A row counts only where all that the view takes from it on is inside the tensor.
    """
    if stride > 0:
        free = zip(view.shape[1:], view.strides[1:], strict=True)
        last = view.offset + sum((n - 1) * step for n, step in free if step > 0)
        total = view.buffer_.size_bytes * view.buffer_.partitions // view.itemsize
        limit = max(1, min(limit, (total - 1 - last) // stride + 1))
    return Indirection(index, ROW_AXIS, stride, limit)


def indirect_columns(
    view: AccessPattern, index: Any, num_elem: Any
) -> tuple[int, tuple[int, int], Indirection]:
    """(columns, strides, indirection) of `view.indirect(index, num_elem)`.

    Errors: `NkiValidationError` for views and index tiles that the hardware can't use.
    """
    require_index_tile("indirect", index, view.shape[0])
    merged = merge_axes(list(zip(view.shape[1:], view.strides[1:], strict=True)))
    if not view.buffer_.on_chip or view.is_indirect() or len(merged) > 1:
        raise NkiValidationError(
            f"indirect of {view!r}",
            allowed="a tile in SBUF or PSUM whose free axes follow each other in memory",
        )
    most = min(view.shape[0], _GROUP) * index.elements
    count = most if num_elem is None else whole(num_elem, "indirect: num_elem")
    if not 1 <= count <= view.shape[0] * index.elements:
        raise NkiValidationError(f"indirect: num_elem {count}", allowed=f"1 to {index.size}")
    limit, stride = merged[0] if merged else (1, 1)
    return count, (view.strides[0], stride), Indirection(index, COLUMN_AXIS, stride, limit)


def require_index_tile(what: str, index: Any, partitions: int | None = None) -> None:
    """An index tile holds integers, in SBUF.

    Errors: `NkiValidationError` for anything else.
    """
    buffer = getattr(index, "buffer_", None)
    integers = buffer is not None and dtypes.numpy_dtype(index.dtype).kind in "iu"
    if not integers or partitions not in (None, index.shape[0]):
        rows = "" if partitions is None else f" of {partitions} partitions"
        raise NkiValidationError(
            f"{what}: the index is {index!r}",
            allowed=f"a tensor of integers{rows}",
            fix="copy it into an int32 or uint32 tile with nisa.tensor_copy",
        )


def explicit(
    view: AccessPattern, pattern: Any, partition_elements: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(shape, strides) of a pattern given to `ap`.

    On a window of a tile AWS's library gives the elements of a row of the window as the step from
    partition to partition (nki-library, TensorView), and its tests run on chips: that counts, too.
    Errors: `NkiValidationError` for none, and where partitions on chip do not follow each other.
    """
    try:
        pairs = [(stride, count) for stride, count in pattern]
    except (TypeError, ValueError):
        pairs = []
    if not pairs:
        raise NkiValidationError(
            f"ap: pattern is {shown(pattern)}", allowed="[[stride, count], ...]"
        )
    shape = tuple(whole(count, "ap: a count of the pattern") for _, count in pairs)
    strides = tuple(whole(stride, "ap: a stride of the pattern") for stride, _ in pairs)
    if view.buffer_.on_chip and shape[0] > 1:
        of_window = view.size // view.shape[0] * partition_elements * view.itemsize
        if strides[0] not in (partition_elements, of_window // view.buffer_.size_bytes):
            raise NkiValidationError(
                f"ap: a stride of {strides[0]} from partition to partition of {view!r}",
                allowed=f"{partition_elements}, the elements of a partition",
                fix="put the partitions first, one after another",
            )
        strides = (partition_elements, *strides[1:])
    return shape, strides


def require_dynamic_offset(view: AccessPattern, scalar: Any, vector: Any, dim: Any) -> None:
    """One of scalar_offset, of one integer, and vector_offset, of rows of HBM.

    Errors: `NkiValidationError` for both, and for axes that are none.
    """
    if scalar is not None and vector is not None:
        raise NkiValidationError("ap: scalar_offset and vector_offset", allowed="one of them")
    if not isinstance(dim, int) or not 0 <= dim < view.ndim:
        raise NkiValidationError(f"ap: indirect_dim {dim!r}", allowed=f"0..{view.ndim - 1}")
    if vector is not None:
        require_index_tile("ap: vector_offset", vector)
        if view.buffer_.on_chip or dim != ROW_AXIS:
            raise NkiValidationError(
                f"ap: vector_offset on axis {dim} of {view!r}", allowed="axis 0 of an HBM tensor"
            )
    elif hasattr(scalar, "buffer_"):
        require_index_tile("ap: scalar_offset", scalar, 1)


def wide_elements(view: AccessPattern) -> tuple[int, Any]:
    """(bytes, NumPy dtype) of the elements of a tensor that holds float32 for a narrower dtype.

    Errors: `NotModelled` for a view that looks at their bits.
    """
    if view.dtype != view.buffer_.dtype:
        raise NotModelled(
            f"a view as {view.dtype} of a {view.buffer_.dtype} tensor that holds float32",
            fix="set NKI_PRECISE_FP=1, or SimOptions(precise=True)",
        )
    return 4, np.dtype(np.float32)


def axis_names(pattern: Sequence[Any]) -> list[tuple[str, ...]]:
    """The names of each axis of a `rearrange` pattern: "a", or ("a", "b") for axes merged."""
    try:
        return [(entry,) if isinstance(entry, str) else tuple(entry) for entry in pattern]
    except TypeError:
        raise NkiValidationError(
            f"rearrange: pattern {shown(pattern)}", allowed="a name, or a tuple of names, an axis"
        ) from None


_WHOLE = slice(None)
#: Partitions that share a list of offsets, but for TensorE's 32.
_GROUP = 16


def window(
    key: Any, shape: tuple[int, ...], strides: tuple[int, ...], on_chip: bool
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """(shape, strides, first element) of what `tensor[key]` means.

    Integers drop their axis, except the partition axis on chip; at least one axis is left, two on
    chip.

    Errors: `NkiValidationError` for keys that are none, `OutOfBoundsError` for those outside.
    """
    if type(key) is not tuple:
        key = (key,)
    if EllipsisType in map(type, key):
        where = key.index(Ellipsis)
        key = key[:where] + (slice(None),) * (len(shape) - len(key) + 1) + key[where + 1 :]
    if len(key) > len(shape):
        raise NkiValidationError(
            f"{len(key)} indices for a tensor of {len(shape)} axes, shape {shape}",
            fix="drop the surplus indices",
        )
    if len(key) < len(shape):
        key += (_WHOLE,) * (len(shape) - len(key))
    extents: list[int] = []
    steps: list[int] = []
    offset = 0
    for axis, index in enumerate(key):
        stride = strides[axis]
        if isinstance(index, DynamicSlice):
            start, count, step = index.start, index.size, 1
            if type(start) is not int or type(count) is not int:
                start, count = whole(start, "start of nl.ds"), whole(count, "size of nl.ds")
            if start < 0 or count < 0 or start + count > shape[axis]:
                start, count, step = _checked(start, count, step, axis, shape)
        elif type(index) is slice:
            if index is _WHOLE or (index.start is None is index.stop and index.step is None):
                extents.append(shape[axis])
                steps.append(stride)
                continue
            start, count, step = _resolve(index, axis, shape)
        else:
            start, count, step = _position(index, axis, shape), 1, 1
            if axis != 0 or not on_chip:
                offset += start * stride
                continue
        offset += start * stride
        extents.append(count)
        steps.append(stride * step)
    if not extents:
        extents, steps = [1], [1]
    elif len(extents) == 1 and on_chip:
        extents, steps = [extents[0], 1], [steps[0], 1]
    return tuple(extents), tuple(steps), offset


def _resolve(index: slice, axis: int, shape: tuple[int, ...]) -> tuple[int, int, int]:
    extent = shape[axis]
    step = 1 if index.step is None else whole(index.step, "step of a slice")
    start = 0 if index.start is None else whole(index.start, "start of a slice")
    stop = extent if index.stop is None else whole(index.stop, "end of a slice")
    if step < 1:
        raise NkiValidationError(f"slice step {step} on axis {axis}", allowed="steps of 1 or more")
    if start < 0:
        start += extent
    if stop < 0:
        stop += extent
    if stop > extent:
        raise OutOfBoundsError(
            f"slice {start}:{stop} on axis {axis} of a tensor of shape {shape}",
            allowed=f"up to {extent}",
            fix="clip the slice with min() or make the tile count divide the axis",
        )
    return _checked(start, -(-(stop - start) // step), step, axis, shape)


def _checked(
    start: int, count: int, step: int, axis: int, shape: tuple[int, ...]
) -> tuple[int, int, int]:
    # A view of no elements may be made, as Python's slices may, but not used.
    extent = shape[axis]
    inside = start + max(count - 1, 0) * step < extent or (count == 0 and start <= extent)
    if start < 0 or count < 0 or not inside:
        raise OutOfBoundsError(
            f"{count} elements from {start} on axis {axis} of a tensor of shape {shape}",
            allowed=f"elements inside 0..{extent - 1}",
            fix="clip the slice with min() or make the tile count divide the axis",
        )
    return start, count, step


def _position(index: Any, axis: int, shape: tuple[int, ...]) -> int:
    try:
        position = index.__index__()
    except (AttributeError, TypeError):
        raise NkiValidationError(
            f"index {index!r} on axis {axis}",
            allowed="integers, slices, `...` and nl.ds(start, size)",
        ) from None
    if position < 0:
        position += shape[axis]
    if not 0 <= position < shape[axis]:
        raise OutOfBoundsError(
            f"index {index} on axis {axis} of a tensor of shape {shape}",
            allowed=f"0..{shape[axis] - 1}",
        )
    return int(position)
