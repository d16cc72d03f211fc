"""Decides when each row starts: the resources of a core, and who waits for whom. Times in ps.

Plain Python and numba run the same lines: `schedule` is what it says, `compiled_schedule` the same
as machine code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np

from rainshadow.sim.timeline import CAUSES
from rainshadow.sim.waits import FOR_MEMORY, UNTIL_IDLE
from rainshadow.sim.waits import SEMAPHORE as AFTER_SEMAPHORE

ENGINES = ("tensor", "scalar", "gpsimd", "dma", "vector", "sync")
QUEUES = ("dma load", "dma store", "dma on-chip", "dma hbm")
_TENSOR, _GPSIMD, _DMA = (ENGINES.index(name) for name in ("tensor", "gpsimd", "dma"))

#: Columns of `kinds`, per signature: engine; DMA queue, -1 for none; occupancy, latency, descriptor
#: issue; first and end of the DMA engines; HBM time; preload; cells and interval (`isa.Work`); bits
#: of `PORTS`.
KIND_COLUMNS = (
    "engine", "queue", "occupancy", "latency", "issue", "first", "end", "hbm", "preload", "cells",
    "interval", "ports",
)  # fmt: skip
(
    ENGINE, QUEUE, OCCUPANCY, LATENCY, _ISSUE, _FIRST, _END, _BYTES, _PRELOAD, _CELLS, _INTERVAL,
    _PORTS,
) = range(len(KIND_COLUMNS))  # fmt: skip
#: Memory ports that two engines share where the chip lets one of them through at a time.
PORTS = ("SBUF: vector, gpsimd", "PSUM: vector, scalar")
_NUM_PORTS = len(PORTS)
#: Columns of `delays`: a semaphore between engines; a DMA's trigger to its first byte, its last
#: byte to whoever waits for it, one DMA engine's start to the next one's.
DELAY_COLUMNS = ("semaphore", "trigger", "completion", "stagger")
SEMAPHORE, TRIGGER, COMPLETION, _STAGGER = range(len(DELAY_COLUMNS))

#: Resources of `_book`: descriptor generators are numbered like engines, then HBM, the shared
#: ports, and the DMA engines.
_HBM = len(ENGINES)
_PORT = _HBM + 1
_TRANSFER = _PORT + _NUM_PORTS
#: Of TensorE: see `Work.cells`.
NUM_CELLS = 16

#: Places in `state`: when engines and DMA queues are free, when a matmul on other cells can start,
#: when cells are free.
_QUEUE_FREE = len(ENGINES)
TILE_FREE = _QUEUE_FREE + len(QUEUES)
_CELL_FREE = TILE_FREE + 1
STATE_SIZE = _CELL_FREE + NUM_CELLS

OTHER_CORE_CAUSE = CAUSES.index("the other core")
BUFFER_CAUSE = CAUSES.index("buffer still in use")
DMA_BUSY_CAUSE = CAUSES.index("dma engines busy")
ISSUE_CAUSE = CAUSES.index("dma being issued")
PORT_CAUSE = CAUSES.index("memory port in use")


def num_resources(dma_engines: int) -> int:
    """Of `_book`, whose `idle` has three numbers for each."""
    return _TRANSFER + dma_engines


def resources(kinds: Any) -> Any:
    """Numbers of those that `_book` reserves for rows of these kinds."""
    dma = kinds[kinds[:, QUEUE] >= 0]
    used = [int(unit) for unit in kinds[:, ENGINE] if unit == _GPSIMD] + dma[:, ENGINE].tolist()
    for number in range(_NUM_PORTS):
        used += [_PORT + number] if (kinds[:, _PORTS] >> number & 1).any() else []
    used += [_HBM] if (dma[:, _BYTES] > 0).any() else []
    for first, end in dma[:, [_FIRST, _END]].tolist():
        used += range(_TRANSFER + first, _TRANSFER + end)
    return np.unique(np.array(used, dtype=np.int64))


def booking_engines(kinds: Any) -> Any:
    """Engines of these kinds that `_book` what they share."""
    books = (kinds[:, ENGINE] == _GPSIMD) | (kinds[:, _PORTS] != 0)
    return kinds[books & (kinds[:, QUEUE] < 0)][:, ENGINE]


def queue_places(kinds: Any) -> Any:
    """Places in `state` of the queues of these kinds."""
    return _QUEUE_FREE + kinds[:, QUEUE]


def tile_places(kinds: Any) -> list[int]:
    """Places in `state` that rows of these kinds on tiles of TensorE look at, beside its own."""
    cells = int(np.bitwise_or.reduce(kinds[:, _CELLS], initial=0))
    used = [_CELL_FREE + cell for cell in range(NUM_CELLS) if cells >> cell & 1]
    return [TILE_FREE, *used] if cells else []


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


def _opening(idle: Any, resource: int, at: int, length: int) -> int:
    """When `_book` would start."""
    free, gap_start, gap_end = idle[3 * resource], idle[3 * resource + 1], idle[3 * resource + 2]
    begin = at if at > gap_start else gap_start
    if begin + length <= gap_end:
        return int(begin)
    return int(at if at > free else free)


def _book_ports(idle: Any, kind: Any, at: int, length: int) -> int:
    """Reserve `length` on every shared port of a row, and on GpSimdE, at once; returns when."""
    unit, ports = kind[ENGINE], kind[_PORTS]
    settled = False
    while not settled:
        settled = True
        for number in range(_NUM_PORTS + 1):
            if number == _NUM_PORTS and unit == _GPSIMD:
                go = _opening(idle, unit, at, length)
            elif ports >> number & 1:
                go = _opening(idle, _PORT + number, at, length)
            else:
                continue
            if go > at:
                at = go
                settled = False
    for number in range(_NUM_PORTS):
        if ports >> number & 1:
            _book(idle, _PORT + number, at, length)
    if unit == _GPSIMD:
        _book(idle, unit, at, length)
    return at


def _ready_at(
    begin: int, stop: int, producer: Any, flags: Any, done: Any, idle_from: Any, result_from: Any,
    semaphore: int,
) -> tuple[int, int]:  # fmt: skip
    """When a row's data are written and its target no longer read, and the cause that decides."""
    ready = 0
    why = 0
    for position in range(begin, stop):
        other = producer[position]
        flag = flags[position]
        time = idle_from[other] if flag & UNTIL_IDLE else done[other]
        # What another core has let through crosses to this engine whoever wrote it.
        if flag & AFTER_SEMAPHORE or (
            result_from[other] == OTHER_CORE_CAUSE and not flag & UNTIL_IDLE
        ):
            time += semaphore
        # Data count before memory: in place an instruction waits for what it reads.
        if time > ready or (time == ready and not flag & FOR_MEMORY):
            ready = time
            why = BUFFER_CAUSE if flag & FOR_MEMORY else result_from[other]
    return ready, why


