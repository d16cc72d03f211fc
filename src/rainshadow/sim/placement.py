"""Places on-chip tensors by liveness: each holds its addresses from first to last access.

Runs once a kernel has been recorded, so that a loop's tile is dead when its last instruction has
run, whatever Python still refers to. Tiles whose addresses the kernel gives stay there, and the
others go round them.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from rainshadow.errors import CapacityError, SourceLine
from rainshadow.isa.memory import Space
from rainshadow.sim.memory import Arena, Memories, Stretch, merged

Column = np.ndarray[Any, np.dtype[Any]]

#: A tile of at least 1 / _LARGE_SHARE of SBUF is large: few of them lie there at one time.
_LARGE_SHARE = 16
#: An error lists the live tiles of so many lines.
_LISTED_LINES = 12
#: A life of at least 1 / _LONG_SHARE of all rows is long.
_LONG_SHARE = 64


class Request(NamedTuple):
    """A tensor that wants `size_bytes` per partition of `space`; where: the line that made it.

    at: the first byte that the kernel gives it, None for a tensor that is placed here.
    """

    space: Space
    size_bytes: int
    label: str
    where: SourceLine
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Accesses:
    """What each row touches, as a Trace holds it, before addresses are known.

    access, access_end: as in `Trace`.  owner: per range, the request it lies in, -1 for HBM.
    """

    access: Column
    access_end: Column
    owner: Column


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Per request: the first and last row that touch it, the first that reads it.

    n rows: first and first_read are n, last is -1, where there is none.
    """

    first: Column
    last: Column
    first_read: Column

    @staticmethod
    def of(accesses: Accesses, num_requests: int) -> Lifetimes:
        rows = len(accesses.access_end)
        row = np.repeat(np.arange(rows), np.diff(accesses.access_end, prepend=0))
        owner = accesses.owner[accesses.access >> 1]
        inside = owner >= 0
        reads = inside & ((accesses.access & 1) == 0)
        first = np.full(num_requests, rows, dtype=np.int64)
        last = np.full(num_requests, -1, dtype=np.int64)
        first_read = first.copy()
        np.minimum.at(first, owner[inside], row[inside])
        np.maximum.at(last, owner[inside], row[inside])
        np.minimum.at(first_read, owner[reads], row[reads])
        return Lifetimes(first, last, first_read)


def place(
    requests: Sequence[Request],
    accesses: Accesses,
    memories: Memories,
    planned: Mapping[int, int] = MappingProxyType({}),
) -> Column:
    """First byte of every request within its space; 0 for one that no row touches.

    planned: requests that have theirs, none of them in another's way.

    Next fit in order of first use, away from all addresses that the kernel gives. Where that
    leaves no stretch long enough, away from those only while they are in use; then with the large
    tiles placed before the others, which go round them; at last with tiles at the lowest address,
    those with long lives or all, where they wait for each other, but leave long stretches free.
    Errors: `CapacityError` with the live tensors at the first row that does not fit.
    """
    lifetimes = Lifetimes.of(accesses, len(requests))
    lives, given = _Lives.of(requests, lifetimes), _Given.by_space(requests, lifetimes)
    job = _Job(requests, lives, given, planned)
    for space, some in given.items():
        memories.arena(space).claimed_bytes = some.size_bytes
    errors: list[CapacityError] = []
    for way in (job.apart, job.by_use, job.large_first, job.long_low, job.low):
        try:
            return way(memories)
        except CapacityError as error:
            errors.append(error)
            memories.sbuf.clear()
            memories.psum.clear()
    raise errors[0]


@dataclass(frozen=True, slots=True)
class _Lives:
    """First and last row of each request, and those to place in the order of birth and death."""

    first: array[int]
    last: array[int]
    births: array[int]
    deaths: array[int]

    @staticmethod
    def of(requests: Sequence[Request], lifetimes: Lifetimes) -> _Lives:
        first, last = lifetimes.first, lifetimes.last
        free = np.array([request.at is None for request in requests], dtype=bool)
        used = np.flatnonzero((last >= 0) & free)
        births = used[np.argsort(first[used], kind="stable")]
        deaths = used[np.argsort(last[used], kind="stable")]
        return _Lives(*(array("q", column.tobytes()) for column in (first, last, births, deaths)))


