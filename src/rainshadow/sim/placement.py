"""Places on-chip tensors by liveness: each holds its addresses from first to last access.

Runs once a kernel has been recorded, so that a loop's tile is dead when its last instruction has
run, whatever Python still refers to.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.errors import CapacityError, SourceLine
from rainshadow.isa.memory import Space
from rainshadow.sim.memory import Arena, Memories, merged

Column = np.ndarray[Any, np.dtype[Any]]

#: A tile of at least 1 / _LARGE_SHARE of SBUF is large: few of them lie there at one time.
_LARGE_SHARE = 16


@dataclass(frozen=True, slots=True)
class Request:
    """A tensor that wants `size_bytes` per partition of `space`; where: the line that made it."""

    space: Space
    size_bytes: int
    label: str
    where: SourceLine


@dataclass(frozen=True, slots=True)
class Accesses:
    """What each row touches, as a Trace holds it, before addresses are known.

    access, access_end: as in `Trace`.  owner: per range, the request it lies in, -1 for HBM.
    """

    access: Column
    access_end: Column
    owner: Column


def lifetimes(accesses: Accesses, num_requests: int) -> tuple[Column, Column]:
    """First and last row that touches each request; (n, -1) for one that no row touches."""
    rows = len(accesses.access_end)
    counts = np.diff(accesses.access_end, prepend=0)
    row = np.repeat(np.arange(rows), counts)
    owner = accesses.owner[accesses.access >> 1]
    inside = owner >= 0
    first = np.full(num_requests, rows, dtype=np.int64)
    last = np.full(num_requests, -1, dtype=np.int64)
    np.minimum.at(first, owner[inside], row[inside])
    np.maximum.at(last, owner[inside], row[inside])
    return first, last


def place(requests: Sequence[Request], accesses: Accesses, memories: Memories) -> Column:
    """First byte of every request within its space; 0 for one that no row touches.

    Next fit in order of first use. Where that leaves no stretch long enough, once more with the
    large tiles placed before the others, which go round them.
    Errors: `CapacityError` with the live tensors at the first row that does not fit.
    """
    lives = _Lives.of(accesses, len(requests))
    try:
        return _walk(requests, lives, memories, {})
    except CapacityError as error:
        memories.sbuf.clear()
        memories.psum.clear()
        try:
            return _walk(requests, lives, memories, _large_first(requests, lives, memories.sbuf))
        except CapacityError:
            raise error from None


@dataclass(frozen=True, slots=True)
class _Lives:
    """First and last row of each request, and the requests in the order in which they die."""

    first: list[int]
    last: list[int]
    births: list[int]
    deaths: list[int]

    @staticmethod
    def of(accesses: Accesses, num_requests: int) -> _Lives:
        first, last = lifetimes(accesses, num_requests)
        used = np.flatnonzero(last >= 0)
        births = used[np.argsort(first[used], kind="stable")]
        deaths = used[np.argsort(last[used], kind="stable")]
        return _Lives(first.tolist(), last.tolist(), births.tolist(), deaths.tolist())


def _walk(
    requests: Sequence[Request], lives: _Lives, memories: Memories, fixed: dict[int, int]
) -> Column:
    """Addresses in order of first use; fixed: addresses of some SBUF requests, by number."""
    address = np.zeros(len(requests), dtype=np.int64)
    to_come = [number for number in lives.births if number in fixed]
    births_to_come = [lives.first[number] for number in to_come]
    dying = 0
    for number in lives.births:
        while lives.last[lives.deaths[dying]] < lives.first[number]:
            dead = lives.deaths[dying]
            _arena(memories, requests[dead]).release(int(address[dead]))
            dying += 1
        request = requests[number]
        arena = _arena(memories, request)
        if number in fixed:
            arena.reserve(fixed[number], request.size_bytes, request.label)
            address[number] = fixed[number]
            continue
        avoid: list[tuple[int, int]] = []
        if fixed and request.space is Space.sbuf:
            begin = bisect.bisect_left(births_to_come, lives.first[number])
            end = bisect.bisect_right(births_to_come, lives.last[number])
            avoid = merged(
                (fixed[other], fixed[other] + arena.rounded(requests[other].size_bytes))
                for other in to_come[begin:end]
            )
        try:
            address[number] = arena.allocate(request.size_bytes, request.label, avoid)
        except CapacityError as error:
            error.where = request.where
            raise
    return address


def _large_first(requests: Sequence[Request], lives: _Lives, sbuf: Arena) -> dict[int, int]:
    """Addresses of the large SBUF tiles: largest first, each at the highest end that is free.

    The greedy-by-size order of static memory planners; tiles that do not fit are left out.
    """
    least = sbuf.capacity_bytes // _LARGE_SHARE
    large = [
        number
        for number in lives.births
        if requests[number].space is Space.sbuf and requests[number].size_bytes >= least
    ]
    placed: dict[int, int] = {}
    for number in sorted(large, key=lambda n: -requests[n].size_bytes):
        size = sbuf.rounded(requests[number].size_bytes)
        taken = merged(
            (at, at + sbuf.rounded(requests[other].size_bytes))
            for other, at in placed.items()
            if lives.first[other] <= lives.last[number] and lives.last[other] >= lives.first[number]
        )
        end = sbuf.capacity_bytes
        for start, after in reversed(taken):
            if end - after >= size:
                break
            end = start
        if end >= size:
            placed[number] = end - size
    return placed


def _arena(memories: Memories, request: Request) -> Arena:
    return memories.sbuf if request.space is Space.sbuf else memories.psum
