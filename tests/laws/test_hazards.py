"""Hazards found over atoms are those that a shadow of every single byte finds."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rainshadow.machine import load_chip
from rainshadow.nki import Shape, jit, record
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.sim.hazards.history import history_of
from rainshadow.sim.hazards.races import find_between_cores
from rainshadow.sim.hazards.rules import find_in_core
from rainshadow.sim.hazards.touches import join, touches_of
from rainshadow.sim.options import SimOptions

CHIP = load_chip("trainium2")
ROWS, COLUMNS = 4, 8


@jit
def random_program(x, seed, length):
    """Moves, sums and matmuls between tiles at random, partly overlapping addresses and HBM."""
    cores = nl.num_programs()
    shared = np.random.default_rng(seed)
    rng = np.random.default_rng(seed + 1 + nl.program_id())
    hbm = [nl.ndarray((ROWS, COLUMNS), nl.uint8, nl.shared_hbm) for _ in range(2)]
    tiles = [tile(shared, nl.sbuf, ROWS) for _ in range(4)]
    banks = [tile(shared, nl.psum, COLUMNS) for _ in range(3)]
    plan = shared.random(length) < 0.15
    for barrier in plan:
        if barrier and cores == 2:
            nisa.core_barrier(data=hbm[shared.integers(2)], cores=(0, 1))
            continue
        kind = rng.integers(6)
        if kind == 0:
            nisa.dma_copy(dst=pick(rng, tiles), src=x)
        elif kind == 1:
            here, there = window(rng), pick(rng, tiles)
            nisa.dma_copy(dst=pick(rng, hbm)[here], src=there[here])
        elif kind == 2:
            here, there = window(rng), pick(rng, hbm)
            nisa.dma_copy(dst=pick(rng, tiles)[here], src=there[here])
        elif kind == 3:
            here = (slice(0, ROWS), window(rng)[1])
            nisa.tensor_copy(dst=pick(rng, tiles)[here], src=pick(rng, tiles)[here])
        elif kind == 4:
            target = pick(rng, banks)
            if rng.random() < 0.3:
                nisa.memset(dst=target, value=0)
            accumulate = bool(rng.random() < 0.5)
            wide = [nl.ndarray((ROWS, COLUMNS), nl.bfloat16, nl.sbuf) for _ in range(2)]
            for one in wide:
                nisa.tensor_copy(dst=one, src=pick(rng, tiles))
            nisa.nc_matmul(target, *wide, accumulate=accumulate)
        else:
            index = nl.ndarray((2, 1), nl.int32, nl.sbuf)
            nisa.iota(dst=index, pattern=[[1, 1]], offset=0, channel_multiplier=1)
            picked = pick(rng, hbm).ap([[COLUMNS, 2], [1, 3]], vector_offset=index)
            target = pick(rng, tiles)[0:2, 0:3]
            if rng.random() < 0.5:
                nisa.dma_copy(dst=target, src=picked)
            else:
                nisa.dma_copy(dst=picked, src=target)
    return hbm[0]


def tile(rng: Any, space: Any, rows: int) -> Any:
    wide = space is nl.psum
    address = None if rng.random() < 0.3 else (0, int(rng.integers(3)) * (16 if wide else 4))
    dtype = nl.float32 if wide else nl.uint8
    return nl.ndarray((rows, COLUMNS), dtype, space, address=address)


def pick(rng: Any, values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def window(rng: Any) -> Any:
    start, step = int(rng.integers(4)), int(rng.integers(1, 3))
    return slice(int(rng.integers(3)), ROWS), slice(start, start + 4, step)


def bytes_of(print_: Any) -> set[tuple[int, int]]:
    partition, partitions, first, run, _, *pairs = print_
    starts = np.array([first])
    for stride, count in zip(pairs[::2], pairs[1::2], strict=True):
        if count:
            starts = (starts[:, None] + stride * np.arange(count)).reshape(-1)
    columns = {int(start) + byte for start in starts for byte in range(run)}
    return {(p, c) for p in range(partition, partition + partitions) for c in columns}


class Shadow:
    """Every byte's accesses, in the order of each core's program."""

    def __init__(self, traces: Any) -> None:
        self.traces = traces
        self.keys = [[t.names[n] for n in t.tensors[:, 8]] for t in traces]
        self.shared = {
            key for key in self.keys[0] if key and all(key in some for some in self.keys)
        } if len(traces) > 1 else set()  # fmt: skip
        self.events: dict[Any, list[Any]] = defaultdict(list)
        self.accesses: list[tuple[int, int, int, bool, bool, set[Any]]] = []
        self.barriers = [self.barriers_of(core) for core in range(len(traces))]
        self.common = [
            number
            for number in range(min(map(len, self.barriers)))
            if len({some[number][1] for some in self.barriers}) == 1
        ]
        self.waits: dict[Any, set[Any]] = {}
        for core, trace in enumerate(traces):
            self.walk(core, trace)

    def name_of(self, core: int, tensor: int) -> Any:
        key = self.keys[core][tensor]
        return key if key in self.shared else (core, tensor)

    def barriers_of(self, core: int) -> list[tuple[int, Any]]:
        trace = self.traces[core]
        first = [0, *trace.access_end.tolist()]
        return [
            (row, self.name_of(core, int(trace.uses[trace.use[first[row]], 0])))
            for row in range(trace.num_rows)
            if trace.signatures[trace.signature[row]].opcode == "core_barrier"
        ]

    def epoch(self, core: int, row: int, name: Any) -> int:
        if row == self.traces[core].num_rows:
            return 10**6
        return sum(
            all(some[number][1] == name for some in self.barriers)
            and self.barriers[core][number][0] < row
            for number in range(min(map(len, self.barriers)))
        )

    def walk(self, core: int, trace: Any) -> None:
        begin = 0
        for row, end in enumerate(trace.access_end.tolist()):
            signature = trace.signatures[trace.signature[row]]
            steps = [(int(trace.access[at]) & 1, trace.uses[trace.use[at]].tolist())
                     for at in range(begin, end)]  # fmt: skip
            begin = end
            if signature.opcode == "core_barrier":
                continue
            if signature.opcode == "nc_matmul" and signature.params["accumulate"]:
                steps += [(0, use) for write, use in steps if write]
            for write, (tensor, footprint) in sorted(steps, key=lambda step: step[0]):
                print_ = trace.footprints[footprint].tolist()
                self.access(core, row, tensor, bool(write), not print_[4], bytes_of(print_))
        for tensor in np.flatnonzero(trace.tensors[:, 5] & 4).tolist():
            _, _, partitions, _, size, *_ = trace.tensors[tensor].tolist()
            whole = bytes_of([0, partitions, 0, size, 0])
            self.access(core, trace.num_rows, tensor, False, True, whole)

    def access(
        self, core: int, row: int, tensor: int, write: bool, exact: bool, touched: set[Any]
    ) -> None:
        space, partition, _, address, _, flags, *_ = self.traces[core].tensors[tensor].tolist()
        place: Any = self.name_of(core, tensor)
        if flags & 1:
            place = ("given", core, space)
            touched = {(p + partition, c + address) for p, c in touched}
        touched = {(place, *byte) for byte in touched}
        self.accesses.append((core, row, tensor, write, exact, touched))
        for byte in touched:
            self.events[byte].append((core, row, self.name_of(core, tensor), write, exact))

    def conflicts(self) -> set[tuple[str, int, int, Any, int]]:
        found = set()
        for core, row, tensor, write, exact, touched in self.accesses:
            by_rule: dict[str, int] = defaultdict(int)
            for byte in touched:
                for rule in self.rules_broken(byte, core, row, tensor, write, exact):
                    by_rule[rule] += 1
            for rule, count in by_rule.items():
                if exact or count == len(touched):
                    found.add((rule, core, row, self.name_of(core, tensor), count))
        return found

    def rules_broken(
        self, byte: Any, core: int, row: int, tensor: int, write: bool, exact: bool
    ) -> Any:
        trace, name = self.traces[core], self.name_of(core, tensor)
        at_end = row == trace.num_rows
        if name in self.shared and not at_end:
            yield from self.race(byte, core, row, name, write, exact)
        if write:
            return
        given = trace.tensors[tensor, 5] & 2
        mine = [e for e in self.events[byte] if e[0] == core and e[3] and e[1] < row]
        theirs = [
            e for e in self.events[byte]
            if e[0] != core and e[3] and self.epoch(e[0], e[1], name) <= self.epoch(core, row, name)
        ]  # fmt: skip
        signature = None if at_end else trace.signatures[trace.signature[row]]
        adding = (
            trace.tensors[tensor, 0] == 1 and signature is not None
            and signature.opcode == "nc_matmul" and signature.params["accumulate"]
        )  # fmt: skip
        own = [e for e in mine if e[2] == name]
        if adding and not own:
            yield "accumulate-uninitialized"
        elif not mine:
            if not theirs and not given:
                yield "uninitialized-result" if at_end else "uninitialized-read"
        elif not own:
            yield "leftover-read"
        certain = [e for e in [*mine, *theirs] if e[4]]
        if (mine or theirs) and not (adding or given or certain):
            yield "partly-uninitialized"
        if not own:
            return
        last = mine[-1]
        if adding:
            writer = trace.signatures[trace.signature[last[1]]]
            if writer.engine != "tensor":
                yield "accumulate-foreign"
        certain = [e for e in mine if e[4]]
        if certain and certain[-1][2] != name:
            order = self.events[byte]
            if order.index(own[-1]) < order.index(certain[-1]):
                yield "overwritten"

    def race(self, byte: Any, core: int, row: int, name: Any, write: bool, exact: bool) -> Any:
        epoch = self.epoch(core, row, name)
        others = [
            e for e in self.events[byte]
            if e[0] != core and e[4] and e[1] < self.traces[e[0]].num_rows
            and self.epoch(e[0], e[1], name) == epoch
            and e[:2] not in self.reached((core, row)) and (core, row) not in self.reached(e[:2])
        ]  # fmt: skip
        if write and exact and core == 0:
            return
        reads_count = write and not exact
        if self.agreed(byte, core, row, epoch, write):
            return
        if any(e[3] or reads_count for e in others):
            yield "core-race"

    def reached(self, start: Any) -> set[Any]:
        """What surely waits for a row: later rows of its core, barriers, rows of the other."""
        if start not in self.waits:
            found: set[Any] = set()
            left = [start]
            while left:
                new = self.next_of(left.pop()) - found
                found |= new
                left += new
            self.waits[start] = found
        return self.waits[start]

    def next_of(self, node: Any) -> set[Any]:
        """A barrier is (-1, its number)."""
        core, row = node
        if core < 0:
            following = {(-1, row + 1)} if row + 1 < len(self.common) else set()
            name = self.barriers[0][self.common[row]][1]
            return following | {
                (each, other)
                for each, other, tensor, *_ in self.accesses
                if self.name_of(each, tensor) == name
                and other > self.barriers[each][self.common[row]][0]
            }
        mine = [one for one in self.accesses if one[:2] == node]
        return {
            (core, later)
            for _, _, _, write, _, touched in mine
            for each, later, _, writes, _, others in self.accesses
            if each == core and later > row and (write or writes) and touched & others
        } | {
            (-1, number)
            for number, place in enumerate(self.common)
            for _, _, tensor, *_ in mine
            if self.barriers[core][place][0] > row
            and self.barriers[core][place][1] == self.name_of(core, tensor)
        }

    def agreed(self, byte: Any, core: int, row: int, epoch: int, write: bool) -> bool:
        """Both cores write the same one value, or the same values in turn while nobody reads."""
        here = [e for e in self.events[byte] if self.epoch(e[0], e[1], byte[0]) == epoch]
        writes = [e for e in here if e[3]]
        mine = [e[1] for e in writes if e[0] == core]
        if not mine or not (write or min(mine) < row):
            return False
        values = [
            [
                (self.line(e), frozenset(self.written(e, byte[0]))) if e[4] else object()
                for e in writes
                if e[0] == each
            ]
            for each in (0, 1)
        ]
        if len({*values[0], *values[1]}) == 1:
            return True
        return len(here) == len(writes) and values[0] == values[1]

    def line(self, event: Any) -> int:
        trace = self.traces[event[0]]
        return trace.lines[trace.line[event[1]]].source.line

    def written(self, event: Any, name: Any) -> set[Any]:
        return next(
            touched for core, row, tensor, write, _, touched in self.accesses
            if (core, row, write) == (event[0], event[1], True)
            and self.name_of(core, tensor) == name
        )  # fmt: skip


@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([1, 2]))
def test_atoms_find_what_a_shadow_of_every_byte_finds(seed, length, cores):
    options = SimOptions(data="none")
    run = record(
        random_program[cores],
        (Shape((ROWS, COLUMNS), "uint8"), seed, length),
        chip=CHIP,
        options=options,
    )
    traces = (run.trace, *run.other_traces)
    shadow = Shadow(traces)
    launch = join(traces)
    touches = touches_of(launch)
    history = history_of(touches)
    conflicts = find_in_core(touches, history, "gen3") + find_between_cores(touches, history)
    found = set()
    for some in conflicts:
        for row, tensor, size in zip(
            some.row.tolist(), some.tensor.tolist(), some.size_bytes.tolist(), strict=True
        ):
            core = int(launch.core_of(row))
            index = int(np.flatnonzero(launch.numbers[core] == tensor)[0])
            local = row - int(launch.first_row[core])
            found.add((some.rule, core, local, shadow.name_of(core, index), size))
    assert found == shadow.conflicts()
