"""Knows which elements of a PSUM tensor matmuls have written: to those accumulate=None adds.

Source: AWS Neuron docs 2.32 nki.isa.nc_matmul ("first write overwrites, subsequent writes
accumulate", by location) and the release notes of NKI 0.6.0 (regions that overlap in part, as a
convolution writes them).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.isa.access import AccessPattern

Array = np.ndarray[Any, Any]

#: `accumulate` of a matmul that adds to some of the elements it writes.
PARTLY = "partly"


class Started:
    """What matmuls have written of one buffer."""

    def __init__(self) -> None:
        self._views: dict[Any, AccessPattern] = {}
        #: [partitions, bytes]: written; made when a view first meets a part of another one.
        self._bytes: Array | None = None

    def add(self, view: AccessPattern) -> bool | Array:
        """Count `view` as written. Whether it was: all, nothing, or which elements.

        The elements' flags have the view's shape. Columns that an index tile picks count as one
        place.
        """
        picked = view.indirection and id(view.indirection.index)
        key = (view.offset, view.shape, view.strides, view.dtype, picked)
        if key in self._views:
            return True
        if not view.is_inside():
            return False
        meets = picked is None and any(_meet(view, other) for other in self._views.values())
        self._views[key] = view
        if not meets and self._bytes is None:
            return False
        before = self._elements(view).copy() if meets else False
        self._mark(view)
        if isinstance(before, bool) or not before.any():
            return False
        return True if before.all() else before

    def _mark(self, view: AccessPattern) -> None:
        if view.indirection is None:
            self._elements(view)[...] = True

    def _elements(self, view: AccessPattern) -> Array:
        """One flag for each element of a view, its first byte's; writing sets them."""
        buffer = view.buffer_
        if self._bytes is None:
            self._bytes = np.zeros(buffer.partitions * buffer.size_bytes, dtype=bool)
            for other in list(self._views.values()):
                if other is not view:
                    self._mark(other)
        return np.lib.stride_tricks.as_strided(
            self._bytes[view.offset * view.itemsize :],
            shape=view.shape,
            strides=tuple(stride * view.itemsize for stride in view.strides),
        )


def _meet(one: AccessPattern, other: AccessPattern) -> bool:
    """Whether the bounding boxes of two views have bytes in common."""
    a, b = one.box(), other.box()
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]
