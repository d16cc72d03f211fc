"""Knows how a matmul is cut into blocks whose panels fit into SBUF, at the least HBM traffic.

How the blocks are loaded and multiplied is left to `panels` and `matmul`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rainshadow.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Chunks of A, chunks of B and slabs of K in one block, and which operand stays longer.

    a_outer: the loop over A's blocks is outside that over B's.  Buffers: SBUF copies of each
    panel.  sums: K is split, so partial sums are kept in SBUF.
    """

    a_chunks: int
    b_chunks: int
    slabs: int
    a_outer: bool
    a_buffers: int
    b_buffers: int
    sums: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Extents:
    """The whole problem in the units that blocks are made of; *_bytes per partition.

    a_chunk_bytes, b_chunk_bytes: of one chunk in one slab.  sum_bytes: float32 sums of one chunk
    of A by one chunk of B.  a_turned, b_turned: the operand must be transposed when loaded.
    """

    a_chunks: int
    b_chunks: int
    slabs: int
    batch: int
    a_chunk_bytes: int
    b_chunk_bytes: int
    sum_bytes: int
    a_turned: bool
    b_turned: bool

    @property
    def total_sum_bytes(self) -> int:
        """float32 bytes of the whole result per partition."""
        return self.a_chunks * self.b_chunks * self.sum_bytes


#: Loading a turned operand again costs its transposes again; counted like its bytes once more.
_TURN_WEIGHT = 2
#: VectorE adds to partial sums about as fast as HBM delivers, but beside it.
_SUM_WEIGHT = 0.5


def _divisors(value: int) -> list[int]:
    return [d for d in range(1, value + 1) if value % d == 0]


def _candidates(extents: Extents) -> Iterator[Blocks]:
    for slabs in _divisors(extents.slabs):
        for a_chunks in _divisors(extents.a_chunks):
            for b_chunks in _divisors(extents.b_chunks):
                for a_outer in (True, False):
                    yield _blocks(extents, a_chunks, b_chunks, slabs, a_outer=a_outer)


def _blocks(extents: Extents, a_chunks: int, b_chunks: int, slabs: int, *, a_outer: bool) -> Blocks:
    num_a, num_b = extents.a_chunks // a_chunks, extents.b_chunks // b_chunks
    split = slabs < extents.slabs
    a_loads = extents.batch * num_a * (1 if a_outer or num_b == 1 else num_b)
    b_loads = extents.batch * num_b * (1 if not a_outer or num_a == 1 else num_a)
    return Blocks(
        a_chunks=a_chunks,
        b_chunks=b_chunks,
        slabs=slabs,
        a_outer=a_outer,
        a_buffers=2 if a_loads > 1 or split else 1,
        b_buffers=2 if b_loads > 1 or split else 1,
        sums=split,
    )


def footprint_bytes(extents: Extents, blocks: Blocks) -> int:
    """SBUF bytes per partition that the panels and partial sums of `blocks` take."""
    panels = blocks.slabs * (
        blocks.a_chunks * extents.a_chunk_bytes * blocks.a_buffers
        + blocks.b_chunks * extents.b_chunk_bytes * blocks.b_buffers
    )
    return panels + (blocks.a_chunks * blocks.b_chunks * extents.sum_bytes if blocks.sums else 0)


def _traffic(extents: Extents, blocks: Blocks) -> float:
    """Bytes moved per partition: panels loaded, transposes weighed in, partial sums updated."""
    num_a = extents.a_chunks // blocks.a_chunks
    num_b = extents.b_chunks // blocks.b_chunks
    a_times = 1 if blocks.a_outer and not blocks.sums else num_b
    b_times = 1 if not blocks.a_outer and not blocks.sums else num_a
    a = extents.a_chunks * extents.slabs * extents.a_chunk_bytes * a_times
    b = extents.b_chunks * extents.slabs * extents.b_chunk_bytes * b_times
    panels = a * (_TURN_WEIGHT if extents.a_turned else 1)
    panels += b * (_TURN_WEIGHT if extents.b_turned else 1)
    if not blocks.sums:
        return panels
    return panels + _SUM_WEIGHT * (extents.slabs // blocks.slabs) * extents.total_sum_bytes


def needed_bytes(extents: Extents, blocks: Blocks) -> int:
    """The footprint and as much again as the largest panel.

    Tiles get their addresses when they are first used, so that smaller ones split the free
    space; a panel finds a place for certain only where there is room to spare.
    """
    largest = blocks.slabs * max(
        blocks.a_chunks * extents.a_chunk_bytes, blocks.b_chunks * extents.b_chunk_bytes
    )
    return footprint_bytes(extents, blocks) + largest


def choose_blocks(choices: Sequence[Extents], budget_bytes: int) -> tuple[Extents, Blocks]:
    """The feasible blocks with the least traffic; ties go to fewer splits of K, then fewer blocks.

    choices: the same problem in chunks of several widths.
    Errors: `InputError` if not even one chunk of each operand fits.
    """
    best: tuple[tuple[float, ...], Extents, Blocks] | None = None
    for extents in choices:
        for blocks in _candidates(extents):
            size = needed_bytes(extents, blocks)
            if size > budget_bytes:
                continue
            count = (extents.a_chunks // blocks.a_chunks) * (extents.b_chunks // blocks.b_chunks)
            traffic = _traffic(extents, blocks)
            rank = (traffic, float(blocks.sums), -blocks.slabs, count, size)
            if best is None or rank < best[0]:
                best = (rank, extents, blocks)
    if best is None:
        extents = choices[-1]
        smallest = needed_bytes(extents, _blocks(extents, 1, 1, 1, a_outer=True))
        raise InputError(
            f"matmul panels need {smallest} bytes of SBUF per partition",
            allowed=f"{budget_bytes} bytes",
            fix="give the matmul more of SBUF",
        )
    return best[1], best[2]