def _transfer(idle: Any, kind: Any, at: int, stagger: int) -> tuple[int, int]:
    """Book a DMA on its engines; returns when the first starts and when all bytes are moved."""
    begin = -1
    moved = 0
    length = kind[OCCUPANCY]
    for number in range(kind[_FIRST], kind[_END]):
        go = _book(idle, _TRANSFER + number, at, length)
        at += stagger
        if begin < 0 or go < begin:
            begin = go
        if go + length > moved:
            moved = go + length
    if kind[_BYTES] > 0:
        moved = max(moved, _book(idle, _HBM, begin, kind[_BYTES]) + kind[_BYTES])
    return begin, moved


def run_dma(idle: Any, state: Any, kind: Any, ready: int, delays: Any) -> tuple[int, int, int]:
    """Issue a DMA; returns its start, its end, and how long its queue waited."""
    lane = _QUEUE_FREE + kind[QUEUE]
    free = state[lane]
    at = _book(idle, kind[ENGINE], ready if ready > free else free, kind[_ISSUE])
    state[lane] = at
    at += delays[TRIGGER]
    go, moved = _transfer(idle, kind, at, delays[_STAGGER])
    return go, moved + kind[LATENCY], go - delays[TRIGGER] - free


def run(idle: Any, state: Any, kind: Any, ready: int, table: int) -> tuple[int, int, int, int]:
    """Run a row on its engine; returns start, end of work, how long the engine waited, preload."""
    unit, cells = kind[ENGINE], kind[_CELLS]
    free = state[unit]
    if cells != 0:
        free = state[TILE_FREE]
        for cell in range(NUM_CELLS):
            if cells >> cell & 1 and state[_CELL_FREE + cell] > free:
                free = state[_CELL_FREE + cell]
    at = ready if ready > free else free
    preload = kind[_PRELOAD] if at > free else 0
    length = kind[OCCUPANCY] + table + preload
    if unit == _GPSIMD or kind[_PORTS] != 0:
        at = _book_ports(idle, kind, at, length)
    until = at + length
    if cells != 0:
        state[TILE_FREE] = at + kind[_INTERVAL]
        for cell in range(NUM_CELLS):
            if cells >> cell & 1:
                state[_CELL_FREE + cell] = until
    elif unit == _TENSOR:
        state[TILE_FREE] = until
    if until > state[unit]:
        state[unit] = until
    return at, until, at - free, preload


