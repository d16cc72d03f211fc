"""Laws of goodput: the formula is what random stops give, and its interval is the best."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rainshadow.cluster.goodput import (
    best_interval_s,
    elastic_fraction,
    kept_fraction,
    shortage,
    spares_needed,
)

SECONDS = st.floats(0.1, 1e5)


def simulated(interval, stall, restart, between, segments, random):
    """Work over time, stop by stop."""
    passed = 0.0
    for _ in range(segments):
        while (stop := random.exponential(between)) < interval + stall:
            passed += stop
            while (again := random.exponential(between)) < restart:
                passed += again
            passed += restart
        passed += interval + stall
    return segments * interval / passed


@pytest.mark.parametrize(
    ("interval", "stall", "restart", "between"),
    [(600, 5, 300, 11000), (60, 2, 600, 365), (1000, 100, 10, 500)],
)
def test_the_formula_is_what_a_simulation_gives(interval, stall, restart, between):
    random = np.random.default_rng(5)
    got = simulated(interval, stall, restart, between, 20_000, random)
    assert got == pytest.approx(kept_fraction(interval, stall, restart, between), rel=0.05)


@given(SECONDS, SECONDS, SECONDS, st.floats(10, 1e7), st.floats(0.2, 5))
def test_no_other_interval_keeps_more(stall, restart, _, between, factor):
    best = best_interval_s(stall, between)
    kept = kept_fraction(best, stall, restart, between)
    assert 0 <= kept <= 1
    assert kept_fraction(best * factor, stall, restart, between) <= kept * (1 + 1e-9)


@given(st.floats(0.1, 100), st.floats(1e7, 1e9))
def test_rare_stops_give_youngs_interval(stall, between):
    assert best_interval_s(stall, between) == pytest.approx((2 * stall * between) ** 0.5, rel=0.01)


@given(SECONDS, SECONDS, SECONDS, st.floats(10, 1e7), st.floats(1, 10))
def test_more_stops_longer_restarts_and_longer_stalls_keep_less(
    interval, stall, restart, between, worse
):
    kept = kept_fraction(interval, stall, restart, between)
    slack = 1 + 1e-9
    assert kept_fraction(interval, stall, restart, between / worse) <= kept * slack
    assert kept_fraction(interval, stall, restart * worse, between) <= kept * slack
    assert kept_fraction(interval, stall * worse, restart, between) <= kept * slack


@given(SECONDS, SECONDS, st.floats(1, 1e6), st.integers(1, 5000), st.floats(0.1, 100))
def test_elastic_goodput_is_a_fraction_that_grows_with_replicas(
    pause, absent, between, replicas, step
):
    kept = elastic_fraction(pause, absent, between, replicas, step)
    assert 0 <= kept < 1
    assert elastic_fraction(pause, absent, between, replicas + 1, step) >= kept


@given(st.floats(0, 1e-2), st.floats(1, 1e5), st.floats(0.5, 0.9999))
def test_spares_needed_are_the_fewest_that_suffice(rate, repair, confidence):
    spares = spares_needed(rate, repair, confidence)
    assert shortage(spares, rate, repair) <= 1 - confidence + 1e-9
    assert spares == 1 or shortage(spares - 1, rate, repair) > 1 - confidence - 1e-9
