"""The cores of a launch, timed together: who comes first waits, and nobody waits for nothing."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rainshadow.machine import load_chip
from rainshadow.nki import Shape, jit, record
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.sim.launch_timing import time_launch
from rainshadow.sim.options import SimOptions
from rainshadow.sim.timeline import Timeline
from rainshadow.sim.timing import TimingOptions, time_trace
from rainshadow.sim.trace import Trace

CHIP = load_chip("trainium2")
OPTIONS = {
    (schedule, compiled): TimingOptions(lnc=2, schedule=schedule, compiled=compiled)
    for schedule in ("program", "compiler")
    for compiled in ("never", "auto")
}
PROGRAM = OPTIONS["program", "never"]


@jit
def in_rounds(x, rounds):
    """Each round a core works as often as `rounds` says of it, then stores, meets, and reads."""
    shared = nl.ndarray((256, 512), dtype=nl.float32, buffer=nl.shared_hbm)
    me = nl.program_id()
    tile = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
    theirs = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x[me * 128 : me * 128 + 128])
    for works in rounds:
        for _ in range(works[me]):
            nisa.activation(dst=tile, op=nl.tanh, data=tile)
        nisa.dma_copy(dst=shared[me * 128 : me * 128 + 128], src=tile)
        nisa.core_barrier(data=shared, cores=(0, 1))
        other = 1 - me
        nisa.dma_copy(dst=theirs, src=shared[other * 128 : other * 128 + 128])
        nisa.tensor_tensor(dst=tile, data1=tile, data2=theirs, op=nl.add)
        nisa.sendrecv(src=tile, dst=theirs, send_to_rank=other, recv_from_rank=other, pipe_id=0)
        nisa.tensor_tensor(dst=tile, data1=tile, data2=theirs, op=nl.add)
        nisa.core_barrier(data=shared, cores=(0, 1))
    return shared


def cores_of(rounds: object) -> list[Trace]:
    shape = Shape((256, 512), "float32")
    run = record(in_rounds[2], (shape, rounds), options=SimOptions(data="none"))
    return [run.trace, *run.other_traces]


def rows_of(timeline: Timeline, opcode: str) -> np.ndarray:
    trace = timeline.trace
    wanted = [n for n, signature in enumerate(trace.signatures) if signature.opcode == opcode]
    return np.flatnonzero(np.isin(trace.signature, wanted))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=map(str, OPTIONS))
def test_cores_leave_a_meeting_together(options):
    cores = time_launch(cores_of([(1, 9), (7, 2), (3, 3)]), CHIP, options)
    for opcode in ("core_barrier", "sendrecv"):
        first, second = (core.end_ps[rows_of(core, opcode)] for core in cores)
        np.testing.assert_array_equal(first, second)


def test_who_comes_first_waits_for_the_other_core():
    early, late = time_launch(cores_of([(0, 40)]), CHIP, PROGRAM)
    barrier, work = rows_of(early, "core_barrier")[0], late.engine_busy_ps["scalar"]
    assert early.causes[early.cause[barrier]] == "the other core"
    assert work < early.wait_ps[barrier] < early.end_ps[barrier]
    assert late.wait_by_cause_ps["the other core"] < 0.05 * work
    assert early.duration_ps == pytest.approx(late.duration_ps, rel=0.02)


def test_a_wait_is_not_work():
    traces = cores_of([(0, 40)])
    together = time_launch(traces, CHIP, PROGRAM)[0]
    alone = time_trace(traces[0], CHIP, PROGRAM)
    np.testing.assert_array_equal(together.busy_ps, alone.busy_ps)
    assert together.duration_ps > alone.duration_ps


def test_cores_with_equal_work_take_no_longer_together():
    traces = cores_of([(4, 4), (4, 4)])
    for trace, together in zip(traces, time_launch(traces, CHIP, PROGRAM), strict=True):
        assert together.duration_ps == time_trace(trace, CHIP, PROGRAM).duration_ps


ROUNDS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=4)


@settings(max_examples=20, deadline=None)
@given(rounds=ROUNDS, schedule=st.sampled_from(["program", "compiler"]))
def test_a_launch_takes_at_least_the_slower_core_of_every_round(rounds, schedule):
    traces = cores_of(rounds)
    cores = time_launch(traces, CHIP, OPTIONS[schedule, "never"])
    again = time_launch(traces, CHIP, OPTIONS[schedule, "auto"])
    least = one_tanh_ps() * sum(max(works) for works in rounds)
    for core, same in zip(cores, again, strict=True):
        assert core.duration_ps >= least
        np.testing.assert_array_equal(core.end_ps, same.end_ps)


@cache
def one_tanh_ps() -> int:
    """What one more costs ScalarE."""
    one, two = (
        time_trace(cores_of([(works, works)])[0], CHIP, PROGRAM).engine_busy_ps["scalar"]
        for works in (1, 2)
    )
    return two - one
