"""What repeats is timed until it settles and filled in: to the picosecond as timed row by row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rainshadow.machine import load_chip
from rainshadow.nki import Shape, record
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.sim import waits as waiting
from rainshadow.sim.options import SimOptions
from rainshadow.sim.program_order import ProgramOrder
from rainshadow.sim.repetition import Run, runs_of
from rainshadow.sim.timing import Timer, TimingOptions
from rainshadow.sim.waits import FOR_MEMORY, UNTIL_IDLE, Waits

NONE = np.zeros(0, dtype=np.int64)


def looping(x, times, widths, buffers, outer):
    """Loads, sums on two engines, and stores through some buffers, again and again."""
    tiles = [nl.ndarray((128, 512), dtype=x.dtype) for _ in range(buffers)]
    weights = nl.ndarray((128, 512), dtype=x.dtype)
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=weights, src=x)
    for step in range(times):
        tile = tiles[step % buffers]
        for number, width in enumerate(widths):
            part = tile[:, 0:width]
            nisa.dma_copy(dst=part, src=x[:, 0:width])
            engine = (nisa.engine.vector, nisa.engine.gpsimd)[number % 2]
            nisa.tensor_tensor(
                dst=part, data1=part, data2=weights[:, 0:width], op=nl.add, engine=engine
            )
            nisa.activation(dst=part, op=(nl.exp, nl.tanh)[number % 2], data=part)
        if outer and step % outer == 0:
            nisa.dma_copy(dst=result, src=tile)
    return result


def trace_of(*arguments):
    shape = Shape((128, 512), "bfloat16")
    return record(looping, (shape, *arguments), options=SimOptions(data="none")).trace


def both(trace, chip, compiled):
    """Columns of the results with what repeats filled in, and row by row."""
    timer = Timer(trace, load_chip(chip), TimingOptions(compiled=compiled))
    quick = timer._program_order(NONE)
    waits, runs = timer._repeating
    trace.worked_out["waits"] = waits, []
    return runs, quick, timer._program_order(NONE)


@settings(max_examples=8)
@given(
    st.integers(400, 700),
    st.lists(st.sampled_from([1, 64, 200, 512]), min_size=1, max_size=2),
    st.integers(1, 3),
    st.sampled_from([0, 1, 4]),
    st.sampled_from(["trainium1", "trainium2", "trainium3"]),
)
def test_filling_in_changes_no_time(times, widths, buffers, outer, chip):
    runs, quick, slow = both(trace_of(times, widths, buffers, outer), chip, "never")
    assert runs
    for filled, timed in zip(quick, slow, strict=True):
        np.testing.assert_array_equal(filled, timed)


def test_a_loop_that_settles_is_mostly_not_timed(monkeypatch):
    trace = trace_of(3000, [512], 2, 0)
    timed = []
    part = ProgramOrder._part

    def noted(self, first, end):
        timed.append(end - first)
        part(self, first, end)

    monkeypatch.setattr(ProgramOrder, "_part", noted)
    Timer(trace, load_chip("trainium2"), TimingOptions(compiled="never")).time()
    assert sum(timed) < trace.num_rows / 2


@pytest.mark.parametrize("broken", [0, 3001])
def test_a_run_ends_where_a_row_waits_for_another(broken):
    count = 6000
    producer = np.arange(count) - 2
    producer[:2] = 0
    if broken:
        producer[broken] -= 1
    end = np.arange(count, dtype=np.int64)  # the first row waits for none
    waits = Waits(end, producer[1:], np.zeros(count - 1, dtype=np.uint8))
    runs = runs_of(np.arange(count) % 4, waits)
    assert all(run.period % 4 == 0 and not run.first <= broken < run.end for run in runs if broken)
    assert runs[0].first < 10
    assert runs[-1].end == count
    assert all(isinstance(run, Run) for run in runs)


def test_a_result_is_waited_for_once_per_engine():
    def kernel(x):
        weights = nl.ndarray((128, 64), dtype=x.dtype)
        nisa.dma_copy(dst=weights, src=x)
        for _ in range(4):
            tile = nl.ndarray((128, 64), dtype=x.dtype)
            nisa.tensor_tensor(dst=tile, data1=weights, data2=weights, op=nl.add)
        nisa.memset(dst=weights, value=0.0, engine=nisa.engine.gpsimd)
        return x

    trace = record(kernel, (Shape((128, 64), "float32"),), options=SimOptions(data="none")).trace
    timer = Timer(trace, load_chip("trainium2"))
    waits, _ = timer._repeating
    assert (waits.producer == 0).sum() == 2  # VectorE's first sum, and the memset
    last = waits.flags[waits.end[-2] :]
    assert (last & FOR_MEMORY > 0).all()
    assert (last & UNTIL_IDLE > 0).any()


@pytest.mark.parametrize("rows_at_once", [1, 7, 100])
def test_waits_worked_out_in_parts_are_the_same(rows_at_once, monkeypatch):
    trace = trace_of(40, [64, 512], 2, 3)
    whole, _ = Timer(trace, load_chip("trainium2"))._repeating
    trace.worked_out.clear()
    monkeypatch.setattr(waiting, "_ROWS_AT_ONCE", rows_at_once)
    parts, _ = Timer(trace, load_chip("trainium2"))._repeating
    for name in ("end", "producer", "flags"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
