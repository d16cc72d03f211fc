"""Which barriers an access surely comes after, and which it comes before: a clock per core.

The barriers that both cores come to are numbered 1, 2, ... and pass in that order. An access waits
for a barrier on its tensor, and for every earlier access of its core that it depends on: it reads
what that one wrote, or writes over what that one wrote or read. So orders reach along chains of
dependent instructions from one core's barrier to the next, through other memory too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.sim.hazards.touches import Touches

Column = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Barriers:
    """The barriers that both cores come to, in order. rows: int64[cores, k]; tensors: int64[k]."""

    rows: Column
    tensors: Column

    @property
    def count(self) -> int:
        return len(self.tensors)


@dataclass(frozen=True, slots=True)
class Clocks:
    """after, before: int64[rows], number of the last barrier that a row surely waits for, 0 for
    none, and of the first that surely waits for it, count + 1 for none.
    """

    after: Column
    before: Column

    def ordered(self, rows: Column, others: Column) -> Column:
        """bool[n, m]: whether one of two rows of different cores surely waits for the other."""
        first = self.before[rows][:, None] <= self.after[others][None, :]
        second = self.before[others][None, :] <= self.after[rows][:, None]
        result: Column = first | second
        return result


def clocks_of(touches: Touches, barriers: Barriers) -> Clocks:
    """One pass over each core's accesses in order, one back."""
    launch = touches.launch
    number = int(launch.first_row[-1])
    after = np.zeros(number, dtype=np.int64)
    before = np.full(number, barriers.count + 1, dtype=np.int64)
    order = np.argsort(touches.access, kind="stable")
    row, atom = touches.row[order], touches.atom[order]
    write, tensor = touches.write[order], touches.tensor[order]
    for core in range(len(launch.traces)):
        begin, end = np.searchsorted(row, launch.first_row[core : core + 2])
        columns = [column[begin:end] for column in (row, atom, write, tensor)]
        events = list(zip(barriers.rows[core].tolist(), barriers.tensors.tolist(), strict=True))
        found = _after(_Rows.of(columns), events)
        after[list(found)] = list(found.values())
        found = _before(_Rows.of(columns), events, barriers.count + 1)
        before[list(found)] = list(found.values())
    before[launch.first_row[1:] - 1] = number  # the end of a program comes before nothing
    return Clocks(after, before)


_Row = tuple[int, list[tuple[int, bool, int]]]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows with their touches, (atom, write, tensor) each, in order."""

    rows: Sequence[_Row]

    @staticmethod
    def of(columns: Sequence[Column]) -> _Rows:
        rows: list[_Row] = []
        for row, *touch in zip(*(column.tolist() for column in columns), strict=True):
            if not rows or rows[-1][0] != row:
                rows.append((row, []))
            rows[-1][1].append(tuple(touch))
        return _Rows(rows)


def _after(rows: _Rows, events: Sequence[tuple[int, int]]) -> dict[int, int]:
    wrote: dict[int, int] = {}
    read: dict[int, int] = {}
    passed: dict[int, int] = {}
    found = {}
    number = 0
    for row, touches in rows.rows:
        while number < len(events) and events[number][0] < row:
            passed[events[number][1]] = number + 1
            number += 1
        clock = 0
        for atom, write, tensor in touches:
            clock = max(clock, wrote.get(atom, 0), passed.get(tensor, 0))
            if write:
                clock = max(clock, read.get(atom, 0))
        for atom, write, _ in touches:
            if write:
                wrote[atom], read[atom] = clock, 0
            else:
                read[atom] = max(read.get(atom, 0), clock)
        found[row] = clock
    return found


def _before(rows: _Rows, events: Sequence[tuple[int, int]], never: int) -> dict[int, int]:
    next_write: dict[int, int] = {}
    next_read: dict[int, int] = {}
    coming: dict[int, int] = {}
    found = {}
    number = len(events)
    for row, touches in reversed(rows.rows):
        while number and events[number - 1][0] > row:
            coming[events[number - 1][1]] = number
            number -= 1
        clock = never
        for atom, write, tensor in touches:
            clock = min(clock, next_write.get(atom, never), coming.get(tensor, never))
            if write:
                clock = min(clock, next_read.get(atom, never))
        for atom, write, _ in reversed(touches):
            if write:
                next_write[atom], next_read[atom] = clock, never
            else:
                next_read[atom] = min(next_read.get(atom, never), clock)
        found[row] = clock
    return found
