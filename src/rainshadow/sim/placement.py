"""Places on-chip tensors by liveness: each holds its addresses from first to last access.

Runs once a kernel has been recorded, so that a loop's tile is dead when its last instruction has
run, whatever Python still refers to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.errors import CapacityError, SourceLine
from rainshadow.isa.memory import Space
from rainshadow.sim.memory import Arena, Memories

Column = np.ndarray[Any, np.dtype[Any]]


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

    Errors: `CapacityError` with the live tensors at the first row that does not fit.
    """
    first, last = lifetimes(accesses, len(requests))
    address = np.zeros(len(requests), dtype=np.int64)
    used = np.flatnonzero(last >= 0)
    births = used[np.argsort(first[used], kind="stable")].tolist()
    deaths = used[np.argsort(last[used], kind="stable")].tolist()
    first_row, last_row = first.tolist(), last.tolist()
    dying = 0
    for number in births:
        while last_row[deaths[dying]] < first_row[number]:
            dead = deaths[dying]
            _arena(memories, requests[dead]).release(int(address[dead]))
            dying += 1
        request = requests[number]
        try:
            address[number] = _arena(memories, request).allocate(request.size_bytes, request.label)
        except CapacityError as error:
            error.where = request.where
            raise
    return address


def _arena(memories: Memories, request: Request) -> Arena:
    return memories.sbuf if request.space is Space.sbuf else memories.psum
