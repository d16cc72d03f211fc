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


def waits_of(trace: Trace, overlaps: tuple[Column, Column], unit: Column, dma: int) -> Waits:
    """unit: int64[n], the engine or queue that each row runs on; queues from `dma` on.

    overlaps: of the Trace's ranges.
    """
    rows, touched, is_write = _touches(trace, overlaps)
    base = trace.num_rows + 1
    written = trace.access & 1 == 1
    writes = np.unique((trace.access[written] >> 1) * base + trace.access_row[written])
    if not len(writes):
        none = np.zeros(0, dtype=np.int64)
        return Waits(np.zeros(trace.num_rows, dtype=np.int64), none, none.astype(np.uint8))
    key = touched * base + rows
    before = np.searchsorted(writes, key, side="left") - 1
    after_write = (before >= 0) & (writes[before] // base == touched)
    # After the last write to what it reads or writes; and before the next write to what it reads.
    after = np.searchsorted(writes, key, side="right")
    after[after == len(writes)] = 0
    overwritten = ~is_write & (writes[after] // base == touched) & (writes[after] > key)
    row = np.concatenate([rows[after_write], writes[after[overwritten]] % base])
    producer = np.concatenate([writes[before[after_write]] % base, rows[overwritten]])
    flags = np.concatenate([
        np.where(is_write[after_write], FOR_MEMORY, 0),
        np.full(int(overwritten.sum()), FOR_MEMORY | UNTIL_IDLE),
    ])  # fmt: skip
    return _once(trace.num_rows, row, producer, flags, unit, dma)


def _once(
    count: int, row: Column, producer: Column, flags: Column, unit: Column, dma: int
) -> Waits:
    """Without waits that an engine's order makes needless."""
    mine, other = unit[row], unit[producer]
    same = (mine == other) | ((mine >= dma) & (other >= dma))
    in_order = same & (mine < dma) & (flags & FOR_MEMORY > 0)
    kept = ~in_order
    row, producer, flags, mine, same = (c[kept] for c in (row, producer, flags, mine, same))
    of_dma = (unit[producer] >= dma) & (flags & UNTIL_IDLE == 0)
    flags = flags | np.where(same | of_dma, 0, SEMAPHORE)
    order = np.lexsort((flags, producer, row))
    row, producer, flags, mine = (c[order] for c in (row, producer, flags, mine))
    width = int(unit.max(initial=0)) + 1
    _, first = np.unique((producer * 2 + (flags & UNTIL_IDLE)) * width + mine, return_index=True)
    first.sort()
    ends = np.cumsum(np.bincount(row[first], minlength=count))
    return Waits(ends.astype(np.int64), producer[first], flags[first].astype(np.uint8))


def _positions(trace: Trace, overlaps: tuple[Column, Column]) -> Column:
    """For every (access, range that it meets) the access."""
    counts = np.diff(overlaps[0], prepend=0)[trace.access >> 1]
    return np.repeat(np.arange(len(trace.access)), counts)


def _touches(trace: Trace, overlaps: tuple[Column, Column]) -> tuple[Column, Column, Column]:
    """Row, range met and whether it is written, of every (access, range that it meets)."""
    ends, numbers = overlaps
    number = trace.access >> 1
    counts = np.diff(ends, prepend=0)
    mine = counts[number]
    position = _positions(trace, overlaps)
    first = (ends - counts)[number] - (np.cumsum(mine) - mine)
    touched = numbers[first[position] + np.arange(len(position))]
    return trace.access_row[position], touched, (trace.access & 1 == 1)[position]
