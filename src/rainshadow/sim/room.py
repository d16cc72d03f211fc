"""Makes room for the tiles of a recorded launch where they do not fit, by `sim.spilling`'s plan.

Tiles in PSUM move to SBUF by VectorE, tiles in SBUF to HBM by DMA; a tile that has come back is a
tile of its own to placement, at an address of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from rainshadow.errors import CapacityError
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.instruction import Instruction
from rainshadow.isa.instructions.dma_copy import DmaCopy
from rainshadow.isa.instructions.tensor_copy import TensorCopy
from rainshadow.isa.memory import Buffer, Space
from rainshadow.isa.strides import contiguous_strides
from rainshadow.sim.placement import Accesses, Column, place
from rainshadow.sim.spilling import Move, Rows, peak_bytes, plan, relabelled
from rainshadow.sim.trace import SPILLED

if TYPE_CHECKING:
    from rainshadow.sim.recorder import Recorder

#: Shares of SBUF that are filled, one after another, until placement finds stretches long enough.
_SHARES = (1.0, 0.9, 0.75, 0.5)
#: AWS: "Memory hierarchy overview" of NKI's guide, on live data beyond a memory's capacity.
_SPILL_ADVICE = (
    "AWS's compiler may move tiles to the next memory and back: --spill model or "
    "RAINSHADOW_SPILL=model shows what that costs"
)


def placed(recorder: Recorder, rows: Rows) -> tuple[Rows, Column]:
    """The rows, with moves where the kernel's compiler makes some, and every tile's address.

    Where the kernel gives addresses, its compiler leaves all tiles where they are.
    Errors: `CapacityError` where tiles do not fit.
    """
    try:
        return rows, _place(recorder, rows)
    except CapacityError as error:
        requests = recorder.tensors.requests(recorder.lines)
        if any(request.at is not None for request in requests):
            raise
        if not recorder.may_spill:
            error.fix = f"{error.fix}; {_SPILL_ADVICE}"
            raise
        first = error
    slots: dict[int, Buffer] = {}
    for share in _SHARES:
        memories = recorder.memories
        in_psum = _within(recorder, rows, Space.psum, memories.psum.capacity_bytes, slots)
        if in_psum is None:
            break
        filled = int(memories.sbuf.capacity_bytes * share)
        in_both = _within(recorder, in_psum, Space.sbuf, filled, slots)
        if in_both is None:
            break
        try:
            return in_both, _place(recorder, in_both)
        except CapacityError:
            continue
    raise first


def _accesses(recorder: Recorder, rows: Rows) -> Accesses:
    owner = np.maximum(recorder.ranges.ordinals, -1)
    return Accesses(rows.access, rows.access_end, owner)


def _place(recorder: Recorder, rows: Rows) -> Column:
    requests = recorder.tensors.requests(recorder.lines)
    return place(requests, _accesses(recorder, rows), recorder.memories)


def _within(
    recorder: Recorder, rows: Rows, space: Space, capacity: int, slots: dict[int, Buffer]
) -> Rows | None:
    """The rows with moves after which a space holds `capacity` bytes; None if nothing helps.

    slots: what tiles have moved to so far.
    """
    arena, accesses = recorder.memories.arena(space), _accesses(recorder, rows)
    sizes = np.array(
        [
            arena.rounded(request.size_bytes) if request.space is space else 0
            for request in recorder.tensors.requests(recorder.lines)
        ],
        dtype=np.int64,
    )
    if peak_bytes(accesses, sizes) <= capacity:
        return rows
    spills = plan(accesses, sizes, capacity)
    if spills is None:
        return None
    owner = accesses.owner[rows.access >> 1]
    tiles: dict[tuple[int, int], int] = {}
    added = [entry for move in spills.moves for entry in _added(recorder, move, tiles, slots)]
    for tile, life in sorted(set(zip(owner.tolist(), spills.life.tolist(), strict=True))):
        if life and (tile, life) not in tiles:
            tiles[tile, life] = _another(recorder, tile).ordinal
    moved = relabelled(rows, spills.life, owner, tiles, recorder.ranges.elsewhere)
    at = np.array([move.row for move in spills.moves], dtype=np.int64)
    return moved.with_moves(at, added)


def _added(
    recorder: Recorder,
    move: Move,
    tiles: dict[tuple[int, int], int],
    slots: dict[int, Buffer],
) -> Iterator[tuple[int, int, int, int]]:
    """(signature, line, range read, range written) of a move."""
    if move.life and (move.tile, move.life) not in tiles:
        tiles[move.tile, move.life] = _another(recorder, move.tile).ordinal
    line = recorder.tensors.line(move.tile)
    here = _whole(recorder.tensors.tile(tiles.get((move.tile, move.life), move.tile)))
    if move.tile not in slots:
        slots[move.tile] = _slot(recorder, here, line)
    there = _whole(slots[move.tile])
    dst, src = (there, here) if move.is_save else (here, there)
    by_dma = here.space is Space.sbuf
    instr: Instruction = DmaCopy(dst, src) if by_dma else TensorCopy(dst, src)
    number = recorder.ranges.number
    yield recorder.signature_of(instr), line, number(src), number(dst)


def _another(recorder: Recorder, tile: int) -> Buffer:
    """A new tile like a recorded one."""
    buffer = recorder.tensors.tile(tile)
    recorder.enter(buffer, recorder.tensors.line(tile))
    return buffer


def _slot(recorder: Recorder, tile: AccessPattern, line: int) -> Buffer:
    """Where a tile's bytes lie while they are away."""
    space = Space.sbuf if tile.space is Space.psum else Space.private_hbm
    name = f"spilled {tile.name}"
    buffer = Buffer(space=space, shape=tile.shape, dtype=tile.dtype, name=name)
    recorder.enter(buffer, line, SPILLED)
    return buffer


def _whole(buffer: Buffer) -> AccessPattern:
    return AccessPattern(buffer, buffer.dtype, buffer.shape, contiguous_strides(buffer.shape))
