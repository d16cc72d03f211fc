"""Hazards between the cores of a launch: accesses of shared HBM that no barrier orders.

A core_barrier orders the accesses of its `data` tensor on one side of it with those on the other
side of the same barrier of the other core, and what depends on either; nothing else does. Source:
AWS Neuron docs 2.32, nki.isa.core_barrier.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rainshadow.sim.hazards.clocks import Barriers, Clocks, clocks_of
from rainshadow.sim.hazards.history import History
from rainshadow.sim.hazards.lines import Lines
from rainshadow.sim.hazards.rules import (
    PARTLY_UNINITIALIZED,
    UNINITIALIZED_READ,
    Conflicts,
    conflicts_of,
)
from rainshadow.sim.hazards.touches import Launch, Touches, is_barrier

Column = np.ndarray[Any, np.dtype[Any]]


def find_between_cores(touches: Touches, history: History) -> list[Conflicts]:
    """Races, and reads of shared memory that no core has written before."""
    shared = touches.launch.shared[touches.tensor]
    if not shared.any():
        return []
    some = Touches(touches.launch, touches.atom[shared], touches.access[shared], touches.size_bytes)
    barriers = _common_barriers(touches.launch)
    epoch = _epochs(touches.launch, barriers)[some.access]
    core = touches.launch.core_of(some.row)
    at_end = touches.launch.is_end[some.access]
    return [
        _races(some, epoch, core, at_end, lambda: clocks_of(touches, barriers)),
        *_uninitialized(some, epoch, core, at_end, history, shared),
    ]


def _common_barriers(launch: Launch) -> Barriers:
    """The barriers on which both cores agree."""
    barriers = [
        _barriers(launch, core, int(launch.first_row[core])) for core in range(len(launch.traces))
    ]
    number = min(len(rows) for rows, _ in barriers)
    rows = np.stack([rows[:number] for rows, _ in barriers])
    names = np.stack([tensors[:number] for _, tensors in barriers])
    common = (names == names[0]).all(axis=0)
    return Barriers(rows[:, common], names[0][common])


def _epochs(launch: Launch, barriers: Barriers) -> Column:
    """int64[m]: how many barriers on its tensor lie before an access."""
    epoch = np.zeros(len(launch.row), dtype=np.int64)
    core = launch.core_of(launch.row)
    for tensor in np.unique(barriers.tensors).tolist():
        mine = barriers.tensors == tensor
        for each, rows in enumerate(barriers.rows):
            some = np.flatnonzero((launch.tensor == tensor) & (core == each))
            epoch[some] = np.searchsorted(rows[mine], launch.row[some])
    epoch[launch.is_end] = barriers.count + 1
    return epoch


def _barriers(launch: Launch, core: int, first_row: int) -> tuple[Column, Column]:
    """Rows and tensors of a core's barriers."""
    trace = launch.traces[core]
    is_one = np.array([is_barrier(s) for s in trace.signatures] or [False], dtype=bool)
    rows = np.flatnonzero(is_one[trace.signature])
    first_access = np.append(0, trace.access_end)[rows]
    index = trace.uses[trace.use[first_access], 0]
    return rows + first_row, launch.numbers[core][index]


def _races(
    touches: Touches,
    epoch: Column,
    core: Column,
    at_end: Column,
    clocks: Callable[[], Clocks],
) -> Conflicts:
    """An access and an exact one of the other core, unordered, one of them a write.

    clocks: asked for only where two are in the same epoch.
    """
    write, exact = touches.write, touches.launch.exact[touches.access] & ~at_end
    group, number = _groups(touches.atom, epoch)
    first = np.full((2, 2, number), len(group), dtype=np.int64)  # [core, read or write, group]
    for each in (0, 1):
        for kind in (0, 1):
            some = np.flatnonzero(exact & (core == each) & (write == bool(kind)))
            np.minimum.at(first[each, kind], group[some], some)
    first_write = np.full((2, number), len(group), dtype=np.int64)
    some = np.flatnonzero(write)
    np.minimum.at(first_write, (core[some], group[some]), some)
    other_write, other_read = first[1 - core, 1, group], first[1 - core, 0, group]
    # Each pair once: at the read, else at core 1's write; at the access that is not exact.
    partner = np.where(write & (core == 0) & exact, len(group), other_write)
    partner = np.where(write & ~exact, np.minimum(other_write, other_read), partner)
    own_write = first_write[core, group]
    agreed = _agreed(touches, core, group, number)[group] & (own_write < len(group))
    safe = agreed & (write | (own_write < np.arange(len(group))))
    bad = (partner < len(group)) & ~at_end & ~safe
    partner = np.where(bad, partner, -1)
    if bad.any():
        partner = _unordered(touches, clocks(), group, core, bad, exact)
    return conflicts_of("core-race", touches, partner >= 0, partner)


