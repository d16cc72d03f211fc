"""Turns a Trace and a Chip into a Timeline: in-order engines, DMA queues, data dependences.

A pure function: the same Trace on another chip needs no execution. What each instruction costs
is in its own file; this module knows only who waits for whom.

Model: every engine runs its rows in program order, or as the compiler may order them
(`sim.list_schedule`). A row starts when its engine is free, the
data it reads are written and the memory it writes is no longer read. TensorE loads a stationary
operand while the matmul before streams, or before its own if it stood idle. A DMA is issued by a
descriptor generator (one row at a time; GpSimdE's is GpSimdE itself) into the queue of its
direction (load, store, on-chip, HBM to HBM), each in order. The DMA engines that its partitions
belong to start one after another, each when it is free; what they move shares the core's part of
the HBM bandwidth. Results cross engines after a semaphore delay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from rainshadow.isa.costs import core_of
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Signature, work_of
from rainshadow.machine import Chip, NeuronCore
from rainshadow.sim import scoreboard
from rainshadow.sim.list_schedule import list_schedule, repeatable
from rainshadow.sim.program_order import ProgramOrder
from rainshadow.sim.repetition import Run, runs_of
from rainshadow.sim.scoreboard import ENGINE, ENGINES, NUM_CELLS, QUEUE, QUEUES
from rainshadow.sim.timeline import Timeline
from rainshadow.sim.trace import Trace
from rainshadow.sim.waits import Waits, waits_of

Column = np.ndarray[Any, np.dtype[Any]]

_PS_PER_S = 1e12

LEFT_OUT = (
    "power throttling: profiles show it, no figures are published",
    "instruction fetch and branch cost, PSUM read latency, HBM bank conflicts: not published",
    "contention of VectorE's performance modes with GpSimdE, and in one PSUM bank: not published",
    "which of two DMAs under way gets more of the HBM bandwidth: the one that started first",
    "accesses whose gaps have different periods count as overlapping where their boxes do",
)
_ORDER = "the compiler's reordering: rows run in program order on each engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingOptions:
    """compiled: use numba if it is installed ("auto"), always, or never.

    schedule: "program", every engine runs its rows in the program's order; or "compiler", in any
    order that keeps the dependences (`sim.list_schedule`).
    """

    compiled: Literal["auto", "always", "never"] = "auto"
    lnc: int = 1
    schedule: Literal["program", "compiler"] = "program"


def time_trace(trace: Trace, chip: Chip, options: TimingOptions | None = None) -> Timeline:
    """When every row runs on `chip`; of one core of several as if the others never kept it waiting
    (`sim.launch_timing` times them together).

    Errors: `NotModelled` for an instruction without a cost rule on this chip.
    """
    return Timer(trace, chip, options).time()


class Timer:
    """A Trace made ready to be timed on `chip`, once or again.

    Errors: `NotModelled` for an instruction without a cost rule on this chip.
    """

    def __init__(self, trace: Trace, chip: Chip, options: TimingOptions | None = None) -> None:
        assert chip.core is not None, "a Trace is recorded on a chip with NeuronCores"
        self._trace, self._chip, self._core = trace, chip, chip.core
        self._options = options or TimingOptions()
        self._costs = _Costs.of(trace.signatures, chip)

    def time(self, visible: Column | None = None) -> Timeline:
        """visible: int64[n] ps, when other cores let each row's result be seen; 0 for none."""
        visible = np.zeros(0, dtype=np.int64) if visible is None else visible
        listed = self._options.schedule == "compiler"
        timed = self._list_order if listed else self._program_order
        start, end, wait, cause, busy = timed(visible)
        return Timeline(
            trace=self._trace,
            chip_name=self._chip.name,
            start_ps=start,
            end_ps=end,
            busy_ps=busy,
            wait_ps=wait,
            cause=cause.astype(np.uint8),
            track=self._costs.track[self._trace.signature],
            tracks=ENGINES + QUEUES,
            launch_ps=_launch_ps(self._chip, self._options.lnc),
            left_out=LEFT_OUT if listed else (*LEFT_OUT, _ORDER),
        )

    def _program_order(self, visible: Column) -> tuple[Column, ...]:
        """start, end, wait, cause, busy of each row, every engine in the program's order."""
        trace, costs, core = self._trace, self._costs, self._core
        table_ps = _table_loads(trace, costs, core)
        waits, runs = self._repeating
        order = ProgramOrder(
            trace.signature, waits, costs.kinds, _delays(core), table_ps, visible,
            int(core.dma.engines.value), compiled=_use_numba(self._options),
        )  # fmt: skip
        result = order.run(runs)
        busy = costs.busy_ps[trace.signature] + table_ps + result.preloaded
        return result.start, result.done, result.wait, result.cause, busy

    @property
    def _overlapping(self) -> tuple[Column, Column]:
        """`overlaps` of the Trace's ranges, on whatever chip."""
        kept = self._trace.worked_out
        if "overlaps" not in kept:
            written = _written(self._trace)
            kept["overlaps"] = overlaps(self._trace.ranges, written, self._options)
        return kept["overlaps"]  # type: ignore[no-any-return]

    @property
    def _repeating(self) -> tuple[Waits, list[Run]]:
        """Who waits for whom, and what repeats, in the program's order, on whatever chip."""
        kept = self._trace.worked_out
        if "waits" not in kept:
            kinds = self._costs.kinds
            queued = kinds[:, QUEUE] >= 0
            unit = np.where(queued, len(ENGINES) + kinds[:, QUEUE], kinds[:, ENGINE])
            waits = waits_of(
                self._trace, self._overlapping, unit[self._trace.signature], len(ENGINES)
            )
            kept["waits"] = waits, runs_of(self._trace.signature, waits)
        return kept["waits"]  # type: ignore[no-any-return]

    def _list_order(self, visible: Column) -> tuple[Column, ...]:
        """The same, in the order of `sim.list_schedule`; a repeated row is never busy."""
        trace, costs, core = self._trace, self._costs, self._core
        start, end, wait, cause, preloaded, loaded, again = list_schedule(
            (trace.signature, trace.access, trace.access_end),
            self._overlapping,
            costs.kinds,
            _delays(core),
            costs.table,
            round(core.scalar.activation_table_load.value * _PS_PER_S),
            repeatable(trace),
            visible,
            int(core.dma.engines.value),
            compiled=_use_numba(self._options),
        )
        busy = costs.busy_ps[trace.signature] + preloaded + loaded
        return start, end, wait, cause, np.where(again < 0, busy, 0)


