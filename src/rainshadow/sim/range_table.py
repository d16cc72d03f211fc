"""Numbers the bytes that instructions touch; what they are is worked out for all at once.

While a kernel runs, a range is its tensor's ordinal, an offset, and the form that its shape and
strides have. Where the tensors lie is known when the kernel is over.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.isa.access import AccessPattern
from rainshadow.isa.footprint import WIDTH, Form, form_of
from rainshadow.isa.memory import Buffer

Column = np.ndarray[Any, np.dtype[Any]]

#: Columns of `Trace.tensors` that say where a tensor lies.
_SPACE, _PARTITION, _ADDRESS, _SIZE = 0, 1, 3, 4
#: More than any offset has: a tebi-element is beyond every chip's HBM.
_OFFSET_BITS = 40


@dataclass(frozen=True, slots=True)
class Measured:
    """What ranges touch, as a Trace holds it.

    ranges, footprints: distinct rows of `Trace.ranges`, `Trace.footprints`.  range, footprint:
    which of them each range is.
    """

    ranges: Column
    range: Column
    footprints: Column
    footprint: Column


class RangeTable:
    """The ranges of one launch on one core.

    Most tiles live shortly and are touched whole: what is known of a tile's ranges goes with it,
    and 24 bytes stay of each.
    """

    def __init__(self) -> None:
        #: Of each range: its tensor's ordinal, the offset in elements, the form's number.
        self._rows = array("q")
        self._count = 0
        #: By ordinal, of tensors in HBM, which cores may share: as `Buffer.range_numbers`.
        self._outside: dict[int, dict[int, int]] = {}
        self._form_numbers: dict[tuple[int, ...], int] = {}
        self._forms: list[Form] = []

    def number(self, view: AccessPattern) -> int:
        """Number of the bytes that a view touches."""
        if view.range_table is self:
            return view.range_number
        buffer, picked = view.buffer_, view.indirection
        key: tuple[int, ...] = (view.kind(), buffer.size_bytes)
        if picked is not None:
            key = (*key, picked.axis, picked.limit, picked.stride)
        form = self._form_numbers.get(key)
        if form is None:
            form = self._form_numbers[key] = len(self._forms)
            self._forms.append(form_of(view))
        known = buffer.range_numbers if buffer.on_chip else self._outside.get(buffer.ordinal)
        if known is None:
            known = self._known_of(buffer)
        where = form << _OFFSET_BITS | view.offset
        number = known.get(where)
        if number is None:
            number = known[where] = self._add(buffer.ordinal, view.offset, form)
        view.range_table, view.range_number = self, number
        return number

    def _known_of(self, buffer: Buffer) -> dict[int, int]:
        """The numbers of a tensor that has none yet."""
        known: dict[int, int] = {}
        if buffer.on_chip:
            buffer.range_numbers = known
        else:
            self._outside[buffer.ordinal] = known
        return known

    def _add(self, ordinal: int, offset: int, form: int) -> int:
        self._rows.extend((ordinal, offset, form))
        self._count += 1
        return self._count - 1

    def elsewhere(self, numbers: Column, ordinals: Column) -> Column:
        """Numbers of the same bytes of other tensors of the same sizes."""
        known: dict[tuple[int, int], int] = {}
        result = []
        for number, ordinal in zip(numbers.tolist(), ordinals.tolist(), strict=True):
            moved = known.get((number, ordinal))
            if moved is None:
                _, offset, form = self._rows[3 * number : 3 * number + 3]
                moved = known[number, ordinal] = self._add(ordinal, offset, form)
            result.append(moved)
        return np.array(result, dtype=np.int64)

    @property
    def ordinals(self) -> Column:
        """int64[r]: the tensor that each range lies in."""
        return self._columns()[0].copy()

    def _columns(self) -> Column:
        """int64[3, r], the own memory: no range can be added while it is looked at."""
        return np.frombuffer(self._rows, dtype=np.int64).reshape(-1, 3).T

    def measured(self, tensors: Column, owner: Column, hbm: int) -> Measured:
        """`isa.footprint.measure` of every range.

        tensors: as in `Trace`.  owner: the row of them that each range lies in.  hbm: the number
        of HBM among spaces.
        """
        _, offset, number = self._columns()
        forms = np.array(
            [(f.item, f.partitions, f.low, f.high, *f.comb, *f.tail) for f in self._forms],
            dtype=np.int64,
        ).reshape(-1, 6 + WIDTH - 3)
        item, partitions, low, high = forms[number, :4].T
        space, start, address, size = (
            tensors[owner, column] for column in (_SPACE, _PARTITION, _ADDRESS, _SIZE)
        )
        size = np.where(space == hbm, np.iinfo(np.int64).max, size)
        partition, first = np.divmod(offset * item, size)
        at = address + first
        bounds = _numbered(forms[:, :6])[number]
        exact = _numbered(forms[:, [1, *range(6, forms.shape[1])]])[number]
        some, which = _distinct(space, start + partition, at, bounds)
        ranges = np.column_stack(
            [space, start + partition, start + partition + partitions, at + low, at + high + item]
        )[some]
        prints, footprint = _distinct(partition, first + low, exact)
        rows = forms[number[prints]]
        footprints = np.column_stack(
            [partition[prints], rows[:, 1], (first + low)[prints], rows[:, 6:]]
        )
        combs = forms[number[some], 4:6]
        return Measured(np.concatenate([ranges, combs], axis=1), which, footprints, footprint)


def _numbered(rows: Column) -> Column:
    """Equal numbers for equal rows."""
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)


def _distinct(*columns: Column) -> tuple[Column, Column]:
    """Where each distinct row of the columns first stands, and which of them every row is."""
    extents = [int(column.max(initial=0)) - int(column.min(initial=0)) + 1 for column in columns]
    size = 1
    for extent in extents:
        size *= extent
    if size > np.iinfo(np.int64).max:
        _, first, which = np.unique(
            np.column_stack(columns), axis=0, return_index=True, return_inverse=True
        )
        return first, which.reshape(-1)
    key = np.zeros(len(columns[0]), dtype=np.int64)
    for column, extent in zip(columns, extents, strict=True):
        key = key * extent + (column - column.min(initial=0))
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    return first, which
