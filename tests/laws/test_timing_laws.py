"""Laws of time: whatever a kernel does, no engine is in two places and nothing beats the peak."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from row_by_row import RowByRow

from rainshadow.isa.access import AccessPattern
from rainshadow.isa.memory import Space
from rainshadow.isa.strides import comb_of
from rainshadow.machine import list_chips, load_chip
from rainshadow.nki import Shape, record
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.sim.options import SimOptions
from rainshadow.sim.recorder import active_recorder
from rainshadow.sim.timeline import Timeline
from rainshadow.sim.timing import Timer, TimingOptions, overlaps, time_trace
from rainshadow.sim.trace import Trace

CHIPS = [name for name in list_chips() if load_chip(name).core is not None]
PLAIN, AUTO = TimingOptions(compiled="never"), TimingOptions(compiled="auto")
LIST = TimingOptions(compiled="never", schedule="compiler")
LIST_AUTO = TimingOptions(compiled="auto", schedule="compiler")
ORDERS = pytest.mark.parametrize("options", [PLAIN, LIST], ids=["program", "compiler"])
NAMES = ("start_ps", "end_ps", "busy_ps", "wait_ps", "cause", "track")
DTYPES = st.sampled_from(["float32", "bfloat16"])
PS = 1e-12
#: Every time is rounded to whole picoseconds, once a row.
ROUNDING_PS = 1

WIDTHS = st.sampled_from([1, 8, 64, 200, 512])
STEP_KINDS = ("load", "store", "across", "matmul", "add", "exp", "copy", "reduce", "fill",
              "strided", "transpose", "accumulate")  # fmt: skip
STEPS = st.lists(st.tuples(st.sampled_from(STEP_KINDS), WIDTHS, st.integers(0, 3)), max_size=14)


def random_kernel(a: AccessPattern, b: AccessPattern, steps: Any, dtype: str) -> AccessPattern:
    """The steps, one after another, on four tiles, two PSUM tiles and two HBM tensors."""
    tiles = [nl.ndarray((128, 512), dtype=dtype) for _ in range(4)]
    sums = [nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.psum) for _ in range(2)]
    column = nl.ndarray((128, 1), dtype=nl.float32)
    engines = [nisa.engine.vector, nisa.engine.gpsimd]
    for kind, width, which in steps:
        tile, other = tiles[which][:, 0:width], tiles[(which + 1) % 4][:, 0:width]
        match kind:
            case "load":
                nisa.dma_copy(dst=tile, src=a[:, 0:width])
            case "store":
                nisa.dma_copy(dst=b[:, 0:width], src=tile)
            case "across":
                nisa.dma_copy(dst=b[:, 0:width], src=a[:, 0:width])
            case "matmul":
                product = sums[which % 2][:, 0:width]
                nisa.nc_matmul(dst=product, stationary=tiles[3][:, 0:128], moving=tile)
                nisa.tensor_copy(dst=tile, src=product)
            case "add":
                engine = engines[which % 2]
                nisa.tensor_tensor(dst=tile, data1=tile, data2=other, op=nl.add, engine=engine)
            case "exp":
                function = (nl.exp, nl.tanh, nl.square)[which % 3]
                nisa.activation(dst=tile, op=function, data=other)
            case "copy":
                nisa.tensor_copy(dst=tile, src=other, engine=engines[which % 2])
            case "reduce":
                nisa.tensor_reduce(dst=column, op=nl.add, data=tile, axis=1)
            case "fill":
                nisa.memset(dst=tile, value=float(which))
            case "strided":
                half = tiles[which][:, 0:512:2]
                nisa.tensor_scalar(dst=half, data=half, op0=nl.multiply, operand0=column)
            case "transpose":
                nisa.dma_transpose(dst=tiles[which][:, 0:128], src=a[:, 0:128])
            case "accumulate":
                nisa.dma_compute(dst=tile, srcs=[other, a[:, 0:width]], reduce_op=nl.add)
    return b


def trace_of(steps: Any, dtype: str, chip: str = "trainium2") -> Trace:
    shape = Shape((128, 512), dtype)
    return record(
        random_kernel,
        (shape, shape, steps, dtype),
        chip=load_chip(chip),
        options=SimOptions(data="none"),
    ).trace


def assert_same(first: Timeline, second: Timeline) -> None:
    for name in NAMES:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


@given(STEPS, DTYPES)
def test_python_and_numba_give_the_same_times(steps, dtype):
    trace, chip = trace_of(steps, dtype), load_chip("trainium2")
    assert_same(time_trace(trace, chip, PLAIN), time_trace(trace, chip, AUTO))
    assert_same(time_trace(trace, chip, LIST), time_trace(trace, chip, LIST_AUTO))


@pytest.mark.parametrize("name", CHIPS)
@given(STEPS, DTYPES, st.lists(st.integers(0, 40_000_000), min_size=14, max_size=14))
def test_the_program_order_is_what_looking_at_every_earlier_row_gives(name, steps, dtype, others):
    """Also where other cores keep some rows waiting (others: until when, in ps, mostly not)."""
    trace = trace_of(steps, dtype, name)
    timer = Timer(trace, load_chip(name), PLAIN)
    late = np.resize(np.where(np.array(others) % 3 == 0, others, 0), trace.num_rows)
    for visible in (np.zeros(0, dtype=np.int64), late):
        timeline, slow = timer.time(visible), RowByRow(timer).time(visible)
        columns = (timeline.start_ps, timeline.end_ps, timeline.wait_ps, timeline.cause)
        for quick, clear in zip(columns, slow, strict=False):
            np.testing.assert_array_equal(quick, clear)


@ORDERS
@given(STEPS, DTYPES)
def test_recording_and_timing_again_changes_nothing(options, steps, dtype):
    chip = load_chip("trainium2")
    first, second = trace_of(steps, dtype), trace_of(steps, dtype)
    np.testing.assert_array_equal(first.ranges, second.ranges)
    assert_same(time_trace(first, chip, options), time_trace(second, chip, options))
    assert_same(time_trace(first, chip, options), time_trace(first, chip, options))


@given(STEPS, DTYPES, st.integers(0, 14))
def test_more_work_never_takes_less_time(steps, dtype, kept):
    """In the program's order: what comes later delays nothing that came before."""
    chip = load_chip("trainium2")
    part, whole = trace_of(steps[:kept], dtype), trace_of(steps, dtype)
    assert time_trace(part, chip, PLAIN).duration_ps <= time_trace(whole, chip, PLAIN).duration_ps