def _launch_ps(chip: Chip, lnc: int) -> int:
    if chip.launch is None:
        return 0
    figure = chip.launch.lnc1 if lnc == 1 else chip.launch.lnc2
    return round(figure.value * _PS_PER_S)


def _delays(core: NeuronCore) -> Column:
    """As `scoreboard.DELAY_COLUMNS` names them."""
    dma = core.dma
    figures = (
        core.semaphore_latency, dma.trigger_latency, dma.completion_latency, dma.engine_stagger,
    )  # fmt: skip
    return np.array([round(figure.value * _PS_PER_S) for figure in figures], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Costs:
    """Per signature: the columns of `scoreboard.KIND_COLUMNS`, busy time, track, table number.

    busy_ps: the occupancy; of a DMA its share of all DMA engines, of a matmul on a tile its share
    of the array.
    """

    kinds: Column
    busy_ps: Column
    track: Column
    table: Column

    @staticmethod
    def of(signatures: Any, chip: Chip) -> _Costs:
        works = [work_of(signature, chip) for signature in signatures]
        tables = {
            name: number for number, name in enumerate(["", *{w.table for w in works} - {""}])
        }
        engines = int(core_of(chip).dma.engines.value)
        kinds, busy, track = [], [], []
        for signature, work in zip(signatures, works, strict=True):
            queue, engine = _queue(signature), ENGINES.index(_issuing_engine(signature))
            used = work.num_engines or engines
            times = (
                work.occupancy_s, work.latency_s, work.issue_s, work.hbm_s, work.preload_s,
                work.interval_s,
            )  # fmt: skip
            occupancy, latency, issue, hbm, preload, interval = (
                round(time * _PS_PER_S) for time in times
            )
            kinds.append(
                (engine, queue, occupancy, latency, issue, work.first_engine,
                 work.first_engine + used, hbm, preload, work.cells, interval,
                 _ports(signature, core_of(chip)))
            )  # fmt: skip
            cells = work.cells.bit_count() or NUM_CELLS
            share = used / engines if queue >= 0 else cells / NUM_CELLS
            busy.append(max(round(occupancy * share), 1))
            track.append(len(ENGINES) + queue if queue >= 0 else engine)
        return _Costs(
            kinds=np.array(kinds, dtype=np.int64).reshape(-1, len(scoreboard.KIND_COLUMNS)),
            busy_ps=np.array(busy, dtype=np.int64),
            track=np.array(track, dtype=np.uint8),
            table=np.array([tables[w.table] for w in works], dtype=np.int64),
        )


def _ports(signature: Signature, core: NeuronCore) -> int:
    """The bits of `scoreboard.PORTS` that a row needs alone on this chip."""
    spaces = {kind.space for kind in signature.operands.values()}
    sbuf = core.sbuf.vector_gpsimd_ports.value == 1 and "sbuf" in spaces
    psum = core.psum.vector_scalar_ports.value == 1 and "psum" in spaces
    return sbuf * (signature.engine in ("vector", "gpsimd")) + 2 * psum * (
        signature.engine in ("vector", "scalar")
    )


def _issuing_engine(signature: Signature) -> str:
    """For a DMA the engine whose descriptor generator starts it, else the engine itself."""
    if signature.engine == Engine.dma.name:
        return str(signature.params.get("trigger", Engine.gpsimd.name))
    # Waits on nothing's behalf: an instruction that no engine owns counts as TensorE's.
    return ENGINES[0] if signature.engine == Engine.unknown.name else signature.engine


def _queue(signature: Signature) -> int:
    """DMA queue by direction, or -1 for an instruction that is no DMA."""
    if signature.engine != Engine.dma.name:
        return -1
    reads_hbm = any(
        kind.space == "hbm" for name, kind in signature.operands.items()
        if name not in signature.writes
    )  # fmt: skip
    writes_hbm = any(signature.operands[name].space == "hbm" for name in signature.writes)
    if reads_hbm:
        return 3 if writes_hbm else 0
    return 1 if writes_hbm else 2


def _table_loads(trace: Trace, costs: _Costs, core: NeuronCore) -> Column:
    """Per row: time to load ScalarE's table where a row needs another one than the last row."""
    extra = np.zeros(trace.num_rows, dtype=np.int64)
    table = costs.table[trace.signature] if trace.num_rows else extra
    rows = np.flatnonzero(table)
    if len(rows):
        changed = np.empty(len(rows), dtype=bool)
        changed[0] = True
        np.not_equal(table[rows[1:]], table[rows[:-1]], out=changed[1:])
        extra[rows[changed]] = round(core.scalar.activation_table_load.value * _PS_PER_S)
    return extra


def _written(trace: Trace) -> Column:
    """bool[r]: the ranges that some row writes."""
    written = np.zeros(len(trace.ranges), dtype=bool)
    written[trace.access[(trace.access & 1) == 1] >> 1] = True
    return written


def overlaps(
    ranges: Column, written: Column, options: TimingOptions | None = None
) -> tuple[Column, Column]:
    """For each memory range the numbers of all ranges that share a byte with it.

    ranges: int64[r, 7] as in `Trace.ranges`; written: bool[r], whether any row writes it. Two
    ranges that are only read are never listed: nobody waits for a reader.
    Returns (end: int64[r], numbers: int64[m]): range i overlaps numbers[end[i-1]:end[i]].
    """
    options = options or TimingOptions()
    count = len(ranges)
    pairs = [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))]
    for space in np.unique(ranges[:, 0]) if count else ():
        members = np.flatnonzero(ranges[:, 0] == space)
        targets = members[written[members]]
        pairs.append(_meeting(ranges, targets, members, options))
        pairs.append(_meeting(ranges, members[~written[members]], targets, options))
    owner, other = (np.concatenate(column) for column in zip(*pairs, strict=True))
    order = np.argsort(owner, kind="stable")
    ends = np.cumsum(np.bincount(owner, minlength=count)).astype(np.int64)
    return ends, other[order].astype(np.int64)


