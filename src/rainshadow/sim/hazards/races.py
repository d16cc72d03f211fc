"""Hazards between the cores of a launch: accesses of shared HBM that no meeting orders.

A core_barrier orders the accesses of its `data` tensor on one side of it with those on the other
side of the same barrier of the other core, and what depends on either; a sendrecv orders what its
tiles depend on, on both cores, with what depends on them; nothing else does. Source: AWS Neuron
docs 2.32, nki.isa.core_barrier, nki.isa.sendrecv.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rainshadow.sim.hazards.clocks import MESSAGE, Clocks, Meetings, clocks_of
from rainshadow.sim.hazards.history import History
from rainshadow.sim.hazards.lines import Lines
from rainshadow.sim.hazards.rules import (
    PARTLY_UNINITIALIZED,
    UNINITIALIZED_READ,
    Conflicts,
    conflicts_of,
)
from rainshadow.sim.hazards.touches import (
    Launch,
    Touches,
    is_barrier,
    is_dma_copy,
    is_message,
)

Column = np.ndarray[Any, np.dtype[Any]]


def find_between_cores(touches: Touches, history: History) -> list[Conflicts]:
    """Races, and reads of shared memory that no core has written before."""
    shared = touches.launch.shared[touches.tensor]
    if not shared.any():
        return []
    some = Touches(touches.launch, touches.atom[shared], touches.access[shared], touches.size_bytes)
    meetings = _common_meetings(touches.launch)
    epoch = _epochs(touches.launch, meetings)[some.access]
    core = touches.launch.core_of(some.row)
    at_end = touches.launch.is_end[some.access]
    return [
        _races(some, epoch, core, at_end, lambda: clocks_of(touches, meetings)),
        *_uninitialized(some, epoch, core, at_end, history, shared),
    ]


def _common_meetings(launch: Launch) -> Meetings:
    """The meetings on which both cores agree."""
    found = [
        _meetings(launch, core, int(launch.first_row[core])) for core in range(len(launch.traces))
    ]
    number = min(len(rows) for rows, _ in found)
    rows = np.stack([rows[:number] for rows, _ in found])
    names = np.stack([tensors[:number] for _, tensors in found])
    common = (names == names[0]).all(axis=0)
    return Meetings(rows[:, common], names[0][common])


def _epochs(launch: Launch, meetings: Meetings) -> Column:
    """int64[m]: how many barriers on its tensor lie before an access."""
    epoch = np.zeros(len(launch.row), dtype=np.int64)
    core = launch.core_of(launch.row)
    for tensor in np.unique(meetings.tensors[meetings.tensors != MESSAGE]).tolist():
        mine = meetings.tensors == tensor
        for each, rows in enumerate(meetings.rows):
            some = np.flatnonzero((launch.tensor == tensor) & (core == each))
            epoch[some] = np.searchsorted(rows[mine], launch.row[some])
    epoch[launch.is_end] = meetings.count + 1
    return epoch


def _meetings(launch: Launch, core: int, first_row: int) -> tuple[Column, Column]:
    """Rows of a core's barriers and messages; the tensors of the barriers."""
    trace = launch.traces[core]
    kinds = np.array([is_barrier(s) + 2 * is_message(s) for s in trace.signatures] or [0])
    rows = np.flatnonzero(kinds[trace.signature])
    first_access = np.append(0, trace.access_end)[rows]
    tensors = launch.numbers[core][trace.uses[trace.use[first_access], 0]]
    is_one = kinds[trace.signature[rows]] == 1
    return rows + first_row, np.where(is_one, tensors, MESSAGE)


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
    other_write, other_read = first[1 - core, 1, group], first[1 - core, 0, group]
    # Each pair once: at the read, else at core 1's write; at the access that is not exact.
    partner = np.where(write & (core == 0) & exact, len(group), other_write)
    partner = np.where(write & ~exact, np.minimum(other_write, other_read), partner)
    safe = _agreed(touches, core, group, number)
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
    """bool[n]: touches that make no difference whichever core is first: both store the same.

    Cores that both compute a result may both store it: one value throughout, and reads after the
    core's own write; or the same values one after another while nobody reads. Memory copied onto
    itself keeps its value.
    """
    launch = touches.launch
    changing = touches.write & ~_copies_onto_itself(launch)[touches.row]
    some = np.flatnonzero(changing)
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
    first_write = _least(2 * number, key, some)[core * number + group]
    writes = (one_value | (same_order & ~has_read))[group] & (first_write < len(group))
    reads = one_value[group] & (first_write < np.arange(len(group)))
    return np.where(changing, writes, reads)


def _copies_onto_itself(launch: Launch) -> Column:
    """bool[rows]: copies of memory onto itself, a fence in AWS's kernels: nothing changes."""
    copies = launch.by_row(is_dma_copy)
    reads, writes = np.full(len(copies), -1), np.full(len(copies), -2)
    reads[launch.row[~launch.write]] = launch.use[~launch.write]
    writes[launch.row[launch.write]] = launch.use[launch.write]
    result: Column = copies & (reads == writes)
    return result


def _is_one(number: int, group: Column, value: Column) -> Column:
    """bool[g]: whether all values of a group are equal."""
    result: Column = _least(number, group, value) >= -_least(number, group, -value)
    return result


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