def independent_tiles(a: AccessPattern, b: AccessPattern, order: Any) -> AccessPattern:
    """Load, scale, store of column blocks, in an order of blocks."""
    for block in order:
        tile = nl.ndarray((128, 64), dtype=a.dtype)
        columns = slice(64 * block, 64 * block + 64)
        nisa.dma_copy(dst=tile, src=a[:, columns])
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
        nisa.activation(dst=tile, op=nl.exp, data=tile)
        nisa.dma_copy(dst=b[:, columns], src=tile)
    return b


@given(st.permutations(range(8)), DTYPES)
def test_the_order_of_independent_work_hardly_matters_to_the_list_schedule(order, dtype):
    chip, shape = load_chip("trainium2"), Shape((128, 512), dtype)

    def duration(blocks: Any) -> int:
        run = record(
            independent_tiles, (shape, shape, blocks), options=SimOptions(data="none"), chip=chip
        )
        return time_trace(run.trace, chip, LIST).duration_ps

    assert duration(order) == pytest.approx(duration(range(8)), rel=0.05)


@given(STEPS, DTYPES, st.data())
def test_neighbours_that_do_not_meet_may_change_places(steps, dtype, data):
    """Swapping two steps that touch different tiles keeps the list schedule within 5 %."""
    tiles = {"load": 1, "fill": 1, "exp": 2, "copy": 2, "add": 2}
    steps = [step for step in steps if step[0] in tiles]
    used = [{(w + n) % 4 for n in range(tiles[kind])} for kind, _, w in steps]
    pairs = [n for n in range(len(steps) - 1) if not used[n] & used[n + 1]]
    if not pairs:
        return
    at = data.draw(st.sampled_from(pairs))
    swapped = [*steps[:at], steps[at + 1], steps[at], *steps[at + 2 :]]
    chip = load_chip("trainium2")
    before, after = (
        time_trace(trace_of(program, dtype), chip, LIST).duration_ps for program in (steps, swapped)
    )
    assert after == pytest.approx(before, rel=0.05)


