"""The program's order by its definition: every row looks at all that came before. Slow, and clear.

A row starts when its engine or queue has done the row before, when the last write to every range
that it touches is there, and when nobody reads any more what it writes. An engine's own order needs
no wait for memory; results, and reads that are over, cross engines by a semaphore, except that a
DMA tells of its completion itself, and that the DMA queues are told as one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

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
    SEMAPHORE,
    TRIGGER,
)
from rainshadow.sim.timing import Timer, _delays, _table_loads

_DMA = ENGINES.index("dma")


class RowByRow:
    """Times the rows of a `Timer`'s Trace one after another."""

    def __init__(self, timer: Timer) -> None:
        self._trace, self._kinds = timer._trace, timer._costs.kinds
        self._delays = _delays(timer._core).tolist()
        self._table = _table_loads(timer._trace, timer._costs, timer._core)
        ends, numbers = timer._overlapping
        self._met = np.split(numbers, ends[:-1])
        self._idle = [0] * 3 * scoreboard.num_resources(int(timer._core.dma.engines.value))
        self._state = [0] * scoreboard.STATE_SIZE
        #: Per range: the row that wrote it last, and all that have read it.
        self._writer: dict[int, int] = {}
        self._readers: dict[int, list[int]] = {}
        self.done, self.idle_from, self.result_from, self.unit = [], [], [], []

    def time(self, visible: Any) -> tuple[np.ndarray[Any, Any], ...]:
        """start, end, wait, cause and preload of every row."""
        rows = [self._row(row, visible) for row in range(self._trace.num_rows)]
        return tuple(np.array(rows, dtype=np.int64).reshape(-1, 5).T)

    def _row(self, row: int, visible: Any) -> tuple[int, int, int, int, int]:
        trace, delays = self._trace, self._delays
        kind = self._kinds[trace.signature[row]].tolist()
        is_dma = kind[QUEUE] >= 0
        unit = _DMA if is_dma else kind[ENGINE]
        begin = int(trace.access_end[row - 1]) if row else 0
        accesses = trace.access[begin : int(trace.access_end[row])].tolist()
        ready, why = self._ready(unit, accesses)
        preload = 0
        if is_dma:
            at, idle_from, waited = scoreboard.run_dma(self._idle, self._state, kind, ready, delays)
            done = idle_from + delays[COMPLETION]
            why = DMA_BUSY_CAUSE if at - delays[TRIGGER] > ready else why
        else:
            at, idle_from, waited, preload = scoreboard.run(
                self._idle, self._state, kind, ready, int(self._table[row])
            )
            done = idle_from + kind[LATENCY]
            why = scoreboard.held_cause(kind) if at > ready else why
        late = scoreboard.await_others(self._idle, self._state, kind, visible, row, done)
        why = OTHER_CORE_CAUSE if late else why
        self.done.append(done + late)
        self.idle_from.append(idle_from)
        self.result_from.append(OTHER_CORE_CAUSE if late else unit + 1)
        self.unit.append(unit)
        for access in accesses:
            if access & 1:
                self._writer[access >> 1] = row
            else:
                self._readers.setdefault(access >> 1, []).append(row)
        waited += late
        return at, done + late, waited, why if waited else 0, preload

    def _ready(self, unit: int, accesses: list[int]) -> tuple[int, int]:
        """When all that a row waits for is there, and the cause that decides; data first."""
        times = [(0, 1, 0)]
        for access in accesses:
            number, writes = access >> 1, bool(access & 1)
            for touched in self._met[number].tolist():
                if touched in self._writer:
                    times.append(self._result(unit, self._writer[touched], writes))
                for reader in self._readers.get(touched, ()) if writes else ():
                    semaphore = 0 if self.unit[reader] == unit else self._delays[SEMAPHORE]
                    if self.unit[reader] != unit or unit == _DMA:
                        times.append((self.idle_from[reader] + semaphore, 0, BUFFER_CAUSE))
        ready, _, why = max(times, key=lambda each: each[:2])
        return ready, why

    def _result(self, unit: int, writer: int, writes: bool) -> tuple[int, int, int]:
        """When a row's result is there for a row on `unit`, that reads or writes it."""
        if writes and unit == self.unit[writer] and unit != _DMA:
            return 0, 1, 0
        late = self.result_from[writer] == OTHER_CORE_CAUSE
        told = late or (unit != self.unit[writer] and self.unit[writer] != _DMA)
        time = self.done[writer] + (self._delays[SEMAPHORE] if told else 0)
        return time, int(not writes), BUFFER_CAUSE if writes else self.result_from[writer]