@dataclass(frozen=True, slots=True)
class _Given:
    """The stretches of one space whose addresses the kernel gives.

    always: all of them, joined and in order.  uses: stretch -> (first row, end row) of its tiles,
    joined and in order.
    """

    always: list[Stretch]
    uses: dict[Stretch, list[Stretch]]

    @staticmethod
    def by_space(requests: Sequence[Request], lifetimes: Lifetimes) -> dict[Space, _Given]:
        uses: dict[Space, dict[Stretch, list[Stretch]]] = {Space.sbuf: {}, Space.psum: {}}
        for number, request in enumerate(requests):
            first, last = int(lifetimes.first[number]), int(lifetimes.last[number])
            if request.at is None or last < 0:
                continue
            if lifetimes.first_read[number] == first:
                first = 0  # what it reads before writing, a tile at its address has left there
            stretch = request.at, request.at + request.size_bytes
            uses[request.space].setdefault(stretch, []).append((first, last + 1))
        return {
            space: _Given(merged(some), {stretch: merged(rows) for stretch, rows in some.items()})
            for space, some in uses.items()
        }

    @property
    def size_bytes(self) -> int:
        return sum(end - first for first, end in self.always)

    def during(self, first: int, last: int) -> list[Stretch]:
        """The stretches in use at some row from `first` to `last`."""
        return merged(stretch for stretch, rows in self.uses.items() if _meets(rows, first, last))


def _meets(rows: list[Stretch], first: int, last: int) -> bool:
    """Whether one of the stretches of rows, in order and disjoint, meets [first, last]."""
    index = bisect.bisect_right(rows, (last, last + 1)) - 1
    return index >= 0 and rows[index][1] > first


