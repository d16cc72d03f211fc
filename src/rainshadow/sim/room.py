"""Makes room for the tiles of a recorded launch where they do not fit, by `sim.spilling`'s plan.

Tiles in PSUM move to SBUF by VectorE, tiles in SBUF to HBM by DMA, or are loaded again; a tile that
has come back is a tile of its own to placement, at the address that the plan has for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rainshadow.errors import CapacityError
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.instruction import Instruction, make_signature, work_of
from rainshadow.isa.instructions.dma_copy import DmaCopy
from rainshadow.isa.instructions.tensor_copy import TensorCopy
from rainshadow.isa.memory import Buffer, Space
from rainshadow.isa.strides import contiguous_strides
from rainshadow.sim.placement import Accesses, Column, place
from rainshadow.sim.spilling import Move, Rows, peak_bytes, plan, relabelled
from rainshadow.sim.trace import RELOADED, SPACES, SPILLED

if TYPE_CHECKING:
    from rainshadow.sim.recorder import Recorder

#: Instructions that copy from HBM, and would copy the same again.
_LOADS = frozenset({"dma_copy", "dma_transpose"})
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
        return rows, _place(recorder, rows, {})
    except CapacityError as error:
        requests = recorder.tensors.requests(recorder.lines)
        if any(request.at is not None for request in requests):
            raise
        if not recorder.may_spill:
            error.fix = f"{error.fix}; {_SPILL_ADVICE}"
            raise
        first = error
    slots: dict[int, Buffer] = {}
    for every in (False, True):
        moved: Rows | None = rows
        planned: dict[int, int] = {}
        for space in (Space.psum, Space.sbuf):
            moved = moved and _within(recorder, moved, space, slots, planned, every=every)
        if moved is None:
            break
        try:
            return moved, _place(recorder, moved, planned)
        except CapacityError:
            continue
    raise first


def _accesses(recorder: Recorder, rows: Rows) -> Accesses:
    owner = np.maximum(recorder.ranges.ordinals, -1)
    return Accesses(rows.access, rows.access_end, owner)


def _place(recorder: Recorder, rows: Rows, planned: Mapping[int, int]) -> Column:
    requests = recorder.tensors.requests(recorder.lines)
    return place(requests, _accesses(recorder, rows), recorder.memories, planned)


def _within(
    recorder: Recorder,
    rows: Rows,
    space: Space,
    slots: dict[int, Buffer],
    planned: dict[int, int],
    *,
    every: bool,
) -> Rows | None:
    """The rows with moves after which the tiles of a space fit; None if nothing helps.

    slots: what tiles have moved to so far.  planned: gets the addresses of the tiles.  every: move
    some also where the bytes suffice, but placement has found no stretches.
    """
    arena, accesses = recorder.memories.arena(space), _accesses(recorder, rows)
    extents = recorder.tensors.extents()
    here = extents[:, 0] == SPACES.index(space.value)
    granules = -(-extents[:, 2] // arena.granule_bytes)
    sizes = np.where(here, granules * arena.granule_bytes, 0)
    if not every and peak_bytes(accesses, sizes) <= arena.capacity_bytes:
        return rows
    headroom = recorder.core.sbuf.spill_headroom_bytes_per_partition.value
    free_bytes = int(headroom) if space is Space.sbuf else 0
    move_s = _move_s(recorder, extents)
    spills = plan(accesses, sizes, move_s, arena, free_bytes, _loads(recorder, rows))
    if spills is None:
        return None
    owner = accesses.owner[rows.access >> 1]
    tiles: dict[tuple[int, int], int] = {}
    added: list[tuple[int, int, int, int]] = []
    at: list[int] = []
    for move in spills.moves:
        entries = list(_added(recorder, rows, move, tiles, slots))
        added += entries
        at += [move.row] * len(entries)
    for tile, life in sorted(set(zip(owner.tolist(), spills.life.tolist(), strict=True))):
        if life and (tile, life) not in tiles:
            tiles[tile, life] = _another(recorder, tile).ordinal
    for (tile, life), address in spills.addresses.items():
        if not life or (tile, life) in tiles:  # else no row touches it
            planned[tiles[tile, life] if life else tile] = address
    moved = relabelled(rows, spills.life, owner, tiles, recorder.ranges.elsewhere)
    return moved.with_moves(np.array(at, dtype=np.int64), added)


def _move_s(recorder: Recorder, extents: Column) -> Column:
    """Per tile on chip, how long a move keeps its engine, or all DMAs, busy."""
    kinds, first, which = np.unique(extents, axis=0, return_index=True, return_inverse=True)
    times = np.zeros(len(kinds))
    for number, tile in enumerate(first.tolist()):
        here = _whole(recorder.tensors.tile(tile))
        there = _whole(_away(here))
        work = work_of(make_signature(_copy(there, here)), recorder.chip)
        times[number] = max(work.occupancy_s, work.issue_s, work.hbm_s)
    return times[which.reshape(-1)]


def _loads(recorder: Recorder, rows: Rows) -> Column:
    """bool[n]: the rows that load a tile by DMA from HBM that the launch never writes.

    Where cores share HBM, what another one writes is not known here: arguments are taken for
    constant that this core does not write, other tensors are not.
    """
    ordinals = recorder.ranges.ordinals[rows.access >> 1]
    constant = (ordinals < -1) & ~np.isin(ordinals, ordinals[rows.access & 1 == 1])
    if recorder.cores.count > 1:
        constant &= np.isin(ordinals, recorder.tensors.arguments())
    by_dma = [signature.opcode in _LOADS for signature in recorder.signatures]
    is_pair = np.diff(rows.access_end, prepend=0) == 2
    result: Column = np.array(by_dma, dtype=bool)[rows.signature] & is_pair
    pairs = np.flatnonzero(result)
    result[pairs] = constant[rows.access_end[pairs] - 1]
    return result


def _added(
    recorder: Recorder,
    rows: Rows,
    move: Move,
    tiles: dict[tuple[int, int], int],
    slots: dict[int, Buffer],
) -> Iterator[tuple[int, int, int, int]]:
    """(signature, line, range read, range written) of a move."""
    if move.life and (move.tile, move.life) not in tiles:
        flags = RELOADED if move.loads else 0
        tiles[move.tile, move.life] = _another(recorder, move.tile, flags).ordinal
    if move.loads:
        yield from _loaded_again(recorder, rows, move.loads, tiles[move.tile, move.life])
        return
    line = recorder.tensors.line(move.tile)
    here = _whole(recorder.tensors.tile(tiles.get((move.tile, move.life), move.tile)))
    if move.tile not in slots:
        slots[move.tile] = _slot(recorder, here, line)
    there = _whole(slots[move.tile])
    dst, src = (there, here) if move.is_save else (here, there)
    instr = _copy(dst, src)
    number = recorder.ranges.number
    yield recorder.signature_of(instr), line, number(src), number(dst)


def _loaded_again(
    recorder: Recorder, rows: Rows, loads: Sequence[int], tile: int
) -> Iterator[tuple[int, int, int, int]]:
    """The same of rows that run again, for another tile."""
    for row in loads:
        written, read = rows.access[rows.access_end[row] - 2 : rows.access_end[row]] >> 1
        there = recorder.ranges.elsewhere(np.array([written]), np.array([tile]))
        yield int(rows.signature[row]), int(rows.line[row]), int(read), int(there[0])


def _another(recorder: Recorder, tile: int, flags: int = 0) -> Buffer:
    """A new tile like a recorded one."""
    buffer = recorder.tensors.tile(tile)
    recorder.enter(buffer, recorder.tensors.line(tile), flags)
    return buffer


def _slot(recorder: Recorder, tile: AccessPattern, line: int) -> Buffer:
    """Where a tile's bytes lie while they are away."""
    buffer = _away(tile)
    recorder.enter(buffer, line, SPILLED)
    return buffer


def _away(tile: AccessPattern) -> Buffer:
    """The memory that a tile moves to."""
    space = Space.sbuf if tile.space is Space.psum else Space.private_hbm
    return Buffer(space=space, shape=tile.shape, dtype=tile.dtype, name=f"spilled {tile.name}")


def _copy(dst: AccessPattern, src: AccessPattern) -> Instruction:
    """A move between PSUM and SBUF, or SBUF and HBM."""
    in_psum = Space.psum in (dst.space, src.space)
    return TensorCopy(dst, src) if in_psum else DmaCopy(dst, src)


def _whole(buffer: Buffer) -> AccessPattern:
    return AccessPattern(buffer, buffer.dtype, buffer.shape, contiguous_strides(buffer.shape))
