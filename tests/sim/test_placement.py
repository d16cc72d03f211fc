"""Placement: tiles that live at the same time never share a byte, by either order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rainshadow.errors import CapacityError, SourceLine
from rainshadow.isa.memory import Space
from rainshadow.sim.memory import Arena, Memories
from rainshadow.sim.placement import Accesses, Request, place

CAPACITY, GRANULE = 1024, 32
HERE = SourceLine("kernel.py", 1, "tile = nl.ndarray(...)")


def memories() -> Memories:
    return Memories(*(Arena(name, CAPACITY, GRANULE) for name in ("sbuf", "psum", "hbm")))


def placed(tiles: list[tuple[int, int, int]], space: Space = Space.sbuf) -> np.ndarray:
    """Addresses of tiles given as (bytes, first row, last row), each touched in both rows."""
    requests = [Request(space, size, f"tile {i}", HERE) for i, (size, _, _) in enumerate(tiles)]
    rows = max(last for _, _, last in tiles) + 1
    touched = [[] for _ in range(rows)]
    for number, (_, first, last) in enumerate(tiles):
        for row in {first, last}:
            touched[row].append(number * 2)
    access = np.array([entry for row in touched for entry in row], dtype=np.int32)
    ends = np.cumsum([len(row) for row in touched]).astype(np.int32)
    owner = np.arange(len(tiles), dtype=np.int32)
    return place(requests, Accesses(access, ends, owner), memories())


def require_disjoint(tiles: list[tuple[int, int, int]], address: np.ndarray) -> None:
    for a, (size_a, first_a, last_a) in enumerate(tiles):
        assert address[a] >= 0 and address[a] + size_a <= CAPACITY
        for b, (size_b, first_b, last_b) in enumerate(tiles[:a]):
            if first_a <= last_b and first_b <= last_a:
                apart = address[a] + size_a <= address[b] or address[b] + size_b <= address[a]
                assert apart, (a, b)


TILES = st.lists(
    st.tuples(st.integers(1, 500), st.integers(0, 12), st.integers(0, 6)).map(
        lambda t: (t[0], t[1], t[1] + t[2])
    ),
    min_size=1,
    max_size=12,
)


@given(TILES)
def test_tiles_that_live_together_lie_apart(tiles):
    try:
        address = placed(tiles)
    except CapacityError:
        return
    require_disjoint(tiles, address)


def test_a_large_tile_finds_room_although_small_ones_lay_in_the_middle():
    small = [(96, row, row + 1) for row in range(12)]
    tiles = [*small[:6], (96, 6, 20), (832, 8, 20)]
    require_disjoint(tiles, placed(tiles))


def test_consecutive_tiles_of_a_loop_lie_in_different_places():
    address = placed([(128, row, row) for row in range(8)])
    assert len(set(address.tolist())) == 8


def test_more_than_there_is_names_the_line_and_the_live_tiles():
    with pytest.raises(CapacityError, match="tile 1 needs 608 B") as caught:
        placed([(600, 0, 1), (600, 1, 1)])
    assert caught.value.where == HERE


def test_small_tiles_with_long_lives_do_not_scatter():
    """Three of them, each between tiles that are gone when the last needs a long stretch."""
    tiles = [(32, 0, 16), (448, 1, 3), (32, 2, 16), (192, 3, 5), (32, 4, 16), (320, 5, 7)]
    tiles += [(96, 6, 7), (448, 7, 9)]
    require_disjoint(tiles, placed(tiles))
