"""Atoms: every footprint is a union of them, and no two could be one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rainshadow.isa.footprint import BOUNDS, MAX_AXES, WIDTH
from rainshadow.sim.hazards import atoms
from rainshadow.sim.hazards.atoms import coarse, split


def footprint(partition, partitions, first, run, pairs=()):
    flat = [number for pair in pairs for number in pair]
    return [partition, partitions, first, run, 0, *flat, *[0] * (2 * MAX_AXES - len(flat))]


def touched(row):
    partition, partitions, first, run, _, *pairs = row
    starts = np.array([first])
    for stride, count in zip(pairs[::2], pairs[1::2], strict=True):
        if count:
            starts = (starts[:, None] + stride * np.arange(count)).reshape(-1)
    columns = {int(start) + byte for start in starts for byte in range(run)}
    return {(p, c) for p in range(partition, partition + partitions) for c in columns}


footprints = st.lists(
    st.builds(
        footprint,
        st.integers(0, 3),
        st.integers(1, 3),
        st.integers(0, 24),
        st.integers(1, 9),
        st.lists(st.tuples(st.integers(1, 12), st.integers(2, 4)), max_size=2).map(
            lambda pairs: sorted(pairs, reverse=True)
        ),
    ),
    min_size=1,
    max_size=6,
    unique_by=tuple,
)


@pytest.mark.parametrize("max_cells", [atoms._MAX_CELLS, 0])
@given(rows=footprints, scale=st.sampled_from([1, 4]))
def test_atoms_are_the_sets_of_bytes_that_the_same_footprints_hold(max_cells, rows, scale):
    table = np.array(rows, dtype=np.int64)
    table[:, [2, 3]] *= scale
    table[:, 5::2] *= scale
    sets = [touched(row) for row in table.tolist()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atoms, "_MAX_CELLS", max_cells)
        result = split(table)
    holders = {}
    for byte in set.union(*sets):
        key = frozenset(index for index, some in enumerate(sets) if byte in some)
        holders[key] = holders.get(key, 0) + 1
    ends = [0, *result.end.tolist()]
    members = [set(result.numbers[a:b].tolist()) for a, b in itertools.pairwise(ends)]
    found = {
        frozenset(index for index, some in enumerate(members) if atom in some): int(size)
        for atom, size in enumerate(result.size_bytes)
    }
    if len(rows) > 1:
        assert found == holders
    else:
        assert list(found) == list(holders)


def test_a_footprint_of_very_many_runs_is_known_by_its_bounds(monkeypatch):
    monkeypatch.setattr(atoms, "MAX_RUNS", 10)
    table = np.array([footprint(0, 1, 8, 2, [(100, 4), (4, 3)]), footprint(0, 1, 0, 4, [(8, 2)])])
    result = coarse(table)
    assert result[0].tolist()[:5] == [0, 1, 8, 300 + 8 + 2, BOUNDS]
    assert result[1].tolist() == table[1].tolist()
    assert result.shape == (2, WIDTH)
