"""Splits memory into atoms: the largest pieces of which every access touches all or nothing.

What holds for one byte of an atom holds for all of it, so checks look at atoms, not at bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.isa.footprint import BOUNDS

Column = np.ndarray[Any, np.dtype[Any]]

#: Columns of a footprint (`isa.footprint`).
PARTITION, PARTITIONS, FIRST, RUN, FLAGS = range(5)
_PAIRS = 5
#: A footprint of more runs is known by its bounds.
MAX_RUNS = 1 << 22
#: With more cells of equal size than this, cells end where some run starts or ends.
_MAX_CELLS = 1 << 23


@dataclass(frozen=True, slots=True)
class Atoms:
    """The atoms that some footprints have in common.

    end: int64[f]; footprint i consists of the atoms numbers[end[i-1]:end[i]].
    size_bytes: int64[a], over all partitions.
    """

    end: Column
    numbers: Column
    size_bytes: Column

    @property
    def count(self) -> int:
        return len(self.size_bytes)


def coarse(footprints: Column) -> Column:
    """The same, those of very many runs given by their bounds and flagged so."""
    counts = np.maximum(footprints[:, _PAIRS + 1 :: 2], 1)
    many = np.flatnonzero(counts.prod(axis=1, dtype=np.float64) > MAX_RUNS)
    if not len(many):
        return footprints
    result = footprints.copy()
    result[many, RUN] += _reach(footprints[many])
    result[many, _PAIRS:] = 0
    result[many, FLAGS] |= BOUNDS
    return result


def split(footprints: Column) -> Atoms:
    """Atoms of footprints of one piece of memory.

    A byte's atom is the set of footprints that hold it, known by the sum of a random number of
    each: that two sets among a million have one sum has a chance of 1 in 10 million.
    """
    number = len(footprints)
    if number == 1:
        size = footprints[:, PARTITIONS] * footprints[:, RUN]
        size = size * np.maximum(footprints[:, _PAIRS + 1 :: 2], 1).prod(axis=1)
        return Atoms(np.ones(1, dtype=np.int64), np.zeros(1, dtype=np.int64), size)
    grid = _Grid.of(footprints)
    sums = np.zeros(grid.shape, dtype=np.uint64)
    marks = np.random.default_rng(0).integers(1, 1 << 63, number, dtype=np.uint64)
    for mark, footprint in zip(marks, footprints.tolist(), strict=True):
        grid.add(sums, footprint, mark)
    found, label = np.unique(sums, return_inverse=True)
    label = label.reshape(grid.shape)
    untouched = int(found[0] == 0)
    size = np.bincount(label.ravel(), weights=grid.cell_bytes().ravel(), minlength=len(found))
    numbers = list(_members(grid, label, footprints, len(found)))
    return Atoms(
        end=np.cumsum([len(some) for some in numbers], dtype=np.int64),
        numbers=np.concatenate(numbers) - untouched,
        size_bytes=size[untouched:].astype(np.int64),
    )


def _members(grid: _Grid, label: Column, footprints: Column, count: int) -> Iterator[Column]:
    """Per footprint the labels in it."""
    inside = np.zeros(count, dtype=bool)
    for footprint in footprints.tolist():
        inside[grid.cells(label, footprint)] = True
        members = np.flatnonzero(inside)
        inside[members] = False
        yield members


def _reach(footprints: Column) -> Column:
    """Bytes from the start of the first run to the start of the last."""
    strides, counts = footprints[:, _PAIRS::2], np.maximum(footprints[:, _PAIRS + 1 :: 2], 1)
    reach: Column = (strides * (counts - 1)).sum(axis=1)
    return reach


def _pairs(footprint: list[int]) -> list[tuple[int, int]]:
    """(stride, count) pairs in use."""
    pairs = zip(footprint[_PAIRS::2], footprint[_PAIRS + 1 :: 2], strict=True)
    return [pair for pair in pairs if pair[1]]


def _starts(footprint: list[int]) -> Column:
    """First byte of every run, each once, in order."""
    starts = np.array([footprint[FIRST]], dtype=np.int64)
    for stride, count in _pairs(footprint):
        starts = (starts[:, None] + stride * np.arange(count)).reshape(-1)
    return np.unique(starts)


@dataclass(frozen=True, slots=True)
class _Grid:
    """Cells, [partitions cut where some footprint starts or ends, bytes].

    unit: bytes of a cell, 0 where cells end at `edges`.
    """

    partitions: Column
    first: int
    unit: int
    edges: Column
    shape: tuple[int, int]

    @staticmethod
    def of(footprints: Column) -> _Grid:
        start, end = footprints[:, PARTITION], footprints[:, PARTITION] + footprints[:, PARTITIONS]
        partitions = np.unique(np.concatenate([start, end]))
        first = int(footprints[:, FIRST].min())
        last = int((footprints[:, FIRST] + footprints[:, RUN] + _reach(footprints)).max())
        unit = int(
            np.gcd.reduce(
                np.concatenate(
                    [
                        footprints[:, FIRST] - first,
                        footprints[:, RUN],
                        footprints[:, _PAIRS::2].ravel(),
                    ]
                )
            )
        )
        rows = len(partitions) - 1
        columns = (last - first) // unit
        edges = np.zeros(0, dtype=np.int64)
        if rows * columns > _MAX_CELLS:
            ends = [starts for row in footprints.tolist() for starts in _run_edges(row)]
            edges, unit = np.unique(np.concatenate(ends)), 0
            columns = len(edges) - 1
        return _Grid(partitions, first, unit, edges, (rows, columns))

    def cell_bytes(self) -> Column:
        """Bytes of each cell over its partitions."""
        width = np.diff(self.edges) if not self.unit else np.full(self.shape[1], self.unit)
        return np.diff(self.partitions)[:, None] * width[None, :]

    def add(self, plane: Column, footprint: list[int], value: Any) -> None:
        """Add to the cells of a footprint."""
        rows = self._rows(plane, footprint)
        view = self._strided(rows, footprint)
        if view is not None:
            view += value
        else:
            rows[:, self._columns(footprint)] += value

    def cells(self, plane: Column, footprint: list[int]) -> Column:
        """The values of `plane` in a footprint."""
        rows = self._rows(plane, footprint)
        view = self._strided(rows, footprint)
        return rows[:, self._columns(footprint)] if view is None else view

    def _rows(self, plane: Column, footprint: list[int]) -> Column:
        start = footprint[PARTITION]
        first, end = np.searchsorted(self.partitions, [start, start + footprint[PARTITIONS]])
        rows: Column = plane[first:end]
        return rows

    def _strided(self, rows: Column, footprint: list[int]) -> Column | None:
        """The cells as a view, None where a view would hold some twice."""
        if not self.unit:
            return None
        run = footprint[RUN] // self.unit
        pairs = [(stride // self.unit, count) for stride, count in _pairs(footprint)]
        extent = run
        for stride, count in reversed(pairs):
            if stride < extent:
                return None
            extent += stride * (count - 1)
        item = rows.strides[1]
        start = (footprint[FIRST] - self.first) // self.unit
        return np.lib.stride_tricks.as_strided(
            rows[:, start:],
            (len(rows), *(count for _, count in pairs), run),
            (rows.strides[0], *(stride * item for stride, _ in pairs), item),
        )

    def _columns(self, footprint: list[int]) -> Column:
        starts = _starts(footprint)
        if self.unit:
            first = (starts - self.first) // self.unit
            end = first + footprint[RUN] // self.unit
        else:
            first = np.searchsorted(self.edges, starts)
            end = np.searchsorted(self.edges, starts + footprint[RUN])
        return np.unique(expand(first, end - first))


def _run_edges(footprint: list[int]) -> tuple[Column, Column]:
    starts = _starts(footprint)
    return starts, starts + footprint[RUN]


def expand(first: Column, length: Column) -> Column:
    """first[0], first[0] + 1, ... `length[0]` of them, then those of first[1], and so on."""
    ends = np.cumsum(length)
    total = int(ends[-1]) if len(ends) else 0
    result: Column = np.arange(total) + np.repeat(first - (ends - length), length)
    return result