def _meeting(
    ranges: Column, owners: Column, others: Column, options: TimingOptions
) -> tuple[Column, Column]:
    """All pairs of an owner and one of `others` that share a byte; one space only."""
    order = others[np.argsort(ranges[others, 3], kind="stable")]
    # Others before `first` end before the owner starts, because `reach` only grows.
    reach = np.maximum.accumulate(ranges[order, 4])
    last = np.searchsorted(ranges[order, 3], ranges[owners, 4], side="left")
    first = np.searchsorted(reach, ranges[owners, 3], side="right")
    most = int(np.maximum(last - first, 0).sum())
    if not most:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    found = np.empty((2, most), dtype=np.int64)
    if _use_numba(options):
        size = _compiled_filter()(ranges, owners, order, first, last, found)
    else:
        size = _filter(ranges.tolist(), owners.tolist(), order.tolist(), first.tolist(),
                       last.tolist(), found)  # fmt: skip
    return found[0, :size], found[1, :size]


def _filter(ranges: Any, owners: Any, order: Any, first: Any, last: Any, found: Any) -> int:
    """Fill `found` with the candidate pairs that meet; returns how many they are."""
    size = 0
    for number in range(len(owners)):
        a = ranges[owners[number]]
        for position in range(first[number], last[number]):
            b = ranges[order[position]]
            if b[4] <= a[3] or b[1] >= a[2] or b[2] <= a[1]:
                continue
            period = a[5] if a[5] > 0 else b[5]
            if period > 0 and (a[5] == b[5] or a[5] == 0 or b[5] == 0):
                # Where one has no gaps, its whole length counts as one run.
                run_a = a[6] if a[5] > 0 else a[4] - a[3]
                run_b = b[6] if b[5] > 0 else b[4] - b[3]
                ahead = (b[3] - a[3]) % period
                if ahead >= run_a and ahead + run_b <= period:
                    continue
            found[0, size] = owners[number]
            found[1, size] = order[position]
            size += 1
    return size


def _use_numba(options: TimingOptions) -> bool:
    if options.compiled == "never":
        return False
    try:
        import numba  # noqa: F401
    except ImportError:
        if options.compiled == "always":
            raise
        return False
    return True


@cache
def _compiled_filter() -> Callable[..., int]:
    import numba

    return numba.njit(cache=True)(_filter)  # type: ignore[no-any-return]
