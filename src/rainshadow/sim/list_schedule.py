"""Times a Trace with the freedom AWS's compiler has: any order that keeps every dependence.

Each engine and DMA queue takes, of the rows whose data are ready, the first of the program: none
waits for one that waits, and what comes first is hurried. Addresses stay as they were
placed, so a tile's memory is reused in the program's order. A computation with the operands of an
earlier one, untouched since, is not done again: times of the tutorial's second and third Mamba
kernels show that the compiler takes such work out of loops.
Plain Python and numba run the same lines. Times in ps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import Any

import numpy as np

from rainshadow.isa.instruction import Signature, load_instructions
from rainshadow.sim import scoreboard
from rainshadow.sim.scoreboard import (
    BUFFER_CAUSE,
    COMPLETION,
    DMA_BUSY_CAUSE,
    ENGINE,
    ENGINES,
    LATENCY,
    OTHER_CORE_CAUSE,
    QUEUE,
    QUEUES,
    SEMAPHORE,
    TILE_FREE,
    TRIGGER,
    await_others,
    held_cause,
    run,
    run_dma,
)
from rainshadow.sim.trace import Trace

Column = np.ndarray[Any, np.dtype[Any]]

NUM_ENGINES, DMA = len(ENGINES), ENGINES.index("dma")
#: Engines, DMA queues, and one for rows that need neither.
_NUM_UNITS = NUM_ENGINES + len(QUEUES) + 1
#: Kinds of dependence: a row reads what another has written, writes what it has written, writes
#: what it has read.
_RAW, _WAW, _WAR = range(3)
_SEED, _PRIME, _MASK = 1469598103934665603, 1099511628211, (1 << 62) - 1


def is_fully_described(signature: Signature) -> bool:
    """Whether equal signatures and operands mean equal results, which a DMA's never do here.

    Then every field of the instruction is an operand or a parameter, and nothing is added to what
    was there.
    """
    if signature.engine == ENGINES[DMA] or signature.params.get("accumulate"):
        return False
    cls = load_instructions()[signature.opcode]
    known = {*cls.READS, *cls.WRITES, *cls.PARAMS, "engine"}
    return not cls.MEETS and all(field.name in known for field in fields(cls))  # type: ignore[arg-type]


def repeatable(trace: Trace) -> Column:
    """bool[n]: the rows whose result need not be computed twice.

    Their instruction is fully described, and nobody else writes the tensor that they write.
    """
    described = np.array([is_fully_described(s) for s in trace.signatures], dtype=bool)
    rows = described[trace.signature] if trace.num_rows else np.zeros(0, dtype=bool)
    if not len(trace.use) or not rows.any():
        return np.zeros(trace.num_rows, dtype=bool)
    writes = (trace.access & 1 == 1) & (trace.use >= 0)
    tensor = trace.uses[trace.use[writes], 0]
    shared = np.bincount(tensor, minlength=len(trace.tensors) + 1)[tensor] > 1
    rows[trace.access_row[writes][shared]] = False
    return rows


def repeats(
    columns: tuple[Column, Column, Column],
    overlaps: tuple[Column, Column],
    candidate: Column,
    compiled: bool,
) -> Column:
    """int64[n]: for each row the first that computed the same, or -1.

    columns: signature, access, access_end.  candidate: bool[n], see `repeatable`.
    """
    rows = len(columns[0])
    found = np.full(rows, -1, dtype=np.int64)
    candidates = np.flatnonzero(candidate)
    if not len(candidates):
        return found
    writer = np.full(len(overlaps[0]), -1, dtype=np.int64)
    arrays: list[Any] = [*columns, *overlaps, candidate, writer, np.zeros(rows, dtype=np.int64)]
    run: Callable[..., None] = _compiled()["_hash_rows"] if compiled else _hash_rows
    if not compiled:
        arrays = [array.tolist() for array in arrays]
    run(*arrays)
    hashes = np.asarray(arrays[-1])[candidates]
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    original = candidates[first[inverse.reshape(-1)]]
    again = original != candidates
    found[candidates[again]] = original[again]
    return found


def _hash_rows(
    signature: Any, access: Any, access_end: Any, overlap_end: Any, overlap: Any, candidate: Any,
    writer: Any, hashes: Any,
) -> None:  # fmt: skip
    """Number equal computations equally: signature, what is read and who wrote it last."""
    begin = 0
    for row in range(len(signature)):
        stop = access_end[row]
        if candidate[row]:
            value = (_SEED ^ signature[row]) & _MASK
            for position in range(begin, stop):
                item = access[position]
                if item & 1:
                    continue
                number = item >> 1
                last = -1
                for other in range(overlap_end[number - 1] if number else 0, overlap_end[number]):
                    if writer[overlap[other]] > last:
                        last = writer[overlap[other]]
                value = ((value ^ number) * _PRIME) & _MASK
                value = ((value ^ (last + 1)) * _PRIME) & _MASK
                value ^= value >> 29
            hashes[row] = value
        for position in range(begin, stop):
            if access[position] & 1:
                writer[access[position] >> 1] = row
        begin = stop


def dependences(
    access: Any, access_end: Any, overlap_end: Any, overlap: Any, again: Any, compiled: bool
) -> tuple[Column, Column, Column]:
    """Who must wait for each row: (end: int64[n], rows: int64[m], kind: int8[m]), as `overlaps`.

    again: see `repeats`; a repeated row waits for the first.
    """
    rows = len(access_end)
    run: Callable[..., int] = _compiled()["_edges"] if compiled else _edges
    columns: tuple[Any, ...] = (access, access_end, overlap_end, overlap, again)
    if not compiled:
        columns = tuple(column.tolist() for column in columns)
    ranges = len(overlap_end)

    def walk(edges: Any) -> int:
        state = (
            np.full(ranges, -1, dtype=np.int64), np.full(ranges, -1, dtype=np.int64),
            np.full(len(access), -1, dtype=np.int64), np.zeros(len(access), dtype=np.int64),
        )  # fmt: skip
        return int(run(*columns, *(state if compiled else [s.tolist() for s in state]), edges))

    edges = np.zeros((3, walk(np.zeros((3, 0), dtype=np.int64))), dtype=np.int64)
    walk(edges)
    order = np.argsort(edges[0], kind="stable")
    ends = np.cumsum(np.bincount(edges[0], minlength=rows)).astype(np.int64)
    return ends, edges[1][order], edges[2][order]


def _edges(
    access: Any, access_end: Any, overlap_end: Any, overlap: Any, again: Any,
    writer: Any, newest: Any, older: Any, owner: Any, edges: Any,
) -> int:  # fmt: skip
    """Fill edges (producer, row, kind), where there is room; returns how many there are.

    Per range: writer, the newest access that read it since; per access: the older one, its row.
    """
    room = edges.shape[1]
    size = 0
    begin = 0
    for row in range(len(access_end)):
        stop = access_end[row]
        if again[row] >= 0:
            if size < room:
                edges[0, size], edges[1, size], edges[2, size] = again[row], row, _RAW
            size += 1
        for position in range(begin, stop):
            number = access[position] >> 1
            is_write = access[position] & 1
            for other in range(overlap_end[number - 1] if number else 0, overlap_end[number]):
                touched = overlap[other]
                if writer[touched] >= 0:
                    if size < room:
                        edges[0, size], edges[1, size] = writer[touched], row
                        edges[2, size] = _WAW if is_write else _RAW
                    size += 1
                reader = newest[touched] if is_write else -1
                while reader >= 0:
                    if owner[reader] != row:
                        if size < room:
                            edges[0, size], edges[1, size], edges[2, size] = (
                                owner[reader],
                                row,
                                _WAR,
                            )
                        size += 1
                    reader = older[reader]
        for position in range(begin, stop):
            number = access[position] >> 1
            owner[position] = row
            if access[position] & 1:
                writer[number] = row
                newest[number] = -1
            else:
                older[position] = newest[number]
                newest[number] = position
        begin = stop
    return size


def _push(keys: Any, rows: Any, begin: int, size: int, key: int, row: int) -> None:
    """Add to a heap of `size` entries at keys[begin:], smallest (key, row) first."""
    at = size
    while at > 0:
        above = (at - 1) >> 1
        k, r = keys[begin + above], rows[begin + above]
        if k < key or (k == key and r <= row):
            break
        keys[begin + at], rows[begin + at] = k, r
        at = above
    keys[begin + at], rows[begin + at] = key, row


def _pop(keys: Any, rows: Any, begin: int, size: int) -> int:
    """Take the first entry of a heap of `size` entries; returns its row."""
    first = rows[begin]
    last = size - 1
    key, row = keys[begin + last], rows[begin + last]
    at = 0
    while True:
        below = 2 * at + 1
        if below >= last:
            break
        right = below + 1
        if right < last:
            kr, kb = keys[begin + right], keys[begin + below]
            if kr < kb or (kr == kb and rows[begin + right] < rows[begin + below]):
                below = right
        k, r = keys[begin + below], rows[begin + below]
        if key < k or (key == k and row <= r):
            break
        keys[begin + at], rows[begin + at] = k, r
        at = below
    keys[begin + at], rows[begin + at] = key, row
    return int(first)


def _visible(
    kind: int, same: bool, is_dma: bool, done: int, busy_until: int, semaphore: int
) -> int:
    """When a dependent row may start, whose engine is the same or not."""
    if kind == _RAW or (kind == _WAW and (is_dma or not same)):
        return done if same or is_dma else done + semaphore
    return busy_until if same else busy_until + semaphore


def _next_unit(state: Any, heap_begin: Any, keys: Any, sizes: Any) -> tuple[int, int]:
    """The unit that can start a row first, and when."""
    units = len(heap_begin)
    unit = -1
    now = 0
    for number in range(units):
        free = 0
        if number == 0:
            free = state[TILE_FREE]
        elif number < units - 1:
            free = state[number]
        if sizes[units + number] == 0:
            if sizes[number] == 0:
                continue
            if keys[heap_begin[number]] > free:
                free = keys[heap_begin[number]]
        if unit < 0 or free < now:
            unit, now = number, free
    return unit, now


def _take(
    unit: int, now: int, heap_begin: Any, keys: Any, queued: Any, best_keys: Any, best: Any,
    sizes: Any,
) -> int:  # fmt: skip
    """The first row of the unit that is ready by now."""
    units, first = len(heap_begin), heap_begin[unit]
    while sizes[unit] > 0 and keys[first] <= now:
        row = _pop(keys, queued, first, sizes[unit])
        sizes[unit] -= 1
        _push(best_keys, best, first, sizes[units + unit], row, row)
        sizes[units + unit] += 1
    row = _pop(best_keys, best, first, sizes[units + unit])
    sizes[units + unit] -= 1
    return row


def _table_load(table: int, table_now: Any, load: int) -> int:
    """Time to load the table that a row of ScalarE needs, 0 for none."""
    if table in (0, table_now[0]):
        return 0
    table_now[0] = table
    return load


def _list_schedule(
    signature: Any, kinds: Any, delays: Any, tables: Any, table_load: int, again: Any, visible: Any,
    edge_end: Any, edge_row: Any, edge_kind: Any, waiting: Any, ready: Any, why: Any,
    heap_begin: Any, keys: Any, queued: Any, best_keys: Any, best: Any, sizes: Any,
    idle: Any, state: Any, table_now: Any,
    start: Any, end: Any, wait: Any, cause: Any, preloaded: Any, loaded: Any,
) -> None:  # fmt: skip
    """The list scheduler.

    Per row: waiting (producers not done), ready, why; per unit two heaps: keys, queued by when they
    are ready, best_keys, best by number of those that are; sizes of both, one after the other.
    Filled per row as in `scoreboard.schedule`, and loaded: time to load ScalarE's table.
    """
    for row in range(len(signature)):
        if waiting[row] == 0:
            _enter(row, kinds[signature[row]], again[row], 0, heap_begin, keys, queued, sizes)
    for _ in range(len(signature)):
        unit, now = _next_unit(state, heap_begin, keys, sizes)
        row = _take(unit, now, heap_begin, keys, queued, best_keys, best, sizes)
        kind = kinds[signature[row]]
        me = DMA if kind[QUEUE] >= 0 else kind[ENGINE]
        reason = why[row]
        waited = 0
        if again[row] >= 0:
            at = busy_until = done = ready[row]
        elif me == DMA:
            at, busy_until, waited = run_dma(idle, state, kind, ready[row], delays)
            done = busy_until + delays[COMPLETION]
            if at - delays[TRIGGER] > ready[row]:
                reason = DMA_BUSY_CAUSE
        else:
            loaded[row] = _table_load(tables[signature[row]], table_now, table_load)
            at, busy_until, waited, preloaded[row] = run(idle, state, kind, ready[row], loaded[row])
            done = busy_until + kind[LATENCY]
            if at > ready[row]:
                reason = held_cause(kind)
        result_from = me + 1
        late = await_others(idle, state, kind, visible, row, done)
        if late > 0:
            waited, done = waited + late, done + late
            reason = result_from = OTHER_CORE_CAUSE
        start[row] = at
        end[row] = done
        if waited > 0:
            wait[row] = waited
            cause[row] = reason
        for edge in range(edge_end[row - 1] if row else 0, edge_end[row]):
            other = edge_row[edge]
            target = kinds[signature[other]]
            its = DMA if target[QUEUE] >= 0 else target[ENGINE]
            time = _visible(
                edge_kind[edge], its == me, me == DMA, done, busy_until, delays[SEMAPHORE]
            )
            if time > ready[other]:
                ready[other] = time
                why[other] = result_from if edge_kind[edge] == _RAW else BUFFER_CAUSE
            waiting[other] -= 1
            if waiting[other] == 0:
                _enter(other, target, again[other], ready[other], heap_begin, keys, queued, sizes)


def _enter(
    row: int, kind: Any, repeated: int, ready: int, heap_begin: Any, keys: Any, queued: Any,
    sizes: Any,
) -> None:  # fmt: skip
    """Put a row that waits for no other into the heap of its engine or its DMA queue.

    The last heap is of repeated rows, which need no engine.
    """
    unit = len(heap_begin) - 1
    if repeated < 0:
        unit = kind[ENGINE] if kind[QUEUE] < 0 else NUM_ENGINES + kind[QUEUE]
    _push(keys, queued, heap_begin[unit], sizes[unit], ready, row)
    sizes[unit] += 1


@cache
def _compiled() -> dict[str, Callable[..., Any]]:
    steps = (
        _hash_rows, _edges, _push, _pop, _visible, _next_unit, _take, _enter, _table_load,
        _list_schedule,
    )  # fmt: skip
    return scoreboard.compiled(steps, {**globals(), **scoreboard.compiled_steps()})


def list_schedule(
    columns: tuple[Column, Column, Column],
    overlaps: tuple[Column, Column],
    kinds: Column,
    delays: Column,
    tables: Column,
    table_load_ps: int,
    candidate: Column,
    visible: Column,
    dma_engines: int,
    *,
    compiled: bool,
) -> tuple[Column, ...]:
    """int64[n] each: start, end, wait, cause, preloaded, loaded; and `repeats` of the rows.

    columns: signature, access, access_end of the Trace.  overlaps: of its ranges.  kinds, delays:
    as the scoreboard's.  tables: ScalarE's table of each signature, 0 for none.  candidate: see
    `repeatable`.  visible: as the scoreboard's.
    """
    signature, access, access_end = columns
    rows = len(signature)
    again = repeats(columns, overlaps, candidate, compiled)
    edge_end, edge_row, edge_kind = dependences(access, access_end, *overlaps, again, compiled)
    unit = np.where(kinds[:, QUEUE] >= 0, NUM_ENGINES + kinds[:, QUEUE], kinds[:, ENGINE])
    unit = np.where(again >= 0, _NUM_UNITS - 1, unit[signature]) if rows else again
    counts = np.bincount(unit, minlength=_NUM_UNITS)
    heap_begin = np.cumsum(counts) - counts

    def numbers(size: int) -> Column:
        return np.zeros(size, dtype=np.int64)

    waiting = np.bincount(edge_row, minlength=rows)
    results = [numbers(rows) for _ in range(6)]
    arrays: list[Any] = [
        signature, kinds, delays, tables, table_load_ps, again, visible, edge_end, edge_row,
        edge_kind, waiting, numbers(rows), numbers(rows), heap_begin, numbers(rows), numbers(rows),
        numbers(rows), numbers(rows), numbers(2 * _NUM_UNITS),
        numbers(3 * scoreboard.num_resources(dma_engines)), numbers(scoreboard.STATE_SIZE),
        numbers(1), *results,
    ]  # fmt: skip
    if not compiled:
        arrays = [array.tolist() if isinstance(array, np.ndarray) else array for array in arrays]
    steps: Any = _compiled() if compiled else globals()
    steps["_list_schedule"](*arrays)
    return (*(np.asarray(column, dtype=np.int64) for column in arrays[-6:]), again)
