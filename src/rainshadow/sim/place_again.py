"""Gives the tensors of a recorded Trace other addresses: a larger SBUF, or room for all of them.

What the kernel put at an address stays there. Timing then sees the other reuse of memory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rainshadow.errors import SourceLine
from rainshadow.isa.memory import Space
from rainshadow.machine import Chip
from rainshadow.sim.memory import Memories
from rainshadow.sim.placement import Accesses, Request, place
from rainshadow.sim.trace import GIVEN, NO_USE, SPACES, Trace

Column = np.ndarray[Any, np.dtype[Any]]

_SPACE, _, _, _ADDRESS, _SIZE, _FLAGS = range(6)
_FIRST, _END = 3, 4
_ON_CHIP = {SPACES.index("sbuf"): Space.sbuf, SPACES.index("psum"): Space.psum}


def place_again(trace: Trace, chip: Chip) -> Trace:
    """The trace with the addresses that its tensors get on `chip`.

    Errors: `CapacityError` where they do not fit.
    """
    assert chip.core is not None, "a Trace is timed on a chip with NeuronCores"
    memories = Memories.of(chip, chip.core)
    numbers = np.flatnonzero(np.isin(trace.tensors[:, _SPACE], list(_ON_CHIP)))
    owner_of = np.full(len(trace.tensors) + 1, -1, dtype=np.int64)
    owner_of[numbers] = np.arange(len(numbers))
    requests = [_request(trace, number) for number in numbers.tolist()]
    tensor = np.where(trace.use != NO_USE, trace.uses[trace.use, 0], -1)
    # One range per access: `place` asks for whose it is.
    accesses = Accesses(
        np.arange(len(trace.access)) * 2 + (trace.access & 1), trace.access_end, owner_of[tensor]
    )
    addresses = trace.tensors[:, _ADDRESS].copy()
    addresses[numbers] = place(requests, accesses, memories)
    return replace(_moved(trace, addresses, tensor), peak_bytes=_peaks(trace, memories))


def place_apart(trace: Trace) -> Trace:
    """The trace with every tensor that Rainshadow placed in memory of its own, as if there were
    enough: nobody waits for another one's memory.
    """
    addresses = trace.tensors[:, _ADDRESS].copy()
    moving = _is_placed(trace)
    for space in _ON_CHIP:
        mine = trace.tensors[:, _SPACE] == space
        beyond = int((trace.tensors[mine, _ADDRESS] + trace.tensors[mine, _SIZE]).max(initial=0))
        some = mine & moving
        ends = beyond + np.cumsum(trace.tensors[some, _SIZE])
        addresses[some] = ends - trace.tensors[some, _SIZE]
    tensor = np.where(trace.use != NO_USE, trace.uses[trace.use, 0], -1)
    return _moved(trace, addresses, tensor)


def _is_placed(trace: Trace) -> Column:
    """bool[t]: tensors on chip whose addresses the kernel does not give."""
    on_chip = np.isin(trace.tensors[:, _SPACE], list(_ON_CHIP))
    placed: Column = on_chip & ((trace.tensors[:, _FLAGS] & GIVEN) == 0)
    return placed


def _request(trace: Trace, number: int) -> Request:
    tensor = trace.tensor(number)
    return Request(
        space=_ON_CHIP[SPACES.index(tensor.space)],
        size_bytes=tensor.size_bytes,
        label=tensor.name,
        where=tensor.line or SourceLine("", 0),
        at=tensor.address if tensor.flags & GIVEN else None,
    )


def _moved(trace: Trace, addresses: Column, tensor: Column) -> Trace:
    """With other addresses. tensor: int64[m], of each access, -1 for none."""
    shift = np.append(np.where(_is_placed(trace), addresses - trace.tensors[:, _ADDRESS], 0), 0)
    pairs = np.stack([trace.access >> 1, shift[tensor]], axis=1)
    unique, number = np.unique(pairs, axis=0, return_inverse=True)
    ranges = trace.ranges[unique[:, 0]].copy()
    ranges[:, [_FIRST, _END]] += unique[:, 1:2]
    ranges, merged = np.unique(ranges, axis=0, return_inverse=True)
    access = merged.reshape(-1)[number.reshape(-1)] * 2 + (trace.access & 1)
    tensors = trace.tensors.copy()
    tensors[:, _ADDRESS] = addresses
    return replace(trace, access=access.astype(trace.access.dtype), ranges=ranges, tensors=tensors)


def _peaks(trace: Trace, memories: Memories) -> dict[str, int]:
    return {**memories.peaks(), "hbm": trace.peak_bytes.get("hbm", 0)}
