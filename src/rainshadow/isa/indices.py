"""Knows how a kernel says which elements it means: keys, `nl.ds`, index tiles, names of axes."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from rainshadow.errors import NkiValidationError, OutOfBoundsError
from rainshadow.isa.integers import whole

if TYPE_CHECKING:
    from rainshadow.isa.access import AccessPattern


class DynamicSlice:
    """`nl.ds(start, size)`: `size` elements from `start`."""

    __slots__ = ("size", "start")

    def __init__(self, start: Any, size: int) -> None:
        self.start = start
        self.size = size


class Indirection:
    """Rows picked by an index tile: row i of the view is row `index[i]` of the parent's axis."""

    __slots__ = ("axis", "index", "limit", "stride")

    def __init__(self, index: AccessPattern, axis: int, stride: int, limit: int) -> None:
        self.index = index
        self.axis = axis
        self.stride = stride
        self.limit = limit


def axis_names(pattern: Sequence[Any]) -> list[tuple[str, ...]]:
    """The names of each axis of a `rearrange` pattern: "a", or ("a", "b") for axes merged."""
    return [(entry,) if isinstance(entry, str) else tuple(entry) for entry in pattern]


_WHOLE = slice(None)


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
