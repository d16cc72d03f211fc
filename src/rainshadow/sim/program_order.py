"""Times a Trace in the program's order, `sim.scoreboard`; what repeats is timed until it settles.

Where rows repeat and every clock stands as it stood some repetitions before, only later, all that
follows is as it was then, only later. Those rows are filled in, to the picosecond what timing them
one by one gives. Times in ps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from rainshadow.sim import scoreboard
from rainshadow.sim.repetition import Run
from rainshadow.sim.scoreboard import ENGINE, QUEUE
from rainshadow.sim.waits import Waits

Column = np.ndarray[Any, np.dtype[Any]]

#: Rows that are timed at once: plain Python makes lists of them.
_ROWS_AT_ONCE = 1 << 16
#: Clocks are compared after about so many rows.
_COMPARED_AFTER = {True: 256, False: 2048}


@dataclass(slots=True)
class Results:
    """Per row, as `scoreboard.schedule` fills them."""

    done: Column
    idle_from: Column
    result_from: Column
    start: Column
    wait: Column
    cause: Column
    preloaded: Column

    @staticmethod
    def of(rows: int) -> Results:
        wide = [np.zeros(rows, dtype=np.int64) for _ in range(5)]
        narrow = [np.zeros(rows, dtype=np.uint8) for _ in range(2)]
        return Results(wide[0], wide[1], narrow[0], wide[2], wide[3], narrow[1], wide[4])

    def columns(self) -> tuple[Column, ...]:
        return (
            self.done, self.idle_from, self.result_from, self.start, self.wait, self.cause,
            self.preloaded,
        )  # fmt: skip


class ProgramOrder:
    """One pass over the rows. table_ps, visible: as `scoreboard.schedule` takes them."""

    def __init__(
        self, signature: Column, waits: Waits, kinds: Column, delays: Column, table_ps: Column,
        visible: Column, dma_engines: int, *, compiled: bool,
    ) -> None:  # fmt: skip
        self._signature, self._waits, self._kinds = signature, waits, kinds
        self._table_ps, self._visible = table_ps, visible
        self._plain = not compiled
        self._schedule: Callable[..., None] = (
            scoreboard.compiled_steps()["schedule"] if compiled else scoreboard.schedule
        )
        self._fixed = (kinds, delays) if compiled else (kinds.tolist(), delays.tolist())
        self._idle = self._numbers(3 * scoreboard.num_resources(dma_engines))
        self._state = self._numbers(scoreboard.STATE_SIZE)
        self.results = Results.of(len(signature))

    def run(self, runs: Sequence[Run]) -> Results:
        """Times of all rows. runs: `sim.repetition.runs_of`; may be empty."""
        row = 0
        for each in runs if not len(self._visible) else ():
            self._rows(row, max(row, each.first))
            row = self._repeated(each, max(row, each.first))
        self._rows(row, len(self._signature))
        return self.results

    def _numbers(self, count: int) -> Any:
        """Lists are fastest for the interpreter, arrays for numba."""
        return [0] * count if self._plain else np.zeros(count, dtype=np.int64)

    def _rows(self, first: int, end: int) -> None:
        at_once = _ROWS_AT_ONCE if self._plain else max(end - first, 1)
        for begin in range(first, end, at_once):
            self._part(begin, min(begin + at_once, end))

    def _part(self, first: int, end: int) -> None:
        """Time some rows; what they wait for before `first` stands behind them."""
        waits, results, count = self._waits, self.results, end - first
        begin = int(waits.end[first - 1]) if first else 0
        stop = int(waits.end[end - 1])
        producer = waits.producer[begin:stop] - first
        earlier = producer < 0
        before = producer[earlier] + first
        producer[earlier] = count + np.arange(len(before))
        known = [
            np.concatenate([np.zeros(count, dtype=column.dtype), column[before]])
            for column in (results.done, results.idle_from, results.result_from)
        ]
        fresh = [np.zeros(count, dtype=c.dtype) for c in results.columns()[3:]]
        given = (
            self._signature[first:end], waits.end[first:end] - begin, producer,
            waits.flags[begin:stop],
        )  # fmt: skip
        table, visible = self._table_ps[first:end], self._visible[first:end]
        arrays: list[Any] = [*given, *self._fixed, table, visible, self._idle, self._state,
                             *known, *fresh]  # fmt: skip
        if self._plain:
            arrays = [a.tolist() if isinstance(a, np.ndarray) else a for a in arrays]
        self._schedule(*arrays)
        for column, values in zip(results.columns(), arrays[-7:], strict=True):
            column[first:end] = values[:count]

    def _repeated(self, run: Run, first: int) -> int:
        """Time the rows of a run from `first` on; returns the row after them."""
        table, period = self._table_ps, run.period
        other = np.flatnonzero(table[first : run.end] != table[first - period : run.end - period])
        if len(other):
            self._rows(first, first + int(other[-1]) + 1)
            first += int(other[-1]) + 1
        step = period * -(-_COMPARED_AFTER[self._plain] // period)
        if run.end - first < 2 * step:
            return first
        clocks = _Clocks(self, first, first + step, run.end)
        seen: dict[bytes, tuple[int, int]] = {}
        row = first
        while row + step <= run.end:
            key, now = clocks.read(row)
            if key in seen:
                earlier, then = seen[key]
                return self._fill(clocks, earlier, row, run.end, now - then)
            seen[key] = (row, now)
            self._part(row, row + step)
            row += step
        return row

    def _fill(self, clocks: _Clocks, earlier: int, row: int, end: int, later: int) -> int:
        """The rows from `earlier` to `row`, again and again, each time `later` ps later."""
        count = row - earlier
        times = (end - row) // count
        if not times:
            return row
        stop = row + times * count
        shift = later * np.arange(1, times + 1)[:, None]
        for column in self.results.columns():
            again = column[row:stop].reshape(times, count)
            again[:] = column[earlier:row]
        for column in (self.results.done, self.results.idle_from, self.results.start):
            column[row:stop].reshape(times, count)[:] += shift
        clocks.advance(later * times)
        return stop


class _Clocks:
    """What the rows of a run look at: when resources are free, and results of earlier rows."""

    def __init__(self, order: ProgramOrder, first: int, end: int, last: int) -> None:
        self._order = order
        kinds = order._kinds[np.unique(order._signature[first:end])]
        dma = kinds[kinds[:, QUEUE] >= 0]
        units = kinds[kinds[:, QUEUE] < 0][:, ENGINE]
        self._ordered = np.unique(
            np.concatenate([scoreboard.booking_engines(kinds), scoreboard.queue_places(dma)])
        )
        tensor = scoreboard.tile_places(kinds)
        self._places = np.unique(np.concatenate([units, self._ordered, tensor]).astype(np.int64))
        self._resources = scoreboard.resources(kinds)
        self._before = _looked_back(order._waits, first, end, last)

    def read(self, row: int) -> tuple[bytes, int]:
        """How the clocks stand to the first of them, and that one."""
        state, idle = np.array(self._order._state), np.array(self._order._idle).reshape(-1, 3)
        results, before = self._order.results, row - self._before
        now = int(state[self._places[0]])
        free = idle[self._resources] - now
        free[self._stale(state, idle), 1:] = -1
        parts = (
            state[self._places] - now, free.reshape(-1), results.done[before] - now,
            results.idle_from[before] - now, results.result_from[before],
        )  # fmt: skip
        return blake2b(np.concatenate(parts).tobytes(), digest_size=16).digest(), now

    def _stale(self, state: Column, idle: Column) -> Column:
        """bool[r]: resources whose last gap ends before anything will be ready for it."""
        if not len(self._ordered):
            return np.ones(len(self._resources), dtype=bool)
        least = state[self._ordered].min()
        return np.asarray(idle[self._resources, 2] < least)

    def advance(self, later: int) -> None:
        """Let the clocks stand `later` ps later."""
        order = self._order
        state, idle = np.array(order._state), np.array(order._idle).reshape(-1, 3)
        stale = self._stale(state, idle)
        state[self._places] += later
        idle[self._resources[~stale]] += later
        idle[self._resources[stale], 0] += later
        order._state[:] = state.tolist() if order._plain else state
        order._idle[:] = idle.reshape(-1).tolist() if order._plain else idle.reshape(-1)


def _looked_back(waits: Waits, first: int, end: int, last: int) -> Column:
    """int64[k]: how far before `first` the rows lie that rows from `first` on wait for.

    first to end: at least a period of a run that ends at `last`; later rows look as far back.
    """
    farthest = int(_back(waits, first, end).max(initial=0))
    end = max(end, min(first + farthest, last))
    back, row = _back(waits, first, end), np.arange(first, end)
    begin = int(waits.end[first - 1]) if first else 0
    before = back - np.repeat(row, np.diff(waits.end[first:end], prepend=begin)) + first
    return np.unique(before[before > 0])


def _back(waits: Waits, first: int, end: int) -> Column:
    """How far back each wait of the rows goes."""
    begin = int(waits.end[first - 1]) if first else 0
    counts = np.diff(waits.end[first:end], prepend=begin)
    return (
        np.repeat(np.arange(first, end), counts) - waits.producer[begin : int(waits.end[end - 1])]
    )