def _unordered(
    touches: Touches, clocks: Clocks, group: Column, core: Column, bad: Column, exact: Column
) -> Column:
    """Per touch the first of the other core that conflicts and that no chain orders, else -1."""
    row, write = touches.row, touches.write
    partner = np.full(len(group), -1)
    order = np.argsort(group, kind="stable")
    begin = np.searchsorted(group[order], np.arange(int(group.max()) + 2))
    for number in np.unique(group[bad]).tolist():
        members = order[begin[number] : begin[number + 1]]
        some, others = members[bad[members]], members[exact[members]]
        conflict = core[some][:, None] != core[others][None, :]
        # An inexact write conflicts with reads too: these don't name it.
        conflict &= write[others][None, :] | (write[some] & ~exact[some])[:, None]
        conflict &= ~clocks.ordered(row[some], row[others])
        found = conflict.any(axis=1)
        partner[some[found]] = others[conflict.argmax(axis=1)[found]]
    return partner


def _agreed(touches: Touches, core: Column, group: Column, number: int) -> Column:
    """bool[g]: whether both cores leave the same values in the group's atom, whoever is first.

    Cores that both compute a result may both store it: one value throughout, or the same values
    one after another while nobody reads.
    """
    launch, some = touches.launch, np.flatnonzero(touches.write)
    values = np.stack([launch.use[touches.access], _contents(launch)[touches.row]], axis=1)[some]
    _, value = np.unique(values, axis=0, return_inverse=True)
    # What a chip may write anywhere and nobody knows agrees with nothing.
    known = launch.exact[touches.access[some]] | (values[:, 1] >= 0)
    value = np.where(known, value.reshape(-1), len(some) + np.arange(len(some)))
    mine = group[some]
    one_value = _least(number, mine, value) == -_least(number, mine, -value)
    # Writes of a core to a group follow each other, in order.
    key = core[some] * number + mine
    place = np.arange(len(some)) - _least(2 * number, key, np.arange(len(some)))[key]
    marks = np.random.default_rng(0).integers(1, 1 << 63, 2 * len(some), dtype=np.uint64)
    order = np.zeros(2 * number, dtype=np.uint64)
    np.add.at(order, key, marks[value] * (place + 1).astype(np.uint64))
    same_order = order[:number] == order[number:]
    has_read = np.zeros(number, dtype=bool)
    has_read[group[~touches.write]] = True
    agreed: Column = one_value | (same_order & ~has_read)
    return agreed


def _least(number: int, group: Column, value: Column) -> Column:
    """Per group the least value, a very large one where there is none."""
    least = np.full(number, np.iinfo(np.int64).max)
    np.minimum.at(least, group, value)
    return least


def _contents(launch: Launch) -> Column:
    """Per row a checksum of what it stores where known, else its line, as a negative number."""
    contents = -1 - Lines.of(launch).of_rows
    for core, trace in enumerate(launch.traces):
        contents[trace.stored[:, 0] + launch.first_row[core]] = trace.stored[:, 1]
    return contents


def _uninitialized(
    touches: Touches,
    epoch: Column,
    core: Column,
    at_end: Column,
    history: History,
    shared: Column,
) -> list[Conflicts]:
    """Reads of what neither this core has written before nor the other may have."""
    exact = touches.launch.exact[touches.access]
    # A write in the same epoch is a race, and reported as that.
    any_write = _other_writes_by(touches, epoch, core, touches.write)
    exact_write = _other_writes_by(touches, epoch, core, touches.write & exact)
    unwritten = ~touches.write & ~touches.launch.given[touches.tensor]
    blank = unwritten & (history.last_write[shared] < 0) & ~any_write
    unsure = unwritten & (history.last_exact[shared] < 0) & ~exact_write & ~blank
    return [
        conflicts_of(UNINITIALIZED_READ, touches, blank & ~at_end),
        conflicts_of("uninitialized-result", touches, blank & at_end),
        conflicts_of(PARTLY_UNINITIALIZED, touches, unsure),
    ]


def _other_writes_by(touches: Touches, epoch: Column, core: Column, write: Column) -> Column:
    """bool[n]: whether the other core writes a touch's atom in its epoch or an earlier one."""
    earliest = np.full((2, len(touches.size_bytes)), np.iinfo(np.int64).max)
    for each in (0, 1):
        some = write & (core == each)
        np.minimum.at(earliest[each], touches.atom[some], epoch[some])
    result: Column = earliest[1 - core, touches.atom] <= epoch
    return result


def _groups(atom: Column, epoch: Column) -> tuple[Column, int]:
    """Equal numbers for the same atom and epoch."""
    found, number = np.unique(atom * (int(epoch.max()) + 1) + epoch, return_inverse=True)
    return number.reshape(-1), len(found)
