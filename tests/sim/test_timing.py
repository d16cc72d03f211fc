"""Laws of the timing pass on recorded kernels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rainshadow.isa.access import AccessPattern
from rainshadow.isa.memory import Buffer, Space
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
    """A 128-element exp: a table load, then 289 ns + N / 1.2 GHz, of which 50 ns set up."""
    timeline = time_trace(trace_of(128, 128), chip, PLAIN)
    activation = int(np.flatnonzero(timeline.track == timeline.tracks.index("scalar"))[0])
    table_and_work_ns = timeline.busy_ps[activation] / 1000
    assert table_and_work_ns == pytest.approx(1277 + (60 + 128) / 1.2, rel=0.01)
    latency_ns = (timeline.end_ps - timeline.start_ps)[activation] / 1000
    assert latency_ns - 1277 == pytest.approx(396, rel=0.02)


def bytes_of(row):
    """The (space, partition, byte) triples that a row of `Trace.ranges` stands for."""
    space, first_partition, end_partition, low, high, period, run = map(int, row)
    touched = [byte for byte in range(low, high) if not period or (byte - low) % period < run]
    return {(space, p, b) for p in range(first_partition, end_partition) for b in touched}


def test_overlaps_agree_with_brute_force(rng):
    count = 80
    low = rng.integers(0, 100, count)
    partition = rng.integers(0, 3, count)
    period = rng.choice([0, 6, 8], count)
    run = np.where(period > 0, rng.integers(1, 6, count), 0)
    extent = np.where(period > 0, rng.integers(0, 4, count) * period + run, 0)
    high = low + np.where(period > 0, extent, rng.integers(1, 20, count))
    ranges = np.stack(
        [
            rng.integers(0, 2, count), partition, partition + rng.integers(1, 3, count),
            low, high, period, run,
        ],
        axis=1,
    ).astype(np.int64)  # fmt: skip
    written = rng.random(count) < 0.5
    ends, numbers = overlaps(ranges, written, PLAIN)
    for compiled, plain in zip(overlaps(ranges, written), (ends, numbers), strict=True):
        np.testing.assert_array_equal(compiled, plain)
    touched = [bytes_of(row) for row in ranges]
    for i in range(count):
        found = set(numbers[(ends[i - 1] if i else 0) : ends[i]].tolist())
        for j in range(count):
            matters = bool(written[i] or written[j])
            if matters and touched[i] & touched[j]:
                assert j in found, (ranges[i], ranges[j])
            elif j in found:
                assert matters and same_box(ranges[i], ranges[j])


def same_box(a, b):
    """Whether the bounding boxes meet, which is what ranges of different periods go by."""
    return a[0] == b[0] and a[1] < b[2] and b[1] < a[2] and a[3] < b[4] and b[3] < a[4]


SLICES = st.tuples(st.integers(0, 7), st.integers(1, 8)).map(
    lambda pair: slice(pair[0], min(8, pair[0] + pair[1]))
)


@given(st.lists(st.tuples(SLICES, SLICES, SLICES), min_size=2, max_size=6), st.booleans())
def test_views_that_share_an_element_share_a_range(slices, turned):
    buffer = Buffer(space=Space.private_hbm, shape=(8, 8, 8), dtype="int8")
    buffer.address = 64
    whole = AccessPattern(buffer, "int8", (8, 8, 8), (64, 8, 1))
    views = [whole[entry] for entry in slices]
    if turned:
        views[0] = views[0].permute((2, 0, 1))
    rows = [[2, *view.box(), *view.comb()] for view in views]
    ends, numbers = overlaps(np.array(rows, dtype=np.int64), np.ones(len(rows), dtype=bool))
    elements = [set(np.arange(512).reshape(8, 8, 8)[entry].ravel().tolist()) for entry in slices]
    for i, mine in enumerate(elements):
        found = set(numbers[(ends[i - 1] if i else 0) : ends[i]].tolist())
        for j, other in enumerate(elements):
            assert j in found or not mine & other


def test_column_blocks_of_a_matrix_do_not_wait_for_each_other(chip):
    def update(table):
        for block in range(4):
            tile = nl.ndarray((128, 64), dtype=table.dtype, buffer=nl.sbuf)
            columns = table[:, nl.ds(block * 64, 64)]
            nisa.dma_copy(dst=tile, src=columns)
            nisa.dma_copy(dst=columns, src=tile)

    trace = record(update, (np.zeros((128, 256), np.float32),), chip=chip).trace
    _, numbers = overlaps(trace.ranges, np.ones(len(trace.ranges), dtype=bool))
    assert len(trace.ranges) == len(numbers) == 8, "each range meets itself only"


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


@jit
def on_three_engines(x):
    """Independent work of VectorE, GpSimdE and ScalarE on SBUF, of two of them on PSUM."""
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tiles = [nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf) for _ in range(3)]
    sums = [nl.ndarray(x.shape, dtype=nl.float32, buffer=nl.psum) for _ in range(2)]
    for tile in tiles:
        nisa.dma_copy(dst=tile, src=x)
    for _ in range(6):
        nisa.tensor_copy(dst=tiles[0], src=tiles[0], engine=nisa.engine.vector)
        nisa.tensor_copy(dst=tiles[1], src=tiles[1], engine=nisa.engine.gpsimd)
        nisa.tensor_copy(dst=sums[0], src=sums[0], engine=nisa.engine.vector)
        nisa.activation(dst=sums[1], op=nl.copy, data=sums[1])
        nisa.activation(dst=tiles[2], op=nl.copy, data=tiles[2])
    nisa.dma_copy(dst=result, src=tiles[0])
    return result


@pytest.mark.parametrize("schedule", ["program", "compiler"])
@pytest.mark.parametrize(("name", "alone"), [("trainium1", True), ("trainium2", False)])
def test_engines_that_share_a_port_take_turns(name, alone, schedule):
    """NeuronCore-v2 lets VectorE or GpSimdE at SBUF, VectorE or ScalarE at PSUM; v3 all of them."""
    run = record(on_three_engines, (Shape((128, 512), "float32"),), options=SimOptions(data="none"))
    options = TimingOptions(compiled="never", schedule=schedule)
    timeline = time_trace(run.trace, load_chip(name), options)
    engines = [timeline.tracks[track] for track in timeline.track]
    spaces = [
        {kind.space for kind in run.trace.signatures[number].operands.values()}
        for number in run.trace.signature
    ]
    for space, sharing in (("sbuf", ("vector", "gpsimd")), ("psum", ("vector", "scalar"))):
        begin, end = (
            [
                np.array([column[row] for row in range(len(engines)) if engines[row] == engine
                          and space in spaces[row]])
                for engine in sharing
            ]
            for column in (timeline.start_ps, timeline.start_ps + timeline.busy_ps)
        )  # fmt: skip
        meet = (begin[0][:, None] < end[1]) & (begin[1] < end[0][:, None])
        assert meet.any() != alone
    assert bool(timeline.wait_by_cause_ps["memory port in use"]) == alone
