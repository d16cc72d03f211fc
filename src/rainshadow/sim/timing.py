"""Turns a Trace and a Chip into a Timeline: in-order engines, DMA queues, data dependences.

A pure function: the same Trace on another chip needs no execution. What each instruction costs
is in its own file; this module knows only who waits for whom.

Model: every engine runs its rows in program order. A row starts when its engine is free, the
data it reads are written and the memory it writes is no longer read. A DMA is issued by a
descriptor generator (one row at a time) into the queue of its direction (load, store, on-chip,
HBM to HBM), each in order; transfers share the DMA engines. Results cross engines
after a semaphore delay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np

from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Signature, work_of
from rainshadow.machine import Chip, NeuronCore
from rainshadow.sim.timeline import CAUSES, Timeline
from rainshadow.sim.trace import Trace

Column = np.ndarray[Any, np.dtype[Any]]

_PS_PER_S = 1e12
_ENGINES = ("tensor", "scalar", "gpsimd", "dma", "vector", "sync")
_QUEUES = ("dma load", "dma store", "dma on-chip", "dma hbm")
_BUFFER_CAUSE = CAUSES.index("buffer still in use")
_DMA_BUSY_CAUSE = CAUSES.index("dma engines busy")

LEFT_OUT = (
    "power throttling: profiles show it, no figures are published",
    "instruction fetch and branch cost, PSUM read latency, HBM bank conflicts: not published",
    "contention between VectorE and GpSimdE on their shared port",
    "the compiler's reordering: rows run in program order on each engine",
    "accesses whose gaps have different periods count as overlapping where their boxes do",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingOptions:
    """compiled: use numba if it is installed ("auto"), always, or never."""

    compiled: str = "auto"
    lnc: int = 1


def time_trace(trace: Trace, chip: Chip, options: TimingOptions | None = None) -> Timeline:
    """When every row runs on `chip`.

    Errors: `NotModelled` for an instruction without a cost rule on this chip.
    """
    options = options or TimingOptions()
    core = chip.core
    assert core is not None, "a Trace is recorded on a chip with NeuronCores"
    costs = _Costs.of(trace.signatures, chip)
    table_ps = _table_loads(trace, costs, core)
    overlap_end, overlap = overlaps(trace.ranges, _written(trace), options)
    plain = not _use_numba(options)
    run: Callable[..., None] = _schedule if plain else _compiled_schedule()
    arrays = (
        trace.signature, trace.access, trace.access_end, overlap_end, overlap,
        costs.engine, costs.queue, costs.occupancy_ps, costs.latency_ps, costs.issue_ps, table_ps,
    )  # fmt: skip
    columns: Any = tuple(column.tolist() for column in arrays) if plain else arrays
    semaphore_ps = round(core.semaphore_latency.value * _PS_PER_S)
    trigger_ps = round(core.dma.trigger_latency.value * _PS_PER_S)
    completion_ps = round(core.dma.completion_latency.value * _PS_PER_S)
    state = [_zeros(len(trace.ranges), plain) for _ in range(4)]
    result = [_zeros(trace.num_rows, plain) for _ in range(4)]
    idle = _zeros(3 * (_TRANSFER + 1), plain)
    run(
        idle, *columns, *state, *result, semaphore_ps, trigger_ps, completion_ps,
        _BUFFER_CAUSE, _DMA_BUSY_CAUSE,
    )  # fmt: skip
    start, end, wait, cause = result
    busy = costs.occupancy_ps[trace.signature] + table_ps
    return Timeline(
        trace=trace,
        chip_name=chip.name,
        start_ps=np.asarray(start, dtype=np.int64),
        end_ps=np.asarray(end, dtype=np.int64),
        busy_ps=busy,
        wait_ps=np.asarray(wait, dtype=np.int64),
        cause=np.asarray(cause, dtype=np.uint8),
        track=costs.track[trace.signature],
        tracks=_ENGINES + _QUEUES,
        launch_ps=_launch_ps(chip, options.lnc),
        left_out=LEFT_OUT,
    )


def _zeros(count: int, plain: bool) -> Any:
    """Lists are fastest for the interpreter, arrays for numba."""
    return [0] * count if plain else np.zeros(count, dtype=np.int64)


def _launch_ps(chip: Chip, lnc: int) -> int:
    if chip.launch is None:
        return 0
    figure = chip.launch.lnc1 if lnc == 1 else chip.launch.lnc2
    return round(figure.value * _PS_PER_S)


@dataclass(frozen=True, slots=True)
class _Costs:
    """Per signature: engine index, DMA queue (-1 for none), times in ps, track, table number."""

    engine: Column
    queue: Column
    occupancy_ps: Column
    latency_ps: Column
    issue_ps: Column
    track: Column
    table: Column

    @staticmethod
    def of(signatures: Any, chip: Chip) -> _Costs:
        works = [work_of(signature, chip) for signature in signatures]
        tables = {
            name: number for number, name in enumerate(["", *{w.table for w in works} - {""}])
        }
        queue = [_queue(signature) for signature in signatures]
        engine = [
            _ENGINES.index(_issuing_engine(signature)) if signature.engine != "unknown" else 0
            for signature in signatures
        ]
        track = [len(_ENGINES) + q if q >= 0 else e for q, e in zip(queue, engine, strict=True)]

        def ps(values: Any) -> Column:
            return np.array([round(v * _PS_PER_S) for v in values], dtype=np.int64)

        return _Costs(
            engine=np.array(engine, dtype=np.int64),
            queue=np.array(queue, dtype=np.int64),
            occupancy_ps=ps(w.occupancy_s for w in works),
            latency_ps=ps(w.latency_s for w in works),
            issue_ps=ps(w.issue_s for w in works),
            track=np.array(track, dtype=np.uint8),
            table=np.array([tables[w.table] for w in works], dtype=np.int64),
        )


def _issuing_engine(signature: Signature) -> str:
    """For a DMA the engine whose descriptor generator starts it, else the engine itself."""
    if signature.engine == Engine.dma.name:
        return str(signature.params.get("trigger", Engine.gpsimd.name))
    return signature.engine


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


@cache
def _compiled_schedule() -> Callable[..., None]:
    """`_schedule` and what it calls as machine code, kept by numba between processes."""
    import numba

    compiled = numba.njit(cache=True)
    namespace = dict(globals())
    for step in (_book, _ready_at, _mark):
        namespace[step.__name__] = compiled(step)
    schedule = FunctionType(_schedule.__code__, namespace, _schedule.__name__)
    schedule.__module__, schedule.__qualname__ = __name__, _schedule.__qualname__
    return compiled(schedule)


#: Resources of `_book`: descriptor generators are numbered like engines, then the DMA engines.
_TRANSFER = len(_ENGINES)


def _book(idle: Any, resource: int, at: int, length: int) -> int:
    """Reserve `length` on a resource at `at` or later; returns when it starts.

    idle[3r], idle[3r + 1], idle[3r + 2]: when the resource is free for good, and the start and
    end of the last gap before that: what is ready early may go before what came first but waits.
    """
    cell = 3 * resource
    free, gap_start, gap_end = idle[cell], idle[cell + 1], idle[cell + 2]
    begin = at if at > gap_start else gap_start
    if begin + length <= gap_end:
        idle[cell + 1] = begin + length
        return int(begin)
    if at > free:
        idle[cell + 1] = free
        idle[cell + 2] = at
        free = at
    idle[cell] = free + length
    return int(free)


def _ready_at(
    begin: int, stop: int, me: int, is_dma: bool, access: Any, overlap_end: Any, overlap: Any,
    written: Any, writer: Any, read_until: Any, reader: Any, semaphore: int, buffer_cause: int,
) -> tuple[int, int]:  # fmt: skip
    """When a row's data are written and its target no longer read, and the cause that decides.

    Results of the same engine need no semaphore, and its own earlier writes and reads no wait:
    it runs in order. DMA completion carries its own delay.
    """
    ready = 0
    why = 0
    for position in range(begin, stop):
        item = access[position]
        number = item >> 1
        is_write = item & 1
        first = overlap_end[number - 1] if number > 0 else 0
        for other in range(first, overlap_end[number]):
            touched = overlap[other]
            same = writer[touched] == me
            if written[touched] > 0 and not (is_write and same and not is_dma):
                time = written[touched]
                if not same and writer[touched] != 3:
                    time += semaphore
                if time > ready:
                    ready = time
                    why = buffer_cause if is_write else writer[touched] + 1
            if is_write and read_until[touched] > 0 and reader[touched] != me + 1:
                time = read_until[touched] + semaphore
                if time > ready:
                    ready = time
                    why = buffer_cause
    return ready, why


def _mark(
    begin: int, stop: int, me: int, access: Any, done: int, busy_until: int,
    written: Any, writer: Any, read_until: Any, reader: Any,
) -> None:  # fmt: skip
    """Note what a row has written and until when it reads."""
    for position in range(begin, stop):
        item = access[position]
        number = item >> 1
        if item & 1:
            written[number] = done
            writer[number] = me
        elif busy_until > read_until[number]:
            # Readers on different engines: the later end decides; -1 means "several".
            reader[number] = me + 1 if reader[number] in (0, me + 1) else -1
            read_until[number] = busy_until


def _schedule(
    idle: Any,
    signature: Any, access: Any, access_end: Any, overlap_end: Any, overlap: Any,
    engine: Any, queue: Any, occupancy: Any, latency: Any, issue: Any, table: Any,
    written: Any, writer: Any, read_until: Any, reader: Any,
    start: Any, end: Any, wait: Any, cause: Any,
    semaphore: int, trigger: int, completion: int, buffer_cause: int, dma_busy_cause: int,
) -> None:  # fmt: skip
    """The scoreboard; plain Python and numba run the same lines. Times in ps.

    Per range: written (when its last write is visible), writer, read_until, reader.
    Filled per row: start, end, wait, cause.
    """
    rows = len(signature)
    engine_free = [0] * 6
    queue_free = [0] * 4
    begin = 0
    for row in range(rows):
        kind = signature[row]
        unit = engine[kind]
        lane = queue[kind]
        me = 3 if lane >= 0 else unit
        stop = access_end[row]
        ready, why = _ready_at(
            begin, stop, me, lane >= 0, access, overlap_end, overlap,
            written, writer, read_until, reader, semaphore, buffer_cause,
        )  # fmt: skip
        if lane >= 0:
            free = queue_free[lane]
            at = ready if ready > free else free
            at = _book(idle, unit, at, issue[kind])
            queue_free[lane] = at
            go = _book(idle, _TRANSFER, at + trigger, occupancy[kind])
            if go > at + trigger and at + trigger > ready:
                why = dma_busy_cause
            wait[row] = go - trigger - free
            busy_until = go + occupancy[kind] + latency[kind]
            done = busy_until + completion
            start[row] = go
        else:
            free = engine_free[unit]
            at = ready if ready > free else free
            busy_until = at + occupancy[kind] + table[row]
            engine_free[unit] = busy_until
            done = busy_until + latency[kind]
            start[row] = at
            wait[row] = at - free
        if wait[row] <= 0:
            wait[row] = 0
            why = 0
        cause[row] = why
        end[row] = done
        _mark(begin, stop, me, access, done, busy_until, written, writer, read_until, reader)
        begin = stop
