"""Which meetings of the two cores an access surely comes after, and which surely wait for it.

The cores meet at barriers and where they exchange messages. A barrier waits for what touches its
tensor before, and for earlier barriers; a message for what touches its tiles before, on both cores.
What touches the tensor, or the tiles, later waits for the meeting. An access also waits for every
earlier access of its core that it depends on: it reads what that one wrote, or writes over what
that one wrote or read. So orders reach along chains of dependent instructions from one core's
meeting to the next, through other memory too. A clock is the set of meetings, as bits of an int.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rainshadow.sim.hazards.touches import Touches

Column = np.ndarray[Any, np.dtype[Any]]

#: In `Meetings.tensors`: a message.
MESSAGE = -1


@dataclass(frozen=True, slots=True)
class Meetings:
    """Where both cores come, in order. rows: int64[cores, k]; tensors: int64[k], of a barrier."""

    rows: Column
    tensors: Column

    @property
    def count(self) -> int:
        return len(self.tensors)


@dataclass(frozen=True, slots=True)
class Clocks:
    """Per row the meetings that it surely waits for (after), and those that surely wait for it.

    count: of meetings; rows without an entry have none.
    """

    count: int
    after: Mapping[int, int]
    before: Mapping[int, int]

    def ordered(self, rows: Column, others: Column) -> Column:
        """bool[n, m]: whether one of two rows of different cores surely waits for the other."""
        first = self._meet(self._bits(self.before, rows), self._bits(self.after, others))
        second = self._meet(self._bits(self.after, rows), self._bits(self.before, others))
        result: Column = first | second
        return result

    def _bits(self, clocks: Mapping[int, int], rows: Column) -> Column:
        width = self.count // 8 + 1
        parts = [clocks.get(row, 0).to_bytes(width, "little") for row in rows.tolist()]
        return np.frombuffer(b"".join(parts), dtype=np.uint8).reshape(len(rows), width)

    @staticmethod
    def _meet(some: Column, others: Column) -> Column:
        found = np.zeros((len(some), len(others)), dtype=bool)
        for number, one in enumerate(some):
            found[number] = (others & one).any(axis=1)
        return found


def clocks_of(touches: Touches, meetings: Meetings) -> Clocks:
    """One pass over the accesses of both cores in order, from meeting to meeting; one back."""
    launch = touches.launch
    order = np.argsort(touches.access, kind="stable")
    row, atom = touches.row[order], touches.atom[order]
    write, tensor = touches.write[order], touches.tensor[order]
    cores = []
    before: dict[int, int] = {}
    for core in range(len(launch.traces)):
        begin, end = np.searchsorted(row, launch.first_row[core : core + 2])
        rows = _rows([column[begin:end] for column in (row, atom, write, tensor)])
        cores.append(rows)
        before |= _before(rows, meetings.rows[core].tolist(), meetings.tensors.tolist())
    after = _after(cores, meetings)
    for end in (launch.first_row[1:] - 1).tolist():
        before.pop(end, None)  # the end of a program comes before nothing
    return Clocks(meetings.count, after, before)


#: A row and its touches in order: atom, whether it writes, tensor.
_Row = tuple[int, list[tuple[int, bool, int]]]


def _rows(columns: Sequence[Column]) -> list[_Row]:
    rows: list[_Row] = []
    for row, *touch in zip(*(column.tolist() for column in columns), strict=True):
        if not rows or rows[-1][0] != row:
            rows.append((row, []))
        rows[-1][1].append(tuple(touch))
    return rows


@dataclass(slots=True)
class _Walk:
    """One core's way through its rows. found: the clocks of those passed.

    wrote, read: clocks by atom.  accessed, passed: of accesses to a tensor, of its last barrier.
    """

    rows: Sequence[_Row]
    position: int = 0
    found: dict[int, int] = field(default_factory=dict)
    wrote: dict[int, int] = field(default_factory=dict)
    read: dict[int, int] = field(default_factory=dict)
    accessed: dict[int, int] = field(default_factory=dict)
    passed: dict[int, int] = field(default_factory=dict)

    def go_to(self, row: int) -> None:
        """Pass all rows before `row`."""
        while self.position < len(self.rows) and self.rows[self.position][0] < row:
            self.step(0)

    def next_clock(self) -> int:
        """What the next row waits for."""
        clock = 0
        for atom, write, tensor in self.rows[self.position][1]:
            clock |= self.wrote.get(atom, 0) | self.passed.get(tensor, 0)
            if write:
                clock |= self.read.get(atom, 0)
        return clock

    def step(self, more: int) -> None:
        """Pass the next row. more: what it waits for besides."""
        clock = self.next_clock() | more
        row, touches = self.rows[self.position]
        for atom, write, tensor in touches:
            if write:
                self.wrote[atom], self.read[atom] = clock, 0
            else:
                self.read[atom] = self.read.get(atom, 0) | clock
            self.accessed[tensor] = self.accessed.get(tensor, 0) | clock
        self.found[row] = clock
        self.position += 1


def _after(cores: Sequence[Sequence[_Row]], meetings: Meetings) -> dict[int, int]:
    walks = [_Walk(rows) for rows in cores]
    last_barrier = 0
    for number, tensor in enumerate(meetings.tensors.tolist()):
        clock = 1 << number
        for walk, row in zip(walks, meetings.rows[:, number].tolist(), strict=True):
            walk.go_to(row)
            clock |= walk.next_clock() if tensor == MESSAGE else walk.accessed.get(tensor, 0)
        if tensor == MESSAGE:
            for walk in walks:
                walk.step(clock)
            continue
        last_barrier |= clock
        for walk in walks:
            walk.passed[tensor] = last_barrier
    for walk in walks:
        walk.go_to(1 << 62)
    return {row: clock for walk in walks for row, clock in walk.found.items()}


def _before(rows: Sequence[_Row], at: Sequence[int], tensors: Sequence[int]) -> dict[int, int]:
    """Through accesses of this core only: what the meetings lead to is in `_after`."""
    next_write: dict[int, int] = {}
    next_read: dict[int, int] = {}
    coming: dict[int, int] = {}
    found = {}
    number = len(at)
    for row, touches in reversed(rows):
        clock = 0
        while number and at[number - 1] >= row:
            number -= 1
            if tensors[number] == MESSAGE:
                clock |= 1 << number
            else:
                coming[tensors[number]] = 1 << number
        for atom, write, tensor in touches:
            clock |= next_write.get(atom, 0) | coming.get(tensor, 0)
            if write:
                clock |= next_read.get(atom, 0)
        for atom, write, _ in reversed(touches):
            if write:
                next_write[atom], next_read[atom] = clock, 0
            else:
                next_read[atom] = next_read.get(atom, 0) | clock
        found[row] = clock
    return found
