"""Registers as conditions, the counters of dynamic loops, and the order that a kernel asks for."""

from __future__ import annotations

import numpy as np
import pytest

from rainshadow.errors import InputError, NkiValidationError
from rainshadow.machine import load_chip
from rainshadow.nki import isa as nisa
from rainshadow.nki import jit, record, simulate
from rainshadow.nki import language as nl
from rainshadow.sim.options import SimOptions
from rainshadow.sim.timing import time_trace

X = np.ones((4, 8), np.float32)


def test_while_a_register_is_not_zero():
    def kernel(x):
        left, turns = nisa.register_alloc(3), 0
        while left:
            nisa.register_move(left, left - 1)
            turns += 1
        return turns

    assert simulate(kernel)(X) == 3


def test_a_register_that_never_becomes_zero_is_an_endless_kernel():
    def kernel(x):
        left = nisa.register_alloc(1)
        while left:
            pass

    with pytest.raises(InputError, match="has executed 1000 iterations of while loops"):
        simulate(kernel, options=SimOptions(max_instructions=1000))(X)


def test_the_counter_of_a_dynamic_loop_is_a_register_that_cannot_be_written():
    def reads(x):
        return [(type(i).__name__, i * 128, f"{i}") for i in nl.dynamic_range(1, 3)]

    def writes(x):
        for i in nl.dynamic_range(3):
            nisa.register_move(i, 7)

    assert simulate(reads)(X) == [("VirtualRegister", 128, "1"), ("VirtualRegister", 256, "2")]
    with pytest.raises(NkiValidationError, match="the counter of a dynamic loop"):
        simulate(writes)(X)


def test_no_dynamic_loop_in_a_block_that_keeps_its_order():
    def kernel(x):
        with nl.no_reorder():
            for _ in nl.dynamic_range(2):
                pass

    with pytest.raises(NkiValidationError, match=r"dynamic_range inside nl\.no_reorder"):
        simulate(kernel)(X)


@jit
def two_engines(x):
    """Work of VectorE and of ScalarE that share nothing but what they read."""
    tile, a, b = (nl.ndarray(x.shape, nl.float32, nl.sbuf) for _ in range(3))
    nisa.dma_copy(tile, x)
    nisa.reciprocal(dst=a, data=tile, name="inverse")
    nisa.activation(dst=b, op=nl.exp, data=tile, name="power")
    out = nl.ndarray((2, *x.shape), nl.float32, nl.shared_hbm)
    nisa.dma_copy(out[0], a)
    nisa.dma_copy(out[1], b)
    return out


@jit
def one_after_the_other(x):
    tile, a, b = (nl.ndarray(x.shape, nl.float32, nl.sbuf) for _ in range(3))
    nisa.dma_copy(tile, x)
    with nl.no_reorder():
        nisa.reciprocal(dst=a, data=tile)
        nisa.activation(dst=b, op=nl.exp, data=tile)
    return a


def starts(kernel):
    run = record(kernel, (X,))
    timeline = time_trace(run.trace, load_chip("trainium2"))
    names = [run.trace.signatures[number].opcode for number in run.trace.signature]
    at = {name: row for row, name in enumerate(names)}
    first, second = at["reciprocal"], at["activation"]
    return timeline.start_ps[second] - timeline.end_ps[first]


@pytest.mark.parametrize("edge", [("power", "inverse"), ("power", ["inverse"])])
def test_with_schedule_has_a_named_instruction_wait_for_another(edge):
    assert starts(two_engines) < 0 <= starts(two_engines.with_schedule([edge]))


def test_instructions_of_a_block_that_keeps_its_order_run_one_after_the_other():
    assert starts(one_after_the_other) >= 0


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([("power", "nobody")], "no instruction of two_engines is named 'nobody'"),
        ([("inverse", "power")], "'inverse' after 'power', which is issued later"),
        (["power"], "edge 'power'"),
        ("power", "with_schedule of 'power'"),
        ([("power", [3])], "edge"),
    ],
)
def test_an_edge_that_is_none_is_refused(edges, message):
    with pytest.raises(NkiValidationError, match=message):
        simulate(two_engines.with_schedule(edges))(X)


def test_a_name_that_is_no_string_is_refused():
    def kernel(x):
        nisa.memset(nl.ndarray((4, 8), nl.float32, nl.sbuf), 0.0, name=3)

    with pytest.raises(NkiValidationError, match="name is 3"):
        simulate(kernel)(X)
