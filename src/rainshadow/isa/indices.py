"""Knows how positions that are no plain numbers are written: `nl.ds`, and rows by index tile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
