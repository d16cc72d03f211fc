"""Knows which addresses of SBUF, PSUM and HBM are taken, and gives out free ones.

A tile's addresses are free again when nothing in the kernel refers to it. The next tile is
placed after the last one (next fit, wrapping round), so that consecutive tiles of a loop lie
in different places and a transfer into one can overlap work on another, as a compiler's
rotating allocation does. Timing sees the true reuse of addresses.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rainshadow.errors import CapacityError
from rainshadow.isa.memory import Space
from rainshadow.machine import Chip, NeuronCore

_SBUF_ALIGNMENT_BYTES = 32
_HBM_ALIGNMENT_BYTES = 64

#: (first, end) of a stretch of bytes, or of rows.
Stretch = tuple[int, int]


class Arena:
    """One address space of `capacity_bytes`, in units of `granule_bytes`.

    Errors: `CapacityError` that lists the largest live tensors when nothing fits.
    """

    def __init__(self, name: str, capacity_bytes: int, granule_bytes: int) -> None:
        self.name = name
        self.capacity_bytes = capacity_bytes // granule_bytes * granule_bytes
        self.granule_bytes = granule_bytes
        #: Bytes of the tiles whose addresses the kernel gives; placement goes round them.
        self.claimed_bytes = 0
        self.clear()

    def clear(self) -> None:
        """Everything is free, and the peak forgotten."""
        self.used_bytes = 0
        self.peak_bytes = 0
        self._free: list[Stretch] = [(0, self.capacity_bytes)]
        self._cursor = 0
        #: By first byte: label and bytes.
        self._live: dict[int, tuple[str, int]] = {}

    def rounded(self, size_bytes: int) -> int:
        """`size_bytes` in whole granules."""
        return -(-max(size_bytes, 1) // self.granule_bytes) * self.granule_bytes

    def allocate(self, size_bytes: int, label: str, avoid: Sequence[Stretch] = ()) -> int:
        """First byte of a free stretch of `size_bytes` that meets none of `avoid`.

        avoid: (first, end) byte of stretches that others will need, in order and disjoint.
        """
        at = self.take(size_bytes, label, avoid)
        if at < 0:
            raise self._full(self.rounded(size_bytes), label, avoid)
        return at

    def take(self, size_bytes: int, label: str, avoid: Sequence[Stretch] = ()) -> int:
        """As `allocate`, but -1 where nothing fits."""
        size = self.rounded(size_bytes)
        at = -1 if avoid else self._next(size)
        if at < 0:
            at = self._next_fit(size, avoid)
        if at >= 0:
            self._cursor = (at + size) % self.capacity_bytes
            self._hold(at, size, label)
        return at

    def take_snug(self, size_bytes: int, label: str) -> int:
        """As `take`, in the shortest stretch that is long enough; the cursor stays."""
        size = self.rounded(size_bytes)
        fits = [(end - start, index) for index, (start, end) in enumerate(self._free)]
        _, index = min((fit for fit in fits if fit[0] >= size), default=(0, -1))
        if index < 0:
            return -1
        at = self._free[index][0]
        self._take(index, at, size)
        self._hold(at, size, label)
        return at

    def _next_fit(self, size: int, avoid: Sequence[Stretch]) -> int:
        """Take `size` bytes of the first stretch from the cursor on that has them, or -1."""
        for index, first in self._from_cursor():
            for start, end in _outside(self._free[index], avoid):
                at = max(start, first)
                if end - at >= size:
                    self._take(index, at, size)
                    return at
        return -1

    def allocate_low(self, size_bytes: int, label: str, avoid: Sequence[Stretch] = ()) -> int:
        """As `allocate`, at the lowest address; the next tile is placed as if this one were not."""
        cursor, self._cursor = self._cursor, 0
        try:
            return self.allocate(size_bytes, label, avoid)
        finally:
            self._cursor = cursor

    def _next(self, size: int) -> int:
        """Take `size` bytes right at the cursor, or -1 where they are not free."""
        free, cursor = self._free, self._cursor
        index = bisect.bisect_right(free, (cursor, self.capacity_bytes + 1)) - 1
        if index < 0:
            return -1
        start, end = free[index]
        if end - cursor < size:
            return -1
        if start == cursor and end - cursor > size:
            free[index] = (cursor + size, end)
        else:
            self._take(index, cursor, size)
        return cursor

    def reserve(self, at: int, size_bytes: int, label: str) -> None:
        """Take the stretch that starts at `at`, which must be free."""
        size = self.rounded(size_bytes)
        index = bisect.bisect_right(self._free, (at, self.capacity_bytes + 1)) - 1
        assert index >= 0 and self._free[index][1] >= at + size, "the stretch is free"
        self._take(index, at, size)
        self._hold(at, size, label)

    def _hold(self, at: int, size: int, label: str) -> None:
        self._live[at] = label, size
        self.used_bytes += size
        if self.used_bytes > self.peak_bytes:
            self.peak_bytes = self.used_bytes

    def _from_cursor(self) -> Iterator[Stretch]:
        """Free stretches and from where on: in address order from the cursor, then from the start.

        The part of a stretch that lies before the cursor comes last, or a short stretch between
        two tiles that live long would be used over and over.
        """
        first = bisect.bisect_right(self._free, (self._cursor, self.capacity_bytes + 1)) - 1
        first = max(first, 0)
        for index in range(first, len(self._free)):
            yield index, self._cursor
        for index in range(min(first + 1, len(self._free))):
            yield index, 0

    def _take(self, index: int, at: int, size: int) -> None:
        start, end = self._free[index]
        rest = []
        if at > start:
            rest.append((start, at))
        if at + size < end:
            rest.append((at + size, end))
        self._free[index : index + 1] = rest

    def release(self, at: int) -> None:
        """The stretch that starts at `at` is free again."""
        _, size = self._live.pop(at)
        self.used_bytes -= size
        free, start, end = self._free, at, at + size
        index = bisect.bisect_left(free, (start, end))
        if index < len(free) and free[index][0] == end:
            end = free.pop(index)[1]
        if index > 0 and free[index - 1][1] == start:
            free[index - 1] = (free[index - 1][0], end)
        else:
            free.insert(index, (start, end))

    def _full(self, size: int, label: str, avoid: Sequence[Stretch]) -> CapacityError:
        largest = sorted(self._live.values(), key=lambda live: -live[1])[:8]
        listing = "; ".join(f"{label} {size} B" for label, size in largest)
        holes = (hole for free in self._free for hole in _outside(free, avoid))
        largest_hole = max((end - start for start, end in holes), default=0)
        given = f", {self.claimed_bytes} at addresses the kernel gives" if avoid else ""
        unit = "B per partition" if self.name != "hbm" else "B"
        return CapacityError(
            f"{label} needs {size} {unit} of {self.name}; {self.used_bytes} are in use{given} and "
            f"the largest free stretch is {largest_hole}. Live: {listing or 'nothing'}",
            allowed=f"{self.capacity_bytes} {unit}",
            fix=f"a tile of at most {largest_hole} {unit} fits here: use smaller tiles, or let "
            "tiles go out of scope before allocating more",
        )


def merged(stretches: Iterable[Stretch]) -> list[Stretch]:
    """In order of address, overlapping and touching ones joined."""
    result: list[Stretch] = []
    for start, end in sorted(set(stretches)):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def _outside(stretch: Stretch, avoid: Sequence[Stretch]) -> Iterator[Stretch]:
    """What is left of `stretch` without the stretches of `avoid`."""
    start, end = stretch
    for first, after in avoid:
        if after <= start:
            continue
        if first >= end:
            break
        if first > start:
            yield start, first
        start = after
    if start < end:
        yield start, end


@dataclass(slots=True)
class Memories:
    """The three address spaces of one core."""

    sbuf: Arena
    psum: Arena
    hbm: Arena

    @staticmethod
    def of(chip: Chip, core: NeuronCore) -> Memories:
        """The empty memories of one core."""
        sbuf, psum = core.sbuf, core.psum
        banks = int(psum.bank_bytes_per_partition.value)
        return Memories(
            sbuf=Arena("sbuf", int(sbuf.usable_bytes_per_partition.value), _SBUF_ALIGNMENT_BYTES),
            psum=Arena("psum", int(psum.bytes_per_partition.value), banks),
            hbm=Arena("hbm", chip.core_hbm_bytes, _HBM_ALIGNMENT_BYTES),
        )

    def arena(self, space: Space) -> Arena:
        """The address space that tensors of a memory space lie in."""
        if space is Space.sbuf:
            return self.sbuf
        return self.psum if space is Space.psum else self.hbm

    def peaks(self) -> dict[str, int]:
        """Peak bytes: per partition for sbuf and psum, in all for hbm.

        Addresses that the kernel gives count throughout, as far as that leaves them room.
        """
        return {
            arena.name: max(
                arena.claimed_bytes,
                min(arena.peak_bytes + arena.claimed_bytes, arena.capacity_bytes),
            )
            for arena in (self.sbuf, self.psum, self.hbm)
        }
