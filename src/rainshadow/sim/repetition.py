"""Finds the rows of a Trace that repeat those before them, as loops do, whatever the chip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.sim.waits import Waits

Column = np.ndarray[Any, np.dtype[Any]]

_ODD = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xFF51AFD7ED558CCD)
#: Periods that are tried, those that may cover most rows first.
_TRIED = 12
#: A run shorter than this many rows or periods is not worth looking for.
_LEAST_ROWS, _LEAST_PERIODS = 1024, 6


@dataclass(frozen=True, slots=True)
class Run:
    """Rows first to end are, with all that they wait for, as those `period` rows before them."""

    first: int
    end: int
    period: int


def runs_of(signature: Column, waits: Waits) -> list[Run]:
    """The longest runs, in order, none meeting another."""
    prints = _prints(signature, waits)
    found: list[Run] = []
    for period in _periods(prints):
        same = prints[period:] == prints[:-period]
        edges = np.flatnonzero(np.diff(same, prepend=False, append=False)) + period
        least = max(_LEAST_ROWS, _LEAST_PERIODS * period)
        begins, ends = edges[::2], edges[1::2]
        long = ends - begins >= least
        found += [
            Run(begin, end, period)
            for begin, end in zip(begins[long].tolist(), ends[long].tolist(), strict=True)
        ]
    return _apart(found)


def _prints(signature: Column, waits: Waits) -> Column:
    """uint64[n]: equal for rows of equal signatures that wait for rows as far before them."""
    counts = np.diff(waits.end, prepend=0)
    rows = np.repeat(np.arange(len(signature)), counts)
    mixed = ((rows - waits.producer) * 8 + waits.flags).astype(np.uint64)
    nth = np.arange(len(rows)) - np.repeat(waits.end - counts, counts)
    mixed = (mixed + nth.astype(np.uint64) * np.uint64(_ODD[1])) * np.uint64(_ODD[0])
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(_ODD[2])
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(mixed, dtype=np.uint64)])
    own = sums[waits.end] - sums[waits.end - counts]
    mark = (signature.astype(np.uint64) * np.uint64(64) + counts.astype(np.uint64)) * np.uint64(
        _ODD[1]
    )
    return own ^ mark ^ (mark >> np.uint64(31))


def _periods(prints: Column) -> list[int]:
    """Distances between equal rows, those that may cover most rows first."""
    if len(prints) < _LEAST_ROWS:
        return []
    order = np.argsort(prints, kind="stable")
    again = prints[order[1:]] == prints[order[:-1]]
    distances, counts = np.unique((order[1:] - order[:-1])[again], return_counts=True)
    covered = np.minimum(distances * counts, len(prints))
    best = np.lexsort((distances, -covered))[:_TRIED]
    return [int(distances[number]) for number in best]


def _apart(runs: list[Run]) -> list[Run]:
    """Longest first, each cut to what the longer ones leave."""
    kept: list[Run] = []
    for run in sorted(runs, key=lambda run: run.period * _LEAST_PERIODS - run.end + run.first):
        if all(run.end <= other.first or run.first >= other.end for other in kept):
            kept.append(run)
    return sorted(kept, key=lambda run: run.first)
