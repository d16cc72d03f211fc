"""The compiler's order: stalls are filled, repeated work is done once, nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from rainshadow.machine import load_chip
from rainshadow.nki import Shape, record
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.sim.options import SimOptions
from rainshadow.sim.timeline import Timeline
from rainshadow.sim.timing import TimingOptions, time_trace

PROGRAM = TimingOptions(compiled="never")
COMPILER = TimingOptions(compiled="never", schedule="compiler")
SHAPE = Shape((128, 2048), "float32")


def timed(kernel, *arguments, options=COMPILER) -> Timeline:
    run = record(kernel, arguments, options=SimOptions(data="none"))
    return time_trace(run.trace, load_chip("trainium2"), options)


def stalling(a, b):
    """A short chain behind a long one on the same engine."""
    late, early = (nl.ndarray((128, 2048), dtype=a.dtype) for _ in range(2))
    nisa.memset(dst=early, value=1.0, engine=nisa.engine.gpsimd)
    nisa.dma_copy(dst=late, src=a)
    nisa.tensor_scalar(dst=late, data=late, op0=nl.multiply, operand0=2.0)
    for _ in range(4):
        nisa.tensor_scalar(dst=early, data=early, op0=nl.multiply, operand0=2.0)
    nisa.dma_copy(dst=a, src=late)
    nisa.dma_copy(dst=b, src=early)
    return b


def test_an_engine_does_what_is_ready_while_the_first_row_waits():
    ordered = timed(stalling, SHAPE, SHAPE, options=PROGRAM)
    free = timed(stalling, SHAPE, SHAPE)
    assert free.duration_ps < ordered.duration_ps
    assert free.engine_busy_ps == ordered.engine_busy_ps


def repeating(a, b, touched):
    """The same product in each of four turns, and what is added to it."""
    x, y, total = (nl.ndarray((128, 512), dtype=a.dtype) for _ in range(3))
    nisa.dma_copy(dst=x, src=a[:, 0:512])
    nisa.dma_copy(dst=y, src=a[:, 512:1024])
    nisa.memset(dst=total, value=0.0)
    for _ in range(4):
        product = nl.ndarray((128, 512), dtype=a.dtype)
        nisa.tensor_tensor(dst=product, data1=x, data2=y, op=nl.multiply)
        nisa.tensor_tensor(dst=total, data1=total, data2=product, op=nl.add)
        if touched == "operand":
            nisa.tensor_copy(dst=x, src=total)
        elif touched == "product":
            nisa.tensor_copy(dst=product, src=total)
    nisa.dma_copy(dst=b[:, 0:512], src=total)
    return b


@pytest.mark.parametrize(("touched", "saved"), [("", 3), ("operand", 0), ("product", 0)])
def test_a_product_of_untouched_operands_is_computed_once(touched, saved):
    timeline = timed(repeating, SHAPE, SHAPE, touched)
    assert int((timeline.busy_ps == 0).sum()) == saved
    assert (timed(repeating, SHAPE, SHAPE, touched, options=PROGRAM).busy_ps > 0).all()


def test_the_activation_table_that_is_loaded_follows_the_order_of_execution():
    def kernel(a, b):
        tiles = [nl.ndarray((128, 64), dtype=a.dtype) for _ in range(4)]
        for number, tile in enumerate(tiles):
            nisa.memset(dst=tile, value=1.0)
            nisa.activation(dst=tile, op=(nl.exp, nl.tanh)[number % 2], data=tile)
            nisa.dma_copy(dst=b[:, 64 * number : 64 * number + 64], src=tile)
        return b

    timeline = timed(kernel, SHAPE, SHAPE)
    scalar = timeline.track == timeline.tracks.index("scalar")
    loads = np.count_nonzero(timeline.busy_ps[scalar] > 1_000_000)
    assert 2 <= loads <= 4
