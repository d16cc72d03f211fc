"""Finds what a chip would do differently from program order: hazards of a recorded launch.

Reads of memory that nothing has written, tensors at overlapping addresses while both are in use,
matmuls that add to what they must not, cores that race for shared memory. A pure function of the
traces; the kernel is not executed again.
"""

from __future__ import annotations

from collections.abc import Sequence

from rainshadow.errors import NotModelled
from rainshadow.findings import Finding, in_order
from rainshadow.machine import Chip
from rainshadow.sim.hazards.describe import describe
from rainshadow.sim.hazards.history import history_of
from rainshadow.sim.hazards.races import find_between_cores
from rainshadow.sim.hazards.rules import find_in_core
from rainshadow.sim.hazards.touches import join, touches_of
from rainshadow.sim.trace import Trace

#: Cores that the rules between cores know.
_MAX_CORES = 2


def find_hazards(traces: Sequence[Trace], chip: Chip) -> list[Finding]:
    """All hazards of one launch, in order of file and line.

    traces: of its cores, core 0 first.
    Errors: `NotModelled` for more than 2 cores.
    """
    if len(traces) > _MAX_CORES:
        raise NotModelled(f"hazards between {len(traces)} cores", allowed=f"{_MAX_CORES} cores")
    launch = join(traces)
    touches = touches_of(launch)
    history = history_of(touches)
    conflicts = find_in_core(touches, history, str(chip.generation))
    conflicts += find_between_cores(touches, history)
    return in_order(finding for some in conflicts for finding in describe(launch, some))


__all__ = ["find_hazards"]