@ORDERS
@pytest.mark.parametrize("name", CHIPS)
@given(STEPS, DTYPES)
def test_a_kernel_never_beats_the_roofline(options, name, steps, dtype):
    trace, chip = trace_of(steps, dtype, name), load_chip(name)
    duration_s = (time_trace(trace, chip, options).duration_ps + ROUNDING_PS * trace.num_rows) * PS
    assert duration_s >= trace.flops / chip.core_peak_flops
    moved = sum(trace.moved_bytes("hbm", written=written) for written in (True, False))
    share = chip.hbm.bandwidth.value / chip.core.count.value
    assert duration_s >= moved / share


@pytest.mark.parametrize("name", CHIPS)
@given(st.integers(1, 128), st.integers(1, 128), st.integers(1, 512), DTYPES)
def test_no_single_matmul_beats_the_peak_and_float32_takes_four_passes(name, k, m, n, dtype):
    def multiply(x):
        stationary, moving = nl.ndarray((k, m), dtype=dtype), nl.ndarray((k, n), dtype=dtype)
        product = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(dst=product, stationary=stationary, moving=moving)
        return x

    chip, options = load_chip(name), SimOptions(data="none")
    trace = record(multiply, (Shape((1, 1), dtype),), chip=chip, options=options).trace
    busy_s = (int(time_trace(trace, chip, PLAIN).busy_ps[0]) + ROUNDING_PS) * PS
    assert trace.flops == 2 * k * m * n
    passes = 4 if dtype == "float32" else 1
    assert busy_s >= passes * trace.flops / chip.core_peak_flops


@ORDERS
@pytest.mark.parametrize("name", CHIPS)
@given(STEPS, DTYPES)
def test_an_engine_does_one_thing_at_a_time(options, name, steps, dtype):
    timeline = time_trace(trace_of(steps, dtype, name), load_chip(name), options)
    dma = np.array([track.startswith("dma") for track in timeline.tracks])
    # The busy time of a DMA is its share of the DMA engines, of which several may run at once.
    rows = np.flatnonzero(dma[timeline.track])
    if len(rows):
        span = timeline.end_ps[rows].max() - timeline.start_ps[rows].min()
        assert timeline.busy_ps[rows].sum() <= span
    for number in np.unique(timeline.track[~dma[timeline.track]]):
        rows = np.flatnonzero(timeline.track == number)
        order = rows[np.argsort(timeline.start_ps[rows], kind="stable")]
        free = timeline.start_ps[order] + timeline.busy_ps[order]
        assert (timeline.start_ps[order][1:] >= free[:-1]).all()


@given(STEPS, DTYPES)
def test_an_engine_runs_its_rows_in_program_order_and_every_row_takes_time(steps, dtype):
    timeline = time_trace(trace_of(steps, dtype), load_chip("trainium2"), PLAIN)
    for number, track in enumerate(timeline.tracks):
        if track.startswith("dma"):
            continue  # a queue issues in order; the engines of a later DMA may be free earlier
        assert (np.diff(timeline.start_ps[timeline.track == number]) >= 0).all()
    assert (timeline.start_ps >= 0).all() and (timeline.wait_ps >= 0).all()
    assert (timeline.busy_ps > 0).all()
    assert (timeline.end_ps >= timeline.start_ps + timeline.busy_ps).all()
    assert (timeline.cause[timeline.wait_ps == 0] == 0).all()
    compute = np.array([not track.startswith("dma") for track in timeline.tracks])[timeline.track]
    assert (timeline.cause[(timeline.wait_ps > 0) & compute] > 0).all()
    assert timeline.added_ps.sum() == timeline.duration_ps


@ORDERS
@given(STEPS, DTYPES)
def test_nothing_reads_before_it_is_written_nor_overwrites_what_is_still_read(
    options, steps, dtype
):
    trace = trace_of(steps, dtype)
    timeline = time_trace(trace, load_chip("trainium2"), options)
    busy_until = timeline.start_ps + timeline.busy_ps
    ranges = trace.ranges
    dma = np.array([track.startswith("dma") for track in timeline.tracks])[timeline.track]

    def touched(row: int, write: int) -> list[Any]:
        begin = trace.access_end[row - 1] if row else 0
        return [ranges[item >> 1] for item in trace.access[begin : trace.access_end[row]]
                if item & 1 == write]  # fmt: skip

    def meet(mine: list[Any], others: list[Any]) -> bool:
        """Equal windows only: those depend on each other whatever the gaps in between."""
        return any(np.array_equal(a, b) for a in mine for b in others)

    for later in range(trace.num_rows):
        for earlier in range(later):
            if meet(touched(later, 0), touched(earlier, 1)):
                assert timeline.start_ps[later] >= timeline.end_ps[earlier]
            same = timeline.track[later] == timeline.track[earlier]
            if meet(touched(later, 1), touched(earlier, 0)) and (dma[later] or not same):
                assert timeline.start_ps[later] >= busy_until[earlier]


