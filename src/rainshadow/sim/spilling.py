"""Finds room for a kernel whose tiles do not fit: some are moved out of SBUF or PSUM and back.

AWS's first compiler does so by itself ("spilling"). The tile whose next use is farthest away goes
first (Belady): from PSUM to SBUF by VectorE, from SBUF to HBM by DMA, whole, and only where it has
been written since. What AWS's compiler would move is not published.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rainshadow.sim.placement import Accesses, Column, Lifetimes


@dataclass(frozen=True, slots=True)
class Move:
    """A tile leaves before a row, or comes back.

    tile: its number.  life: how often it has come back before, this time included.
    """

    row: int
    tile: int
    life: int
    is_save: bool


@dataclass(frozen=True, slots=True)
class Spills:
    """moves: in order.  life: per access, how often its tile has come back before."""

    moves: Sequence[Move]
    life: Column


def peak_bytes(accesses: Accesses, sizes: Column) -> int:
    """The most bytes that tiles of these sizes hold at one row, from first to last use."""
    lifetimes = Lifetimes.of(accesses, len(sizes))
    used = lifetimes.last >= 0
    change = np.zeros(len(accesses.access_end) + 1, dtype=np.int64)
    np.add.at(change, lifetimes.first[used], sizes[used])
    np.add.at(change, lifetimes.last[used] + 1, -sizes[used])
    return int(np.cumsum(change).max(initial=0))


def plan(accesses: Accesses, sizes: Column, capacity_bytes: int) -> Spills | None:
    """What to move so that at most `capacity_bytes` are held at any row.

    sizes: per tile; 0 for one that stays where it is.  None where one row needs more.
    """
    owner = accesses.owner[accesses.access >> 1]
    tile = np.where((owner >= 0) & (sizes[owner] > 0), owner, -1)
    rows = np.repeat(np.arange(len(accesses.access_end)), np.diff(accesses.access_end, prepend=0))
    walk = _Walk(sizes.tolist(), capacity_bytes)
    life = np.zeros(len(tile), dtype=np.int64)
    places = np.flatnonzero(tile >= 0)
    next_row = _next_rows(tile[places], rows[places])
    borders = np.flatnonzero(np.diff(rows[places], prepend=-1))
    tiles, writes = tile[places].tolist(), (accesses.access[places] & 1).tolist()
    for first, end in itertools.pairwise([*borders.tolist(), len(places)]):
        if not walk.step(
            int(rows[places[first]]), tiles[first:end], writes[first:end], next_row[first:end]
        ):
            return None
        life[places[first:end]] = [walk.lives.get(tile, 0) for tile in tiles[first:end]]
    return Spills(walk.moves, life)


#: The next row of a tile that none touches again.
_NEVER = 1 << 62


def _next_rows(tiles: Column, rows: Column) -> list[int]:
    """Per access, the next row that touches its tile."""
    result = np.full(len(tiles), _NEVER, dtype=np.int64)
    order = np.lexsort((rows, tiles))
    # Of one tile the rows rise; those of equal rows share what follows them.
    ordered, later = tiles[order], rows[order]
    following = np.full(len(order), _NEVER, dtype=np.int64)
    for position in range(len(order) - 2, -1, -1):
        if ordered[position] == ordered[position + 1]:
            same_row = later[position] == later[position + 1]
            following[position] = following[position + 1] if same_row else later[position + 1]
    result[order] = following
    return result.tolist()


@dataclass(slots=True)
class _Walk:
    """Which tiles are held, row after row.

    lives: of the tiles that have come back, how often.  held: the next row of each tile that is
    in the memory.  away: tiles that have left it.  changed: written since they were saved.
    """

    sizes: list[int]
    capacity_bytes: int
    moves: list[Move] = field(default_factory=list)
    lives: dict[int, int] = field(default_factory=dict)
    used_bytes: int = 0
    held: dict[int, int] = field(default_factory=dict)
    away: set[int] = field(default_factory=set)
    changed: set[int] = field(default_factory=set)
    saved: set[int] = field(default_factory=set)
    farthest: list[tuple[int, int]] = field(default_factory=list)

    def step(self, row: int, tiles: list[int], writes: list[int], next_row: list[int]) -> bool:
        """One row touches some tiles; False where they do not fit together."""
        needed = set(tiles)
        for tile in dict.fromkeys(tiles):
            if tile in self.held:
                continue
            if not self._make_room(row, self.sizes[tile], needed):
                return False
            self.used_bytes += self.sizes[tile]
            self.held[tile] = row
            if tile in self.away:
                self.away.discard(tile)
                self.lives[tile] = self.lives.get(tile, 0) + 1
                if tile in self.saved:  # else nothing has been written that could come back
                    self.moves.append(Move(row, tile, self.lives[tile], is_save=False))
        for tile, is_write, following in zip(tiles, writes, next_row, strict=True):
            if is_write:
                self.changed.add(tile)
            self.held[tile] = following
            heapq.heappush(self.farthest, (-following, tile))
        for tile in needed:
            if self.held[tile] == _NEVER:
                del self.held[tile]
                self.used_bytes -= self.sizes[tile]
        return True

    def _make_room(self, row: int, size: int, needed: set[int]) -> bool:
        kept: list[tuple[int, int]] = []
        while self.used_bytes + size > self.capacity_bytes and self.farthest:
            entry = heapq.heappop(self.farthest)
            tile = entry[1]
            if self.held.get(tile) != -entry[0]:
                continue  # it has been used since, or is gone
            if tile in needed:
                kept.append(entry)
                continue
            if tile in self.changed:
                self.changed.discard(tile)
                self.saved.add(tile)
                self.moves.append(Move(row, tile, self.lives.get(tile, 0), is_save=True))
            del self.held[tile]
            self.used_bytes -= self.sizes[tile]
            self.away.add(tile)
        for entry in kept:
            heapq.heappush(self.farthest, entry)
        return self.used_bytes + size <= self.capacity_bytes


@dataclass(slots=True)
class Rows:
    """The rows of a Trace in the making. dependencies, stored: (row, something) pairs."""

    signature: Column
    line: Column
    access: Column
    access_end: Column
    dependencies: Sequence[tuple[int, int]]
    stored: Sequence[tuple[int, int]]

    def with_moves(self, at: Column, added: Sequence[tuple[int, int, int, int]]) -> Rows:
        """With rows (signature, line, range read, range written) before the rows `at`."""
        table = np.array(added, dtype=np.int64).reshape(-1, 4)
        touched = np.stack([table[:, 3] * 2 + 1, table[:, 2] * 2], axis=1).reshape(-1)
        starts = np.append(0, self.access_end)[at]
        counts = np.insert(np.diff(self.access_end, prepend=0), at, 2)
        return Rows(
            np.insert(self.signature, at, table[:, 0]),
            np.insert(self.line, at, table[:, 1]),
            np.insert(self.access, np.repeat(starts, 2), touched),
            np.cumsum(counts).astype(np.int32),
            [(_after(at, row), _after(at, other)) for row, other in self.dependencies],
            [(_after(at, row), checksum) for row, checksum in self.stored],
        )


def _after(at: Column, row: int) -> int:
    """Where a row stands once rows have been added before the rows `at`."""
    return row + int(np.searchsorted(at, row, side="right"))


def relabelled(
    rows: Rows,
    life: Column,
    owner: Column,
    tiles: Mapping[tuple[int, int], int],
    elsewhere: Callable[[Column, Column], Column],
) -> Rows:
    """The accesses of tiles that have come back, to what they are then.

    owner: per access, its tile.  tiles: (tile, life) -> its new number.  elsewhere: the same
    ranges of other tiles.
    """
    access, places = rows.access.copy(), np.flatnonzero(life)
    keys = zip(owner[places].tolist(), life[places].tolist(), strict=True)
    numbers = np.array([tiles[key] for key in keys], dtype=np.int64)
    access[places] = elsewhere(access[places] >> 1, numbers) * 2 + (access[places] & 1)
    return replace(rows, access=access)
