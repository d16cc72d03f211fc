"""A trace's tensors at other addresses: the same ones on the same chip, fewer waits with room."""

from __future__ import annotations

import numpy as np
import pytest

from rainshadow.errors import CapacityError
from rainshadow.machine import load_chip
from rainshadow.machine.what_if import what_if
from rainshadow.nki import Shape, record
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.sim.options import SimOptions
from rainshadow.sim.place_again import place_again, place_apart
from rainshadow.sim.timing import TimingOptions, time_trace
from rainshadow.sim.trace import SPACES

CHIP = load_chip("trainium2")
OPTIONS = TimingOptions(compiled="never")


def wide_tiles(x):
    """Tiles of 192 KiB per partition: one lies in SBUF at one time."""
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    fixed = nl.ndarray((128, 16), dtype=x.dtype, buffer=nl.sbuf, address=(0, 0))
    nisa.dma_copy(dst=fixed, src=x[0:128, 0:16])
    for block in range(x.shape[0] // 128):
        here = nl.ds(block * 128, 128)
        tile = nl.ndarray((128, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[here])
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=fixed[:, 0:1])
        nisa.dma_copy(dst=result[here], src=tile)
    return result


@pytest.fixture(scope="module")
def trace():
    shape = Shape((8 * 128, 49152), "float32")
    return record(wide_tiles, (shape,), chip=CHIP, options=SimOptions(data="none")).trace


def times(some, chip=CHIP):
    return time_trace(some, chip, OPTIONS)


def test_on_the_same_chip_every_address_is_the_same(trace):
    again = place_again(trace, CHIP)
    for name in ("access", "ranges", "tensors", "use"):
        np.testing.assert_array_equal(getattr(again, name), getattr(trace, name), err_msg=name)
    assert again.peak_bytes == trace.peak_bytes


def test_more_sbuf_shortens_the_waits_for_memory(trace):
    larger = what_if(CHIP, "sbuf=96MiB")
    again = place_again(trace, larger)
    on_chip = trace.tensors[:, 0] == SPACES.index("sbuf")
    assert again.tensors[on_chip, 3].max() > trace.tensors[on_chip, 3].max()
    assert times(again, larger).duration_ps < times(trace).duration_ps


def test_what_the_kernel_put_at_an_address_stays_there(trace):
    for other in (place_apart(trace), place_again(trace, what_if(CHIP, "sbuf=96MiB"))):
        given = [other.tensor(n) for n in range(len(other.tensors))]
        assert [t.address for t in given if t.partitions == 128 and t.size_bytes == 64] == [0]


def test_apart_nobody_waits_for_memory_that_another_tile_holds(trace):
    apart = times(place_apart(trace))
    assert apart.wait_by_cause_ps["buffer still in use"] == 0
    assert apart.duration_ps < times(trace).duration_ps


def test_too_little_sbuf_is_a_capacity_error(trace):
    with pytest.raises(CapacityError, match="float32"):
        place_again(trace, what_if(CHIP, "sbuf=20MiB"))
