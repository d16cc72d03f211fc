"""Finds the fastest layouts of a job, exactly: no layout of the space is faster than the answer.

Families are visited in the order of their lower bounds. Once the next bound is no better than the
last of the answers wanted, every family left is ruled out by its own bound: that is the proof, and
the answer carries it as counts. Within a family every member is evaluated, as one table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rainshadow.cluster.feasibility import fits
from rainshadow.cluster.layout import Layout
from rainshadow.cluster.memory import memory_use
from rainshadow.cluster.planner.bound import lower_bounds
from rainshadow.cluster.planner.space import Family, Space
from rainshadow.cluster.predict import TrainingMachine, machine_of, step_times
from rainshadow.cluster.software import Software

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True)
class Found:
    """A layout and its step time."""

    step_s: float
    layout: Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was looked at, in members of the space.

    evaluated: one by one.  ruled_out: families whose lower bound is no better than the last
    answer.  without_memory: families none of whose members fits.  next_bound_s: the best of the
    bounds not visited.  complete: false if the search was interrupted.
    """

    members: int
    evaluated: int
    ruled_out: int
    without_memory: int
    families: int
    next_bound_s: float
    complete: bool


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The fastest layouts, best first, no two of a kind (`Family.kind`); and the proof."""

    found: tuple[Found, ...]
    proof: Proof

    @property
    def best(self) -> Found | None:
        return self.found[0] if self.found else None


def fastest_member(space: Space, machine: TrainingMachine, family: Family) -> tuple[float, int]:
    """(seconds, flat index) of a family's fastest member that fits; infinite if none does."""
    table = space.table(family)
    times, memory = step_times(space.model, machine, table, space.workload)
    good = space.allowed(table) & fits(memory, space.system)
    if not good.any():
        return np.inf, 0
    shape = tuple(len(values) for values in space.axes(family).values())
    total = np.where(good, times.total, np.inf)
    index = int(np.broadcast_to(total, shape).argmin())
    return float(np.broadcast_to(total, shape).flat[index]), index


def search(
    space: Space,
    *,
    software: Software | None = None,
    top: int = 5,
    prune: bool = True,
    progress: Progress | None = None,
) -> SearchResult:
    """The fastest layout of each of the `top` fastest kinds.

    prune false: every family is evaluated, for tests. progress: told families done, families in
    all and the best seconds so far. Ctrl-C ends the search with what was found.

    Errors: as `machine_of`.
    """
    machine = machine_of(space.system, software)
    families = space.families
    bounds = lower_bounds(space, machine, families) if prune else np.zeros(len(families))
    order = np.argsort(bounds, kind="stable")
    found: dict[tuple[int, int, int], Found] = {}
    done, complete = 0, True
    try:
        for done, number in enumerate(order):
            limit = sorted(entry.step_s for entry in found.values())[top - 1 : top]
            if prune and limit and bounds[number] >= limit[0]:
                break
            family = families[number]
            seconds, index = fastest_member(space, machine, family)
            if seconds < (found[family.kind].step_s if family.kind in found else np.inf):
                found[family.kind] = Found(seconds, space.member(family, index))
            if progress is not None:
                best = min((entry.step_s for entry in found.values()), default=np.inf)
                progress(done + 1, len(families), best)
        else:
            done = len(families)
    except KeyboardInterrupt:
        complete = False
    rest = order[done:]
    return SearchResult(
        tuple(sorted(found.values(), key=lambda entry: entry.step_s)[:top]),
        _proof(space, families, order[:done], rest, bounds, complete),
    )


def _proof(
    space: Space,
    families: tuple[Family, ...],
    visited: np.ndarray,
    rest: np.ndarray,
    bounds: np.ndarray,
    complete: bool,
) -> Proof:
    sizes = np.array([space.size(family) for family in families], dtype=np.int64)
    lost = rest[~np.isfinite(bounds[rest])]
    return Proof(
        members=int(sizes.sum()),
        evaluated=int(sizes[visited].sum()),
        ruled_out=int(sizes[rest].sum() - sizes[lost].sum()),
        without_memory=int(sizes[lost].sum()),
        families=len(families),
        next_bound_s=float(bounds[rest].min()) if len(rest) else float("inf"),
        complete=complete,
    )


def least_memory(space: Space, software: Software | None = None) -> tuple[float, Layout] | None:
    """(bytes, layout) of the member that needs least memory: why nothing fits. None if empty."""
    machine = machine_of(space.system, software)
    best: tuple[float, Layout] | None = None
    for family in space.families:
        table = space.table(family)
        used = memory_use(space.model, table, space.workload, machine.software).total
        shape = tuple(len(values) for values in space.axes(family).values())
        needed = np.where(space.allowed(table), used, np.inf)
        index = int(np.broadcast_to(needed, shape).argmin())
        value = float(np.broadcast_to(needed, shape).flat[index])
        if np.isfinite(value) and (best is None or value < best[0]):
            best = value, space.member(family, index)
    return best
