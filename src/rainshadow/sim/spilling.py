"""Finds room for a kernel whose tiles do not fit: some are moved out of SBUF or PSUM and back.

AWS's first compiler does so by itself ("spilling"). Tiles go in the order of `sim.eviction`: from
PSUM to SBUF by VectorE, from SBUF to HBM by DMA, whole, and only where they have been written
since. One that holds only what DMA has loaded from constant HBM is dropped, and loaded again. What
AWS's compiler would move is not published.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rainshadow.sim.eviction import Residents
from rainshadow.sim.memory import Arena
from rainshadow.sim.placement import Accesses, Column, Lifetimes


@dataclass(frozen=True, slots=True)
class Move:
    """A tile leaves before a row, or comes back.

    tile: its number.  life: how often it has come back before, this time included.
    loads: of one that comes back, the rows that load it again; () where it was saved.
    """

    row: int
    tile: int
    life: int
    is_save: bool
    loads: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Spills:
    """moves: in order.  life: per access, how often its tile has come back before.

    addresses: (tile, life) -> its first byte.
    """

    moves: Sequence[Move]
    life: Column
    addresses: Mapping[tuple[int, int], int]


def peak_bytes(accesses: Accesses, sizes: Column) -> int:
    """The most bytes that tiles of these sizes hold at one row, from first to last use."""
    lifetimes = Lifetimes.of(accesses, len(sizes))
    used = lifetimes.last >= 0
    change = np.zeros(len(accesses.access_end) + 1, dtype=np.int64)
    np.add.at(change, lifetimes.first[used], sizes[used])
    np.add.at(change, lifetimes.last[used] + 1, -sizes[used])
    return int(np.cumsum(change).max(initial=0))


def plan(
    accesses: Accesses,
    sizes: Column,
    move_s: Column,
    arena: Arena,
    headroom_bytes: int,
    is_load: Column,
) -> Spills | None:
    """What to move, and to where, so that all tiles find a place in a memory.

    sizes: per tile; 0 for one that lies elsewhere.  move_s: per tile, what bringing it back costs.
    arena: the memory; it is left as it is.  headroom_bytes: what of it stays free if it can.
    is_load: per row, whether it writes one tile and would write the same whenever it ran.  None
    where one row needs more than there is.
    """
    owner = accesses.owner[accesses.access >> 1]
    tile = np.where((owner >= 0) & (sizes[owner] > 0), owner, -1)
    rows = np.repeat(np.arange(len(accesses.access_end)), np.diff(accesses.access_end, prepend=0))
    empty = Arena(arena.name, arena.capacity_bytes, arena.granule_bytes)
    large_bytes = int(sizes.max(initial=0)) // _LARGE_SHARE
    worth = (sizes / move_s).tolist()
    there = Residents(empty, arena.capacity_bytes - headroom_bytes, large_bytes, worth)
    walk = _Walk(sizes.tolist(), there)
    life = np.zeros(len(tile), dtype=np.int64)
    places = np.flatnonzero(tile >= 0)
    next_row = _next_rows(tile[places], rows[places])
    borders = np.flatnonzero(np.diff(rows[places], prepend=-1))
    tiles, written = tile[places].tolist(), accesses.access[places].tolist()
    for first, end in itertools.pairwise([*borders.tolist(), len(places)]):
        row = int(rows[places[first]])
        if not walk.bring(row, tiles[first:end]):
            return None
        life[places[first:end]] = [walk.lives.get(tile, 0) for tile in tiles[first:end]]
        for touched, access in zip(tiles[first:end], written[first:end], strict=True):
            if access & 1:
                walk.note_write(row, touched, access >> 1, bool(is_load[row]))
        walk.use(tiles[first:end], next_row[first:end])
    return Spills(walk.moves, life, walk.addresses)


#: A tile of at least 1 / _LARGE_SHARE of the largest is large.
_LARGE_SHARE = 16
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

    there: the tiles that are in the memory.  away: tiles that have left it.  lives: of the tiles
    that have come back, how often.  addresses: as in `Spills`.  changed: written since they were
    saved.  saved: tiles of which there is a copy.  loads: by tile, what it holds: the rows that
    loaded it, by their range; None where something else has written to it.
    """

    sizes: list[int]
    there: Residents
    moves: list[Move] = field(default_factory=list)
    lives: dict[int, int] = field(default_factory=dict)
    addresses: dict[tuple[int, int], int] = field(default_factory=dict)
    away: set[int] = field(default_factory=set)
    changed: set[int] = field(default_factory=set)
    saved: set[int] = field(default_factory=set)
    loads: dict[int, dict[int, int] | None] = field(default_factory=dict)

    def bring(self, row: int, tiles: list[int]) -> bool:
        """All of a row's tiles into the memory; False where they do not fit together."""
        needed = dict.fromkeys(tiles)
        self.there.now = row
        if all(self._enter(row, tile, needed) for tile in needed if tile not in self.there.at):
            return True
        if sum(map(self._rounded, needed)) > self.there.arena.capacity_bytes:
            return False
        self._start_over(row, needed)
        return True

    def _start_over(self, row: int, needed: Iterable[int]) -> None:
        """Where those that must stay leave no stretch between them: all go, these lie in a row."""
        for tile in list(self.there.at):
            self._evict(row, tile)
        first = 0
        for tile in needed:
            self.there.put_at(tile, first, self.sizes[tile])
            self._arrive(row, tile)
            first += self._rounded(tile)

    def _rounded(self, tile: int) -> int:
        return self.there.arena.rounded(self.sizes[tile])

    def _enter(self, row: int, tile: int, needed: Collection[int]) -> bool:
        """A tile into the memory, unless those that must stay leave no stretch for it."""
        there, size = self.there, self.sizes[tile]
        for other in there.beyond(size, needed):
            self._evict(row, other)
        if not there.put(tile, size):
            found = there.stretch(size, needed)
            if found is None:
                return False
            at, others = found
            for other in others:
                self._evict(row, other)
            there.put_at(tile, at, size)
        self._arrive(row, tile)
        return True

    def _arrive(self, row: int, tile: int) -> None:
        if tile in self.away:
            self.away.discard(tile)
            self.lives[tile] = self.lives.get(tile, 0) + 1
            self._bring_back(row, tile)
        self.there.use(tile, row)
        self.addresses[tile, self.lives.get(tile, 0)] = self.there.at[tile]

    def _bring_back(self, row: int, tile: int) -> None:
        loads = tuple((self.loads.get(tile) or {}).values())
        if tile in self.saved or loads:  # else nothing has been written that could come back
            self.moves.append(Move(row, tile, self.lives[tile], is_save=False, loads=loads))

    def _evict(self, row: int, tile: int) -> None:
        if tile in self.changed:
            self.changed.discard(tile)
            self.saved.add(tile)
            self.moves.append(Move(row, tile, self.lives.get(tile, 0), is_save=True))
        self.there.remove(tile)
        self.away.add(tile)

    def note_write(self, row: int, tile: int, range_number: int, is_load: bool) -> None:
        """What a tile holds from this row on."""
        loads = self.loads.setdefault(tile, {})
        if not is_load:
            self.loads[tile] = None
        elif loads is not None:
            loads.pop(range_number, None)  # the later one comes last
            loads[range_number] = row
        if self.loads[tile] is None:
            self.changed.add(tile)

    def use(self, tiles: list[int], next_row: list[int]) -> None:
        """A row has used its tiles; those that none uses again are gone."""
        for tile, following in zip(tiles, next_row, strict=True):
            if following != _NEVER:
                self.there.use(tile, following)
            elif tile in self.there.at:
                self.there.remove(tile)


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