def held_cause(kind: Any) -> int:
    """Why a row did not start whose engine was free and whose data were there: another engine had
    the memory port, or GpSimdE was writing descriptors."""
    return PORT_CAUSE if kind[_PORTS] != 0 else ISSUE_CAUSE


def await_others(idle: Any, state: Any, kind: Any, visible: Any, row: int, done: int) -> int:
    """How long a row that is done waits for other cores; its engine waits, a DMA queue goes on."""
    if len(visible) == 0 or visible[row] <= done:
        return 0
    unit, until = kind[ENGINE], visible[row]
    if kind[QUEUE] < 0:
        state[unit] = max(state[unit], until)
        idle[3 * unit] = max(idle[3 * unit], until)
    return int(until - done)


def schedule(
    signature: Any, wait_end: Any, producer: Any, flags: Any, kinds: Any, delays: Any, table: Any,
    visible: Any, idle: Any, state: Any, done: Any, idle_from: Any, result_from: Any,
    start: Any, wait: Any, cause: Any, preloaded: Any,
) -> None:  # fmt: skip
    """The scoreboard.

    wait_end, producer, flags: `sim.waits`, of rows or of what follows them in done, idle_from,
    result_from.  visible: per row, when other cores let its result be seen
    (`sim.launch_timing`); or empty.
    Filled per row: done, when its result is there; idle_from, when its work ends; result_from, the
    cause of whoever waits for it; start, wait, cause, preloaded (of the preload, what delayed it).
    """
    begin = 0
    for row in range(len(signature)):
        kind = kinds[signature[row]]
        is_dma = kind[QUEUE] >= 0
        stop = wait_end[row]
        ready, why = _ready_at(
            begin, stop, producer, flags, done, idle_from, result_from, delays[SEMAPHORE]
        )
        if is_dma:
            at, busy_until, waited = run_dma(idle, state, kind, ready, delays)
            seen = busy_until + delays[COMPLETION]
            if waited > 0 and at - delays[TRIGGER] > ready:
                why = DMA_BUSY_CAUSE
        else:
            at, busy_until, waited, preloaded[row] = run(idle, state, kind, ready, table[row])
            seen = busy_until + kind[LATENCY]
            if at > ready and waited > 0:
                why = held_cause(kind)
        result_from[row] = (_DMA if is_dma else kind[ENGINE]) + 1
        late = await_others(idle, state, kind, visible, row, seen)
        if late > 0:
            waited += late
            seen += late
            why = OTHER_CORE_CAUSE
            result_from[row] = OTHER_CORE_CAUSE
        start[row] = at
        done[row] = seen
        idle_from[row] = busy_until
        if waited > 0:
            wait[row] = waited
            cause[row] = why
        begin = stop


def compiled(
    steps: Sequence[Callable[..., Any]], known: Mapping[str, Any]
) -> dict[str, Callable[..., Any]]:
    """Functions as machine code, kept by numba between processes, each after those it calls.

    known: what else they call or read by name.
    """
    import numba

    make = numba.njit(cache=True)
    namespace = dict(known)
    for step in steps:
        bound = FunctionType(step.__code__, namespace, step.__name__)
        bound.__module__, bound.__qualname__ = step.__module__, step.__qualname__
        namespace[step.__name__] = make(bound)
    return namespace


@cache
def compiled_steps() -> dict[str, Callable[..., Any]]:
    """`schedule`, `run`, `run_dma`, `held_cause` and `await_others` as machine code."""
    steps = (
        _book, _opening, _book_ports, _ready_at, _transfer, run_dma, run, held_cause,
        await_others, schedule,
    )  # fmt: skip
    return compiled(steps, globals())