@dataclass(frozen=True, slots=True)
class _Job:
    """What there is to place, and ways to do it.

    Each returns the first byte of every request. Errors: `CapacityError`, the memories half full.
    """

    requests: Sequence[Request]
    lives: _Lives
    given: dict[Space, _Given]
    planned: Mapping[int, int]

    def apart(self, memories: Memories) -> Column:
        """Away from all given addresses, whenever they are used."""
        return self._walk(memories, {}, lambda number: self._given(number).always)

    def by_use(self, memories: Memories) -> Column:
        """Away from given addresses that are used in the tile's lifetime."""
        return self._walk(memories, {}, self._used_by_others)

    def large_first(self, memories: Memories) -> Column:
        """The same, round the large tiles of SBUF."""
        return self._walk(memories, self._large(memories.sbuf), self._used_by_others)

    def long_low(self, memories: Memories) -> Column:
        """As `by_use`, those with long lives at the lowest address."""
        rows = max(self.lives.last, default=0) // _LONG_SHARE
        return self._walk(memories, {}, self._used_by_others, low_from=rows)

    def low(self, memories: Memories) -> Column:
        """As `by_use`, all at the lowest address."""
        return self._walk(memories, {}, self._used_by_others, low_from=0)

    def _given(self, number: int) -> _Given:
        return self.given[self.requests[number].space]

    def _used_by_others(self, number: int) -> list[Stretch]:
        return self._given(number).during(self.lives.first[number], self.lives.last[number])

    def _walk(
        self,
        memories: Memories,
        large: dict[int, int],
        given_of: Callable[[int], list[Stretch]],
        *,
        low_from: int | None = None,
    ) -> Column:
        """In order of first use; large: addresses of some SBUF requests, by number.

        low_from: rows that a tile lives, from which on it is placed at the lowest address.
        """
        requests = self.requests
        address = [request.at or 0 for request in requests]
        first, last, deaths = self.lives.first, self.lives.last, self.lives.deaths
        arenas = {space: memories.arena(space) for space in (Space.sbuf, Space.psum)}
        fixed = {**large, **self.planned}
        coming = {space: _Coming.of(self, fixed, space) for space in arenas}
        dying = 0
        for number in self.lives.births:
            while last[deaths[dying]] < first[number]:
                dead = deaths[dying]
                arenas[requests[dead].space].release(address[dead])
                dying += 1
            request = requests[number]
            arena = arenas[request.space]
            if number in fixed:
                arena.reserve(fixed[number], request.size_bytes, request.label)
                address[number] = fixed[number]
                continue
            avoid = given_of(number)
            others = coming[request.space].between(first[number], last[number], arena)
            if others:
                avoid = merged([*avoid, *others])
            low = low_from is not None and last[number] - first[number] >= low_from
            allocate = arena.allocate_low if low else arena.allocate
            try:
                address[number] = allocate(request.size_bytes, request.label, avoid)
            except CapacityError as error:
                error.where = request.where
                error.what += self._live_by_line(number)
                raise
        return np.array(address, dtype=np.int64)

    def _live_by_line(self, number: int) -> str:
        """The tiles in use when a request is born, by the line that makes them, largest first."""
        space, row = self.requests[number].space, self.lives.first[number]
        sizes: dict[SourceLine, list[int]] = {}
        for other, request in enumerate(self.requests):
            alive = self.lives.first[other] <= row <= self.lives.last[other]
            if alive and other != number and request.space is space:
                sizes.setdefault(request.where, []).append(request.size_bytes)
        lines = sorted(sizes.items(), key=lambda item: -sum(item[1]))
        texts = [
            f"{sum(some)} B in {len(some)} tile{'s' * (len(some) > 1)} made at {where}"
            for where, some in lines[:_LISTED_LINES]
        ]
        if len(lines) > _LISTED_LINES:
            rest = sum(sum(some) for _, some in lines[_LISTED_LINES:])
            texts.append(f"{rest} B made at {len(lines) - _LISTED_LINES} other lines")
        return "".join(f"\n    {text}" for text in texts)

    def _large(self, sbuf: Arena) -> dict[int, int]:
        """Addresses of the large SBUF tiles: largest first, each at the highest end that is free.

        The greedy-by-size order of static memory planners; tiles that do not fit are left out.
        """
        least = sbuf.capacity_bytes // _LARGE_SHARE
        large = [
            number
            for number in self.lives.births
            if self.requests[number].space is Space.sbuf
            and self.requests[number].size_bytes >= least
        ]
        placed: dict[int, int] = {}
        for number in sorted(large, key=lambda n: -self.requests[n].size_bytes):
            size = sbuf.rounded(self.requests[number].size_bytes)
            beside = (
                (at, at + sbuf.rounded(self.requests[other].size_bytes))
                for other, at in placed.items()
                if self._meet(number, other)
            )
            end = sbuf.capacity_bytes
            for start, after in reversed(merged([*self._used_by_others(number), *beside])):
                if end - after >= size:
                    break
                end = min(end, start)
            at = (end - size) // sbuf.granule_bytes * sbuf.granule_bytes
            if at >= 0:
                placed[number] = at
        return placed

    def _meet(self, one: int, other: int) -> bool:
        first, last = self.lives.first, self.lives.last
        return first[other] <= last[one] and last[other] >= first[one]


@dataclass(frozen=True, slots=True)
class _Coming:
    """The requests of one space with fixed addresses, in the order in which they are born."""

    numbers: list[int]
    births: list[int]
    fixed: dict[int, int]
    requests: Sequence[Request]

    @staticmethod
    def of(job: _Job, fixed: dict[int, int], space: Space) -> _Coming:
        numbers = [
            number
            for number in job.lives.births
            if number in fixed and job.requests[number].space is space
        ]
        births = [job.lives.first[number] for number in numbers]
        return _Coming(numbers, births, fixed, job.requests)

    def between(self, first: int, last: int, arena: Arena) -> list[Stretch]:
        """Stretches of those born from row `first` to `last`."""
        begin = bisect.bisect_left(self.births, first)
        end = bisect.bisect_right(self.births, last)
        return [
            (self.fixed[n], self.fixed[n] + arena.rounded(self.requests[n].size_bytes))
            for n in self.numbers[begin:end]
        ]
