"""Laws of collectives and layouts: bounds, monotony, and degrees that multiply to the chips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rainshadow.cluster.network import (
    AxisLinks,
    Links,
    algorithms,
    all_reduce_s,
    fastest_s,
    links_of,
    lower_bound_s,
    place,
)
from rainshadow.machine import list_systems, load_system
from rainshadow.sources import SCENARIOS, Ledger, Picker

SIZES = st.floats(1e3, 1e12)


@st.composite
def tori(draw: st.DrawFn) -> Links:
    """Up to three ring axes, or one switch, in one or several domains."""
    if draw(st.booleans()):
        kind = draw(st.sampled_from(["switch", "mesh"]))
        size, rate = draw(st.integers(2, 72)), draw(st.floats(1e9, 1e12))
        axes = [AxisLinks(size, kind, rate, 1e-6, size, kind == "switch" and draw(st.booleans()))]
    else:
        axes = [
            AxisLinks(draw(st.integers(2, 8)), "ring", draw(st.floats(1e9, 1e12)), 1e-6)
            for _ in range(draw(st.integers(1, 3)))
        ]
    domains = draw(st.sampled_from([1, 2, 16, 1024]))
    return Links(tuple(axes), domains, 25e9, 15e-6)


@given(tori(), SIZES)
def test_no_algorithm_beats_the_links(links, size):
    for algorithm in algorithms():
        if algorithm.accepts(links):
            assert algorithm.all_reduce_s(size, links) >= lower_bound_s(size, links) * (1 - 1e-9)


@given(tori(), SIZES, st.floats(1.0, 100.0))
def test_more_bytes_never_take_less_time(links, size, factor):
    assert all_reduce_s(size * factor, links)[0] >= all_reduce_s(size, links)[0]


@given(tori(), SIZES)
def test_some_algorithm_fits_every_network(links, size):
    assert all_reduce_s(size, links)[0] > 0


@pytest.mark.parametrize("name", list_systems())
def test_links_of_every_system_multiply_to_its_chips(name):
    system = load_system(name)
    times = []
    for scenario in SCENARIOS:
        links = links_of(system, Picker(Ledger(), scenario))
        assert links.num_chips == system.num_chips
        times.append(all_reduce_s(1e9, links)[0])
    central, best, worst = times
    assert best <= central <= worst


@given(tori(), st.integers(1, 64), st.integers(0, 6), SIZES)
def test_a_group_has_its_size_and_never_beats_the_bound(links, size, power, data):
    """A placed group keeps its ranks, up to whole domains, and is no faster than its links."""
    group = place(links, size, 2**power)
    reached = float(group.num_chips)
    assert reached >= size * (1 - 1e-9)
    assert all(float(axis.size) <= axis.full or axis.full == 0 for axis in group.axes)
    for operation in ("all_reduce", "gather", "all_to_all"):
        time = float(fastest_s(operation, data, group))
        assert (time == 0.0) == (reached == 1)
    if links.domains > 1 or reached <= links.num_chips:
        assert float(fastest_s("all_reduce", data, group)) >= lower_bound_s(data, group) * (
            1 - 1e-9
        )


@given(tori(), SIZES)
def test_a_table_of_groups_is_its_rows(links, data):
    sizes = np.array([1, 2, 4, 8, 16])
    table = fastest_s("gather", data, place(links, sizes, 2))
    rows = [float(fastest_s("gather", data, place(links, size, 2))) for size in sizes.tolist()]
    assert table.tolist() == pytest.approx(rows)