@given(st.integers(1, 128), st.integers(1, 600), DTYPES, st.booleans())
def test_a_copy_reads_as_many_bytes_as_it_writes(rows, columns, dtype, through_sbuf):
    def copy(x):
        result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        source = nl.load(x) if through_sbuf else x
        nisa.dma_copy(dst=result, src=source)
        return result

    options = SimOptions(data="none")
    trace = record(copy, (Shape((rows, columns), dtype),), options=options).trace
    read, written = (trace.moved_bytes("hbm", written=flag) for flag in (False, True))
    assert read == written == rows * columns * (4 if dtype == "float32" else 2)
    assert trace.moved_bytes("sbuf", written=True) == trace.moved_bytes("sbuf", written=False)


@pytest.mark.parametrize("width", [64, 512])
def test_a_copy_from_hbm_to_hbm_moves_every_byte_twice_through_its_bandwidth(width):
    """128 rows: enough bytes for the bandwidth, not the latency, to decide."""
    steps = [("across", width, 0)] * 60
    trace, chip = trace_of(steps, "float32"), load_chip("trainium2")
    duration_s = time_trace(trace, chip, PLAIN).duration_ps * PS
    share = chip.hbm.bandwidth.value / chip.core.count.value
    assert duration_s * share >= 60 * 2 * 128 * width * 4 * (1 - 1e-6)


SLICES = st.tuples(st.integers(0, 11), st.integers(1, 12), st.integers(1, 4))


@st.composite
def windows(draw: Any) -> tuple[Any, ...]:
    """A slice of each axis of a [64, 4, 12] tensor."""
    first = draw(st.sampled_from([(0, 32), (32, 64), (0, 64)]))
    plane = draw(st.integers(0, 3))
    start, length, step = draw(SLICES)
    end = min(12, start + length)
    middle = slice(plane, draw(st.integers(plane + 1, 4)), draw(st.integers(1, 2)))
    return (slice(*first), middle, slice(start, max(end, start + 1), step))


@given(st.lists(windows(), min_size=2, max_size=12), st.booleans())
def test_windows_that_share_a_byte_are_always_found_to_overlap(keys, on_chip):
    """What `overlaps` leaves out runs at the same time: it may leave out nothing that meets."""

    def touch(x):
        space = Space.sbuf if on_chip else Space.shared_hbm
        tensor = active_recorder().allocate((64, 4, 12), "float32", space)
        for key in keys:
            tile = nl.ndarray(tensor[key].shape, dtype=nl.float32)
            nisa.dma_copy(dst=tensor[key], src=tile)
        return x

    trace = record(touch, (Shape((1, 1), "float32"),), options=SimOptions(data="none")).trace
    numbers = np.arange(64 * 4 * 12).reshape(64, 4, 12)
    sets = [set(numbers[key].reshape(-1).tolist()) for key in keys]
    written = np.ones(len(trace.ranges), dtype=bool)
    for options in (PLAIN, AUTO):
        ends, found = overlaps(trace.ranges, written, options)
        target = [int(trace.access[trace.access_end[row] - 2]) >> 1 for row in range(len(keys))]
        for a in range(len(keys)):
            mine = target[a]
            near = set(found[(ends[mine - 1] if mine else 0) : ends[mine]].tolist())
            for b in range(len(keys)):
                if sets[a] & sets[b]:
                    assert target[b] in near


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 40)), min_size=1, max_size=4))
def test_a_comb_covers_every_element_of_the_view_it_describes(axes):
    shape, strides = [extent for extent, _ in axes], [stride for _, stride in axes]
    period, run = comb_of(shape, strides)
    numbers = np.zeros((), dtype=int)
    for extent, stride in axes:
        numbers = numbers[..., None] + stride * np.arange(extent)
    if period:
        assert 0 < run < period
        assert (numbers % period < run).all()
