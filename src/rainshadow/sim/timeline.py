"""Knows when each instruction of a Trace ran on one chip, and what it waited for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rainshadow.sim.trace import Trace

Column = np.ndarray[Any, np.dtype[Any]]

#: Why an instruction did not start when its engine's previous one was done; index = `cause`.
CAUSES = (
    "none",
    "data from tensor",
    "data from scalar",
    "data from gpsimd",
    "data from dma",
    "data from vector",
    "data from sync",
    "the other core",
    "buffer still in use",
    "dma engines busy",
    "dma being issued",
    "memory port in use",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """One Trace on one chip.

    start_ps, end_ps: int64[n] picoseconds from the kernel's first instruction; end is when the
    result can be read.  busy_ps: int64[n], how long the row kept its engine.
    wait_ps: int64[n], time between the engine being free and the start, and at a barrier or a
    message until the other core has come; cause: uint8[n], index into `causes`.  track: uint8[n],
    index into `tracks`.
    launch_ps: fixed cost of starting and ending a kernel, not part of duration_ps.
    """

    trace: Trace
    chip_name: str
    start_ps: Column
    end_ps: Column
    busy_ps: Column
    wait_ps: Column
    cause: Column
    track: Column
    tracks: Sequence[str]
    causes: Sequence[str] = CAUSES
    launch_ps: int = 0
    left_out: Sequence[str] = field(default_factory=tuple)

    @property
    def duration_ps(self) -> int:
        """From the first start to the last result."""
        if not len(self.end_ps):
            return 0
        return int(self.end_ps.max()) - int(self.start_ps.min())

    @property
    def added_ps(self) -> Column:
        """int64[n]: what each row adds to the end of everything before it; sums to the duration."""
        if not len(self.end_ps):
            return np.zeros(0, dtype=np.int64)
        return np.diff(np.maximum.accumulate(self.end_ps), prepend=self.start_ps.min())

    @property
    def engine_busy_ps(self) -> dict[str, int]:
        """Time each track was occupied."""
        totals = np.bincount(self.track, weights=self.busy_ps, minlength=len(self.tracks))
        return {name: int(total) for name, total in zip(self.tracks, totals, strict=True)}

    @property
    def wait_by_cause_ps(self) -> dict[str, int]:
        """Sum of the waits of all rows by cause."""
        totals = np.bincount(self.cause, weights=self.wait_ps, minlength=len(self.causes))
        return {name: int(total) for name, total in zip(self.causes, totals, strict=True)}
