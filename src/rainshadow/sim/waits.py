"""Knows which rows of a Trace wait for which, whatever the chip: its data, its memory.

In the program's order a row of an engine or a DMA queue never starts before the row in front of it,
so what that one has waited for needs no second wait: every result is waited for once per engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.sim.trace import Trace

Column = np.ndarray[Any, np.dtype[Any]]

#: Flags of a wait: until the other row no longer works, not until its result is there; a semaphore
#: between engines follows; it is for memory, not for data.
UNTIL_IDLE, SEMAPHORE, FOR_MEMORY = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Waits:
    """end: int64[n], row i has the waits end[i-1] to end[i].  producer: int64[m], the rows waited
    for, all before it.  flags: uint8[m]."""

    end: Column
    producer: Column
    flags: Column


#: Rows that are looked at at once: a wait takes a hundred bytes while it is worked out.
_ROWS_AT_ONCE = 1 << 17
#: Waits are kept in one number while they are sorted: row, producer, and so many bits of flags.
_FLAG_BITS = 3


def waits_of(trace: Trace, overlaps: tuple[Column, Column], unit: Column, dma: int) -> Waits:
    """unit: int64[n], the engine or queue that each row runs on; queues from `dma` on.

    overlaps: of the Trace's ranges.
    """
    written = trace.access & 1 == 1
    base = trace.num_rows + 1
    writes = (trace.access[written] >> 1) * np.int64(base) + trace.access_row[written]
    writes.sort()
    parts = (
        _Part(trace, overlaps, first, min(first + _ROWS_AT_ONCE, trace.num_rows))
        for first in range(0, trace.num_rows, _ROWS_AT_ONCE)
    )
    found = [np.zeros(0, dtype=np.int64)]
    found += [_once(*part.waits(writes, base), unit, dma, base) for part in parts]
    packed = np.concatenate(found)
    del found, writes  # of millions of rows these are gigabytes
    # A part knows who writes anew what its rows read, which may be rows of later parts.
    packed.sort()
    row, producer, flags = _unpacked(packed, base)
    del packed
    kept = _first_of_all(row, producer, flags, unit)
    ends = np.cumsum(np.bincount(row[kept], minlength=trace.num_rows))
    return Waits(ends.astype(np.int64), producer[kept], flags[kept])


def _packed(row: Column, producer: Column, flags: Column, base: int) -> Column:
    """int64[m]: in the order of row, producer, flags."""
    return ((row * base + producer) << _FLAG_BITS) | flags


def _unpacked(packed: Column, base: int) -> tuple[Column, Column, Column]:
    row, producer = np.divmod(packed >> _FLAG_BITS, base)
    return row, producer, (packed & ((1 << _FLAG_BITS) - 1)).astype(np.uint8)


def _once(
    row: Column, producer: Column, flags: Column, unit: Column, dma: int, base: int
) -> Column:
    """The waits in order, packed, without those that an engine's order makes needless."""
    mine, other = unit[row], unit[producer]
    same = (mine == other) | ((mine >= dma) & (other >= dma))
    of_dma = (other >= dma) & (flags & UNTIL_IDLE == 0)
    flags = flags | np.where(same | of_dma, 0, SEMAPHORE).astype(np.uint8)
    kept = ~(same & (mine < dma) & (flags & FOR_MEMORY > 0))
    packed = np.sort(_packed(row[kept], producer[kept], flags[kept], base))
    _, first = np.unique(_keys(*_unpacked(packed, base), unit), return_index=True)
    first.sort()
    return packed[first]


def _keys(row: Column, producer: Column, flags: Column, unit: Column) -> Column:
    """Equal for waits of one engine for the same of one row."""
    width = int(unit.max(initial=0)) + 1
    return (producer * 2 + (flags & UNTIL_IDLE)) * width + unit[row]


def _first_of_all(row: Column, producer: Column, flags: Column, unit: Column) -> Column:
    """bool[m]: the waits whose like no part before has."""
    kept = np.ones(len(row), dtype=bool)
    far = row // _ROWS_AT_ONCE != producer // _ROWS_AT_ONCE
    if not far.any():
        return kept
    keys = _keys(row, producer, flags, unit)
    doubtful = np.flatnonzero(_is_among(np.unique(keys[far]), keys))
    kept[doubtful] = False
    kept[doubtful[np.unique(keys[doubtful], return_index=True)[1]]] = True
    return kept


def _is_among(some: Column, keys: Column) -> Column:
    """bool[m]: which keys are in `some`, sorted and not empty; a few at a time."""
    found = np.empty(len(keys), dtype=bool)
    for first in range(0, len(keys), _ROWS_AT_ONCE):
        part = keys[first : first + _ROWS_AT_ONCE]
        place = np.minimum(np.searchsorted(some, part), len(some) - 1)
        found[first : first + len(part)] = some[place] == part
    return found


class _Part:
    """What rows first to end touch: of every (access, range that it meets) the row, the range,
    and whether it is written."""

    def __init__(self, trace: Trace, overlaps: tuple[Column, Column], first: int, end: int) -> None:
        begin = int(trace.access_end[first - 1]) if first else 0
        access = trace.access[begin : int(trace.access_end[end - 1])]
        ends, numbers = overlaps
        number = access >> 1
        until = ends[number]
        met = until - np.where(number > 0, ends[number - 1], 0)
        position = np.repeat(np.arange(len(access)), met)
        start = until - np.cumsum(met)
        self.touched = numbers[start[position] + np.arange(len(position))]
        of_access = np.repeat(
            np.arange(first, end), np.diff(trace.access_end[first:end], prepend=begin)
        )
        self.rows, self.is_write = of_access[position], (access & 1 == 1)[position]

    def waits(self, writes: Column, base: int) -> tuple[Column, Column, Column]:
        """Row, producer and flags of every wait; those of `writes`, sorted, are range and row."""
        rows, touched, is_write = self.rows, self.touched, self.is_write
        if not len(writes):
            return rows[:0], rows[:0], rows[:0].astype(np.uint8)
        key = touched * base + rows
        # After the last write to what it reads or writes; before the next write to what it reads.
        last = writes[np.maximum(np.searchsorted(writes, key, side="left") - 1, 0)]
        after_write = (last < key) & (last // base == touched)
        read = np.flatnonzero(~is_write)
        nexts = np.searchsorted(writes, key[read], side="right")
        following = writes[np.minimum(nexts, len(writes) - 1)]
        overwritten = (following > key[read]) & (following // base == touched[read])
        memory = np.where(is_write[after_write], FOR_MEMORY, 0)
        return (
            np.concatenate([rows[after_write], following[overwritten] % base]),
            np.concatenate([last[after_write] % base, rows[read[overwritten]]]),
            np.concatenate(
                [memory, np.full(int(overwritten.sum()), FOR_MEMORY | UNTIL_IDLE)]
            ).astype(np.uint8),
        )
