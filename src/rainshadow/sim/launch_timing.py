"""Times the cores of one launch together: barriers, messages and collectives join their clocks.

What a core receives, and what it does after a barrier, waits for the core that comes last. Every
core is timed alone first; then again with the meetings where the last one puts them, until nothing
moves. Meetings only ever move later, and each round settles at least the first one that was wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.isa.instruction import load_instructions
from rainshadow.machine import Chip
from rainshadow.sim.timeline import Timeline
from rainshadow.sim.timing import Timer, TimingOptions
from rainshadow.sim.trace import Trace

Column = np.ndarray[Any, np.dtype[Any]]


def time_launch(
    traces: Sequence[Trace], chip: Chip, options: TimingOptions | None = None
) -> tuple[Timeline, ...]:
    """When every row of every core runs; all start at 0.

    traces: ranks outermost, each with `options.lnc` cores.
    Errors: `NotModelled` for an instruction without a cost rule on this chip.
    """
    options = options or TimingOptions()
    timers = [Timer(trace, chip, options) for trace in traces]
    timelines = [timer.time() for timer in timers]
    joined = meetings(traces, options.lnc)
    visible = [np.zeros(trace.num_rows, dtype=np.int64) for trace in traces]
    # An order that is not the program's can be quicker after a delay: the bound keeps that finite.
    for _ in range(1 + sum(len(each.rows) for each in joined)):
        moved = {core for each in joined for core in each.settle(timelines, visible)}
        if not moved:
            break
        for core in moved:
            timelines[core] = timers[core].time(visible[core])
    return tuple(timelines)


@dataclass(frozen=True, slots=True)
class Meetings:
    """What some cores come to together. rows: int64[k, cores], the k-th meeting's on each."""

    cores: Sequence[int]
    rows: Column

    def settle(self, timelines: Sequence[Timeline], visible: Sequence[Column]) -> list[int]:
        """Note in `visible` when the last core is there; returns the cores that come earlier."""
        ends = [
            timelines[core].end_ps[rows] for core, rows in zip(self.cores, self.rows.T, strict=True)
        ]
        last = np.max(ends, axis=0)
        early = []
        for core, rows, end in zip(self.cores, self.rows.T, ends, strict=True):
            if (end < last).any():
                visible[core][rows] = last
                early.append(core)
        return early


def meetings(traces: Sequence[Trace], lnc: int) -> list[Meetings]:
    """Barriers and messages of the cores of one rank, and collectives of all ranks.

    traces: ranks outermost, each with `lnc` cores. Cores come to them in one order, which recording
    has made sure of: the n-th on one is the n-th on the others. A collective of some of the ranks
    keeps no core waiting here: a Trace does not say who they are.
    """
    cores = range(len(traces))
    ranks = [cores[first : first + lnc] for first in range(0, len(traces), lnc)]
    waits = [_Waits(trace, core % lnc, len(ranks)) for core, trace in enumerate(traces)]
    groups = [(rank, "within") for rank in ranks] + [(cores, "across")]
    return [
        Meetings(members, rows)
        for members, kind in groups
        if len(members) > 1
        for rows in _matched([getattr(waits[core], kind) for core in members])
    ]


def _matched(by_opcode: Sequence[dict[str, Column]]) -> list[Column]:
    """Per opcode that all cores have: int64[k, cores], as many as all of them come to."""
    found = []
    for opcode in sorted(set.intersection(*(set(rows) for rows in by_opcode))):
        each = [rows[opcode] for rows in by_opcode]
        number = min(len(rows) for rows in each)
        found.append(np.stack([rows[:number] for rows in each], axis=1))
    return found


class _Waits:
    """Rows that wait for other cores, by opcode, in order: within a rank, across all ranks."""

    def __init__(self, trace: Trace, core: int, ranks: int) -> None:
        within: dict[str, list[int]] = defaultdict(list)
        across: dict[str, list[int]] = defaultdict(list)
        for number, signature in enumerate(trace.signatures):
            cls, params = load_instructions().get(signature.opcode), signature.params
            if cls is None or not cls.MEETS:
                continue
            if "group_size" in params:
                if params["group_size"] == ranks:
                    across[signature.opcode].append(number)
            elif "ranks" not in params or params["ranks"][1] != core:  # not a message to itself
                within[signature.opcode].append(number)
        self.within, self.across = (
            {
                opcode: np.flatnonzero(np.isin(trace.signature, numbers))
                for opcode, numbers in kinds.items()
            }
            for kinds in (within, across)
        )
