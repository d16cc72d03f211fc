"""Knows which tensor holds which bytes of SBUF and PSUM from when to when, in one timeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.sim.timeline import Timeline
from rainshadow.sim.trace import NO_USE, SPACES

Column = np.ndarray[Any, np.dtype[Any]]

_SPACE, _PARTITION, _PARTITIONS, _ADDRESS, _SIZE = range(5)


@dataclass(frozen=True, slots=True)
class Occupancy:
    """The tensors of one memory that some row touches.

    tensor: int64[k], numbers as in `Trace.tensors`.  start_ps, end_ps: int64[k], from the first
    start to the last end of a row that touches it.  address, size_bytes: int64[k], per partition.
    partition, partitions: int64[k], the first and how many.
    """

    tensor: Column
    start_ps: Column
    end_ps: Column
    address: Column
    size_bytes: Column
    partition: Column
    partitions: Column

    @staticmethod
    def of(timeline: Timeline, space: str) -> Occupancy:
        """space: "sbuf" or "psum". Nothing for a Trace without tensors."""
        trace = timeline.trace
        count = len(trace.tensors)
        start = np.full(count, np.iinfo(np.int64).max)
        end = np.full(count, -1)
        some = np.flatnonzero(trace.use != NO_USE) if count else np.zeros(0, dtype=np.int64)
        if len(some):
            row, tensor = trace.access_row[some], trace.uses[trace.use[some], 0]
            np.minimum.at(start, tensor, timeline.start_ps[row])
            np.maximum.at(end, tensor, timeline.end_ps[row])
        used = np.flatnonzero((trace.tensors[:, _SPACE] == SPACES.index(space)) & (end >= 0))
        table = trace.tensors[used]
        return Occupancy(
            tensor=used,
            start_ps=start[used],
            end_ps=end[used],
            address=table[:, _ADDRESS],
            size_bytes=table[:, _SIZE],
            partition=table[:, _PARTITION],
            partitions=table[:, _PARTITIONS],
        )
