"""Numbers the source lines of a launch over all cores, equal for equal lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.errors import SourceLine
from rainshadow.sim.hazards.touches import Launch

Column = np.ndarray[Any, np.dtype[Any]]

#: Column of `Trace.tensors` that holds the line.
_LINE = 6


@dataclass(frozen=True, slots=True)
class Lines:
    """of_rows: int64[rows], of_tensors: int64[t]: the line's number, -1 for none."""

    of_rows: Column
    of_tensors: Column

    @staticmethod
    def of(launch: Launch) -> Lines:
        known: dict[SourceLine, int] = {}
        rows: list[Column] = []
        tensors = np.full(len(launch.tensors), -1, dtype=np.int64)
        for core, trace in reversed(list(enumerate(launch.traces))):
            number = np.array(
                [known.setdefault(line.source, len(known)) for line in trace.lines] or [-1]
            )
            rows.insert(0, np.append(number[trace.line], -1))
            line = trace.tensors[:, _LINE]
            tensors[launch.numbers[core]] = np.where(line >= 0, number[line], -1)
        return Lines(np.concatenate(rows), tensors)
