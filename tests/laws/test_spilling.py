"""Moves of tiles that do not fit: what a row reads is what was written last, within the room."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rainshadow.sim.placement import Accesses
from rainshadow.sim.spilling import Rows, peak_bytes, plan

SIZES = np.array([1, 2, 3, 1, 2, 4, 1])
#: The tile of the last range lies in HBM.
OWNER = np.array([0, 1, 2, 3, 4, 5, 6, 2, -1])

#: (tile, life) of what lies there.
HBM = -1, 0

a_row = st.lists(st.tuples(st.integers(0, len(OWNER) - 1), st.booleans()), max_size=3)


def accesses_of(rows):
    flat = [number * 2 + is_write for row in rows for number, is_write in row]
    ends = np.cumsum([len(row) for row in rows])
    return Accesses(np.array(flat, dtype=np.int32), ends.astype(np.int32), OWNER)


@given(rows=st.lists(a_row, min_size=1, max_size=40), capacity=st.integers(1, 14))
def test_rows_read_what_was_written_last(rows, capacity):
    accesses = accesses_of(rows)
    spills = plan(accesses, SIZES, capacity)
    touched = [{int(OWNER[n]) for n, _ in row if OWNER[n] >= 0} for row in rows]
    most = max(sum(SIZES[list(tiles)]) for tiles in touched)
    if spills is None:
        assert most > capacity
        return
    assert most <= capacity
    assert spills.moves or spills.life.any() or peak_bytes(accesses, SIZES) <= capacity
    moves, lives, place = iter([*spills.moves, None]), spills.life.tolist(), 0
    move = next(moves)
    written, held, away = {}, {}, {}
    for number, row in enumerate(rows):
        while move is not None and move.row == number:
            if move.is_save:
                away[move.tile] = held[move.tile, move.life]
            else:
                held[move.tile, move.life] = away[move.tile]
            move = next(moves)
        for access, is_write in row:
            tile, life = int(OWNER[access]), lives[place]
            place += 1
            if tile < 0:
                assert life == 0
            elif is_write:
                written[tile] = held[tile, life] = number
            elif tile in written:
                assert held[tile, life] == written[tile]
    assert move is None


@given(rows=st.lists(a_row, min_size=1, max_size=40), capacity=st.integers(4, 14))
def test_tiles_hold_no_more_than_the_capacity_with_every_life_a_tile_of_its_own(rows, capacity):
    accesses = accesses_of(rows)
    spills = plan(accesses, SIZES, capacity)
    if spills is None:
        return
    keys = [
        (int(OWNER[a >> 1]), life) for a, life in zip(accesses.access, spills.life, strict=True)
    ]
    keys += [(move.tile, move.life) for move in spills.moves]
    numbers = {key: number for number, key in enumerate(dict.fromkeys([HBM, *keys]))}
    owner = np.array([number if key != HBM else -1 for key, number in numbers.items()])
    sizes = np.array([SIZES[tile] if tile >= 0 else 0 for tile, _ in numbers])
    bits = accesses.access & 1
    recorded = Rows(
        *np.zeros((2, len(rows)), dtype=np.int32),
        np.array([numbers[key] for key in keys[: len(bits)]], dtype=np.int32) * 2 + bits,
        accesses.access_end,
        [(number, 0) for number in range(len(rows))],
        [],
    )
    at = np.array([move.row for move in spills.moves], dtype=np.int64)
    added = []
    for move in spills.moves:
        tile = numbers[move.tile, move.life]
        added.append((1, 0, *((tile, numbers[HBM]) if move.is_save else (numbers[HBM], tile))))
    moved = recorded.with_moves(at, added)
    after = Accesses(moved.access, moved.access_end, owner)
    assert peak_bytes(after, sizes) <= capacity
    kept = np.flatnonzero(moved.signature == 0)
    assert [row for row, _ in moved.dependencies] == kept.tolist()
