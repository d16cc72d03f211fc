"""Laws of the timing pass on recorded kernels."""

from __future__ import annotations

import numpy as np
import pytest

from rainshadow.machine import load_chip
from rainshadow.nki import Shape, jit, record
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.sim.options import SimOptions
from rainshadow.sim.timing import TimingOptions, overlaps, time_trace
from rainshadow.sim.trace import Trace

PLAIN = TimingOptions(compiled="never")


@jit
def scale_rows(x):
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    rows, columns = x.shape
    for m in nl.affine_range(rows // 128):
        tile = nl.ndarray((128, columns), dtype=x.dtype)
        nisa.dma_copy(dst=tile, src=x[m * 128 : (m + 1) * 128])
        scaled = nl.ndarray((128, columns), dtype=x.dtype)
        nisa.activation(dst=scaled, op=nl.exp, data=tile, scale=0.5)
        nisa.dma_copy(dst=result[m * 128 : (m + 1) * 128], src=scaled)
    return result


def trace_of(rows: int, columns: int) -> Trace:
    shape = Shape((rows, columns), "float32")
    return record(scale_rows, (shape,), options=SimOptions(data="none")).trace


@pytest.fixture(scope="module")
def chip():
    return load_chip("trainium2")


def test_timing_twice_is_identical(chip):
    trace = trace_of(512, 512)
    first, second = time_trace(trace, chip, PLAIN), time_trace(trace, chip, PLAIN)
    np.testing.assert_array_equal(first.start_ps, second.start_ps)
    np.testing.assert_array_equal(first.end_ps, second.end_ps)


def test_numba_and_python_agree(chip):
    pytest.importorskip("numba")
    trace = trace_of(1024, 512)
    plain = time_trace(trace, chip, PLAIN)
    fast = time_trace(trace, chip, TimingOptions(compiled="always"))
    np.testing.assert_array_equal(plain.start_ps, fast.start_ps)
    np.testing.assert_array_equal(plain.cause, fast.cause)


def test_more_rows_never_take_less_time(chip):
    times = [time_trace(trace_of(rows, 512), chip, PLAIN).duration_ps for rows in (128, 256, 1024)]
    assert times == sorted(times)


def test_duration_is_at_least_every_engines_work(chip):
    timeline = time_trace(trace_of(2048, 1024), chip, PLAIN)
    assert timeline.duration_ps >= max(timeline.engine_busy_ps.values())


def test_hbm_bytes_take_at_least_their_bandwidth(chip):
    trace = trace_of(2048, 2048)
    moved = trace.moved_bytes("hbm", written=True) + trace.moved_bytes("hbm", written=False)
    bandwidth = chip.hbm.bandwidth.value / chip.core.count.value
    assert time_trace(trace, chip, PLAIN).duration_ps * 1e-12 >= moved / bandwidth


def test_one_row_tile_matches_the_published_timeline(chip):
    """A 128-element exp after a small DMA: 739 ns trigger, 295 ns completion, 289 ns + N/1.2."""
    timeline = time_trace(trace_of(128, 128), chip, PLAIN)
    activation = int(np.flatnonzero(timeline.track == timeline.tracks.index("scalar"))[0])
    table_and_work_ns = timeline.busy_ps[activation] / 1000
    assert table_and_work_ns == pytest.approx(1277 + 128 / 1.2, rel=0.01)
    latency_ns = (timeline.end_ps - timeline.start_ps)[activation] / 1000
    assert latency_ns - 1277 == pytest.approx(396, rel=0.02)


def test_overlaps_agree_with_brute_force(rng):
    count = 60
    low = rng.integers(0, 100, count)
    partition = rng.integers(0, 4, count) * 32
    ranges = np.stack(
        [
            rng.integers(0, 3, count),
            partition,
            partition + 32 * rng.integers(1, 3, count),
            low,
            low + rng.integers(1, 20, count),
        ],
        axis=1,
    ).astype(np.int64)
    ends, numbers = overlaps(ranges)
    for i in range(count):
        found = set(numbers[(ends[i - 1] if i else 0) : ends[i]].tolist())
        expected = {
            j
            for j in range(count)
            if ranges[i, 0] == ranges[j, 0]
            and ranges[i, 1] < ranges[j, 2]
            and ranges[j, 1] < ranges[i, 2]
            and ranges[i, 3] < ranges[j, 4]
            and ranges[j, 3] < ranges[i, 4]
        }
        assert found == expected


def test_a_saved_trace_times_the_same(tmp_path, chip):
    trace = trace_of(256, 256)
    trace.save(tmp_path / "trace.npz")
    loaded = Trace.load(tmp_path / "trace.npz")
    assert loaded.num_rows == trace.num_rows
    before, after = time_trace(trace, chip, PLAIN), time_trace(loaded, chip, PLAIN)
    np.testing.assert_array_equal(before.end_ps, after.end_ps)


def test_a_row_costs_under_100_bytes():
    trace = trace_of(4096, 512)
    assert trace.nbytes / trace.num_rows < 100
