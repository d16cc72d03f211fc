"""accumulate=None adds where a matmul has written, element by element, and overwrites elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rainshadow.machine import load_chip
from rainshadow.nki import Shape, jit, record, simulate
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.nki.check import check_launches
from rainshadow.sim.options import SimOptions

COLUMNS = 16


def kernel_of(windows, flags=None):
    """A kernel with a matmul into each window of one PSUM tile."""

    @jit
    def sums(lhs_t, rhs):
        left = nl.load(lhs_t)
        right = nl.load(rhs)
        total = nl.ndarray((lhs_t.shape[1], COLUMNS), dtype=nl.float32, buffer=nl.psum)
        for number, window in enumerate(windows):
            target = total[:, window]
            width = target.shape[1]
            nisa.nc_matmul(
                target, left, right[:, :width], accumulate=flags[number] if flags else None
            )
        result = nl.ndarray(total.shape, dtype=nl.float32, buffer=nl.shared_hbm)
        nl.store(result, total)
        return result

    return sums


def expected(windows, lhs_t, rhs):
    total = np.zeros((lhs_t.shape[1], COLUMNS), np.float32)
    for window in windows:
        total[:, window] += lhs_t.T @ rhs[:, : len(range(COLUMNS)[window])]
    return total


@pytest.mark.parametrize(
    "windows",
    [
        [slice(0, 8), slice(4, 12), slice(8, 16)],
        [slice(0, 16), slice(4, 12)],
        [slice(0, 4), slice(4, 16), slice(0, 16)],
        [slice(0, 16, 2), slice(1, 16, 2), slice(0, 16), slice(0, 16)],
        [slice(0, 8), slice(8, 16), slice(2, 14, 3)],
    ],
    ids=["a convolution", "inside", "around", "combs", "a comb across"],
)
def test_regions_that_overlap_add_up(windows, rng):
    lhs_t = rng.standard_normal((32, 8)).astype(np.float32)
    rhs = rng.standard_normal((32, COLUMNS)).astype(np.float32)
    result = simulate(kernel_of(windows))(lhs_t, rhs)
    np.testing.assert_allclose(result, expected(windows, lhs_t, rhs), rtol=1e-5, atol=1e-5)


def test_what_was_told_to_overwrite_counts_as_written(rng):
    lhs_t = rng.standard_normal((32, 8)).astype(np.float32)
    rhs = rng.standard_normal((32, COLUMNS)).astype(np.float32)
    both = kernel_of([slice(0, 16)] * 3, flags=[None, False, None])
    np.testing.assert_allclose(simulate(both)(lhs_t, rhs), 2 * lhs_t.T @ rhs, rtol=1e-5, atol=1e-5)


def test_without_data_the_same_sums_are_recorded(rng):
    windows = [slice(0, 8), slice(4, 12), slice(0, 12)]
    shapes = Shape((32, 8), "float32"), Shape((32, COLUMNS), "float32")
    run = record(kernel_of(windows), shapes, options=SimOptions(data="none"))
    used = [s.params["accumulate"] for s in run.trace.signatures if s.opcode == "nc_matmul"]
    assert used == [False, "partly", True]


def test_a_sum_that_starts_in_part_is_no_finding(rng):
    windows = [slice(0, 10), slice(6, 16)]
    lhs_t = rng.standard_normal((32, 8)).astype(np.float32)
    rhs = np.ones((32, COLUMNS), np.float32)
    launch = simulate(kernel_of(windows))
    assert not check_launches(lambda: launch(lhs_t, rhs), load_chip("trainium2"), Path(__file__))
