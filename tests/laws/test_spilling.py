"""Moves of tiles that do not fit: rows read what was written last, and no two tiles share bytes."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rainshadow.sim.memory import Arena
from rainshadow.sim.placement import Accesses, Lifetimes
from rainshadow.sim.spilling import Rows, peak_bytes, plan

SIZES = np.array([1, 2, 3, 1, 2, 4, 1])
MOVE_S = np.array([2e-6, 2e-6, 3e-6, 2e-6, 2e-6, 3e-6, 1e-6])
#: The tile of the last range lies in HBM.
OWNER = np.array([0, 1, 2, 3, 4, 5, 6, 2, -1])
IN_HBM = len(OWNER) - 1

#: (tile, life) of what lies there.
HBM = -1, 0

a_number = st.integers(0, len(OWNER) - 1)
a_row = st.lists(st.tuples(a_number, st.booleans()), max_size=3)
a_load = st.integers(0, IN_HBM - 1).map(lambda number: [(number, True), (IN_HBM, False)])
some_rows = st.lists(st.one_of(a_row, a_load), min_size=1, max_size=40)


def accesses_of(rows):
    flat = [number * 2 + is_write for row in rows for number, is_write in row]
    ends = np.cumsum([len(row) for row in rows])
    return Accesses(np.array(flat, dtype=np.int32), ends.astype(np.int32), OWNER)


def is_load(row):
    return len(row) == 2 and row[0][1] and row[0][0] != IN_HBM and row[1] == (IN_HBM, False)


def planned(rows, capacity, headroom, loads_again):
    again = np.array([loads_again and is_load(row) for row in rows])
    return plan(accesses_of(rows), SIZES, MOVE_S, Arena("sbuf", capacity, 1), headroom, again)


def bring_back(move, away, rows):
    """What a tile holds then: by range, the row that wrote it."""
    if not move.loads:
        return dict(away[move.tile])
    assert all(OWNER[rows[number][0][0]] == move.tile for number in move.loads)
    return {rows[number][0][0]: number for number in move.loads}


@given(some_rows, st.integers(1, 14), st.integers(0, 3), st.booleans())
def test_rows_read_what_was_written_last(rows, capacity, headroom, loads_again):
    spills = planned(rows, capacity, headroom, loads_again)
    touched = [{int(OWNER[n]) for n, _ in row if OWNER[n] >= 0} for row in rows]
    most = max(sum(SIZES[list(tiles)]) for tiles in touched)
    if spills is None:
        assert most > capacity
        return
    assert most <= capacity
    assert spills.life.any() or peak_bytes(accesses_of(rows), SIZES) <= capacity
    moves, lives, place = iter([*spills.moves, None]), spills.life.tolist(), 0
    move = next(moves)
    written, held, away = {}, {}, {}
    for number, row in enumerate(rows):
        while move is not None and move.row == number:
            if move.is_save:
                away[move.tile] = held[move.tile, move.life]
            else:
                held[move.tile, move.life] = bring_back(move, away, rows)
            move = next(moves)
        for access, is_write in row:
            tile, life = int(OWNER[access]), lives[place]
            place += 1
            if tile < 0:
                assert life == 0
            elif is_write:
                written.setdefault(tile, {})[access] = number
                held.setdefault((tile, life), {})[access] = number
            elif tile in written:
                assert held[tile, life] == written[tile]
    assert move is None


@given(some_rows, st.integers(4, 14), st.integers(0, 3), st.booleans())
def test_no_two_tiles_share_bytes_with_every_life_a_tile_of_its_own(
    rows, capacity, headroom, loads_again
):
    spills = planned(rows, capacity, headroom, loads_again)
    if spills is None:
        return
    accesses = accesses_of(rows)
    keys = [
        (int(OWNER[a >> 1]), life) for a, life in zip(accesses.access, spills.life, strict=True)
    ]
    keys += [(move.tile, move.life) for move in spills.moves]
    numbers = {key: number for number, key in enumerate(dict.fromkeys([HBM, *keys]))}
    owner = np.array([number if key != HBM else -1 for key, number in numbers.items()])
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
    kept = np.flatnonzero(moved.signature == 0)
    assert [row for row, _ in moved.dependencies] == kept.tolist()
    lives = Lifetimes.of(Accesses(moved.access, moved.access_end, owner), len(numbers))
    used = [key for key, number in numbers.items() if key != HBM and lives.last[number] >= 0]
    for one, other in itertools.combinations(used, 2):
        first, second = numbers[one], numbers[other]
        if lives.first[first] <= lives.last[second] and lives.first[second] <= lives.last[first]:
            start, other_start = spills.addresses[one], spills.addresses[other]
            end, other_end = start + SIZES[one[0]], other_start + SIZES[other[0]]
            assert end <= other_start or other_end <= start
    assert all(spills.addresses[key] + SIZES[key[0]] <= capacity for key in used)
