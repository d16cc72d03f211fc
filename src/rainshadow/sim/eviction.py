"""Knows where the tiles of a memory lie, and which of them leave so that another finds a stretch.

First goes what frees its bytes the longest for the time that its move takes: of tiles of one kind
the one whose next use is farthest away (Belady), but rather tiles that are moved at full speed than
small ones. What comes in their place needs bytes that follow each other: of all stretches that are
long enough, the one is freed whose tiles are the most willing to go.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from rainshadow.sim.memory import Arena


@dataclass(slots=True)
class Residents:
    """The tiles in one memory.

    arena: the memory, for these tiles alone.  limit_bytes: how much of it they fill if they can.
    large_bytes: the least of a large tile; smaller ones lie where they leave long stretches whole.
    worth: of each tile, bytes that it frees for a second of moving.  now: the row that runs.
    at: first byte of each tile.  next_row: the row that uses each tile next.
    """

    arena: Arena
    limit_bytes: int
    large_bytes: int
    worth: Sequence[float]
    now: int = 0
    at: dict[int, int] = field(default_factory=dict)
    next_row: dict[int, int] = field(default_factory=dict)
    #: (first, end) byte and tile, in order.
    _order: list[tuple[int, int, int]] = field(default_factory=list)
    #: By worth: (-next row, tile), some of them out of date.
    _farthest: dict[float, list[tuple[int, int]]] = field(default_factory=dict)

    def beyond(self, size: int, needed: Collection[int]) -> Iterator[int]:
        """Who leaves, one after another, until there is room for `size` bytes within the limit."""
        while self.arena.used_bytes + self.arena.rounded(size) > self.limit_bytes:
            tile = self._first_to_go(needed)
            if tile is None:
                return
            yield tile

    def put(self, tile: int, size: int) -> bool:
        """Place a tile in a free stretch; False where none is long enough."""
        take = self.arena.take if size >= self.large_bytes else self.arena.take_snug
        at = take(size, "")
        if at >= 0:
            self._enter(tile, at, size)
        return at >= 0

    def put_at(self, tile: int, at: int, size: int) -> None:
        """Place a tile where nothing is."""
        self.arena.reserve(at, size, "")
        self._enter(tile, at, size)

    def _enter(self, tile: int, at: int, size: int) -> None:
        self.at[tile] = at
        bisect.insort(self._order, (at, at + self.arena.rounded(size), tile))

    def use(self, tile: int, next_row: int) -> None:
        """A tile is used now, and then in row `next_row`."""
        self.next_row[tile] = next_row
        heapq.heappush(self._farthest.setdefault(self.worth[tile], []), (-next_row, tile))

    def remove(self, tile: int) -> None:
        """A tile leaves."""
        at = self.at.pop(tile)
        self.next_row.pop(tile, None)
        del self._order[bisect.bisect_left(self._order, (at, 0, 0))]
        self.arena.release(at)

    def stretch(self, size: int, needed: Collection[int]) -> tuple[int, list[int]] | None:
        """First byte of the stretch to free for `size` bytes, and who lies there.

        needed: who must stay.  None where they leave no stretch long enough.
        """
        size = self.arena.rounded(size)
        alone = self._first_to_go(needed)
        if alone is not None:
            first, end = self._round(alone)
            if end - first >= size:
                return first, [alone]
        best: tuple[float, int, int] | None = None
        for first in self._starts(size):
            inside = self._inside(first, first + size)
            if any(tile in needed for tile in inside):
                continue
            willing = min(map(self._willing, inside), default=0.0)
            score = willing, -len(inside), -first
            if best is None or score > best:
                best = score
        return None if best is None else (-best[2], self._inside(-best[2], -best[2] + size))

    def _willing(self, tile: int) -> float:
        return (self.next_row[tile] - self.now) * self.worth[tile]

    def _first_to_go(self, needed: Collection[int]) -> int | None:
        farthest = (self._last_used(heap, needed) for heap in self._farthest.values())
        found = [tile for tile in farthest if tile is not None]
        return max(found, key=self._willing, default=None)

    def _last_used(self, heap: list[tuple[int, int]], needed: Collection[int]) -> int | None:
        """The tile of a heap whose next use is farthest away."""
        kept: list[tuple[int, int]] = []
        found = None
        while heap and found is None:
            negative, tile = heap[0]
            if self.next_row.get(tile) != -negative:
                heapq.heappop(heap)  # it has been used since, or is gone
            elif tile in needed:
                kept.append(heapq.heappop(heap))
            else:
                found = tile
        for entry in kept:
            heapq.heappush(heap, entry)
        return found

    def _round(self, tile: int) -> tuple[int, int]:
        """The stretch that is free when a tile leaves."""
        index = bisect.bisect_left(self._order, (self.at[tile], 0, 0))
        first = self._order[index - 1][1] if index else 0
        behind = index + 1 < len(self._order)
        return first, self._order[index + 1][0] if behind else self.arena.capacity_bytes

    def _starts(self, size: int) -> Iterator[int]:
        """Where a stretch may begin: beside a tile, where a tile begins, and so that it ends so."""
        most = self.arena.capacity_bytes - size
        sides = [(first, end, first - size, end - size) for first, end, _ in self._order]
        for start in (0, most, *chain.from_iterable(sides)):
            if 0 <= start <= most:
                yield start

    def _inside(self, first: int, end: int) -> list[int]:
        """The tiles that lie in [first, end), or partly."""
        index = bisect.bisect_left(self._order, (first, 0, 0))
        if index and self._order[index - 1][1] > first:
            index -= 1
        inside = []
        while index < len(self._order) and self._order[index][0] < end:
            inside.append(self._order[index][2])
            index += 1
        return inside
