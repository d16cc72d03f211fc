"""Finds what a chip would do differently from program order: hazards of a recorded launch.

Reads of memory that nothing has written, tensors at overlapping addresses while both are in use,
matmuls that add to what they must not, cores that race for shared memory. A pure function of the
traces, but for reads of unwritten memory: whether these matter, only another run can say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from rainshadow.errors import NotModelled, SourceLine
from rainshadow.findings import Finding, in_order
from rainshadow.machine import Chip
from rainshadow.sim.hazards.dependence import only_those_that_matter
from rainshadow.sim.hazards.describe import describe
from rainshadow.sim.hazards.history import history_of
from rainshadow.sim.hazards.races import find_between_cores
from rainshadow.sim.hazards.rules import (
    PARTLY_UNINITIALIZED,
    UNINITIALIZED_READ,
    find_in_core,
)
from rainshadow.sim.hazards.touches import join, touches_of
from rainshadow.sim.trace import Trace

#: Cores that the rules between cores know.
_MAX_CORES = 2


def find_hazards(
    traces: Sequence[Trace],
    chip: Chip,
    depends_on: Callable[[frozenset[SourceLine]], bool] | None = None,
) -> list[Finding]:
    """All hazards of one launch, in order of file and line.

    traces: of its cores, core 0 first.  depends_on: whether results change with what the tensors
    of these lines hold before they are written (`SimOptions.zeroed`). With it a read of unwritten
    memory is an error where the results do, and nothing where they don't; else it is a warning.
    Errors: `NotModelled` for more than 2 cores.
    """
    if len(traces) > _MAX_CORES:
        raise NotModelled(f"hazards between {len(traces)} cores", allowed=f"{_MAX_CORES} cores")
    launch = join(traces)
    touches = touches_of(launch)
    history = history_of(touches)
    conflicts = find_in_core(touches, history, str(chip.generation))
    conflicts += find_between_cores(touches, history)
    if depends_on is None:
        conflicts = [some for some in conflicts if some.rule != PARTLY_UNINITIALIZED]
    else:
        conflicts = only_those_that_matter(touches, conflicts, depends_on)
    findings = [finding for some in conflicts for finding in describe(launch, some)]
    if depends_on is None:
        findings = [
            replace(finding, severity="warning") if finding.rule == UNINITIALIZED_READ else finding
            for finding in findings
        ]
    return in_order(findings)


__all__ = ["find_hazards"]
