"""Two cores of one logical core: shared memory, messages, barriers, deadlocks."""

from __future__ import annotations

import numpy as np
import pytest

from rainshadow.errors import NkiValidationError
from rainshadow.nki import isa as nisa
from rainshadow.nki import jit, record, simulate
from rainshadow.nki import language as nl


@jit
def halves(x):
    """Each core doubles its half of the rows; both write one shared result."""
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    rows = x.shape[0] // nl.num_programs()
    mine = nl.ds(nl.program_id() * rows, rows)
    tile = nl.ndarray((rows, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x[mine])
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
    nisa.dma_copy(dst=result[mine], src=tile)
    return result


@jit
def swapped(x):
    """Core 0 gets core 1's row, and the other way round."""
    result = nl.ndarray((2, x.shape[1]), dtype=x.dtype, buffer=nl.shared_hbm)
    me = nl.program_id()
    mine = nl.ndarray((1, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
    theirs = nl.ndarray((1, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=mine, src=x[me : me + 1])
    nisa.sendrecv(src=mine, dst=theirs, send_to_rank=1 - me, recv_from_rank=1 - me, pipe_id=0)
    nisa.dma_copy(dst=result[me : me + 1], src=theirs)
    return result


@jit
def reads_the_other(x):
    """Each core writes a row of shared memory, waits, and reads the other's."""
    shared = nl.ndarray((2, x.shape[1]), dtype=x.dtype, buffer=nl.shared_hbm)
    result = nl.ndarray((2, x.shape[1]), dtype=x.dtype, buffer=nl.shared_hbm)
    me = nl.program_id()
    tile = nl.ndarray((1, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x[me : me + 1])
    nisa.dma_copy(dst=shared[me : me + 1], src=tile)
    nisa.core_barrier(data=shared, cores=(0, 1))
    nisa.dma_copy(dst=tile, src=shared[1 - me : 2 - me])
    nisa.dma_copy(dst=result[me : me + 1], src=tile)
    return result


@jit
def one_sided(x):
    """Only core 0 comes to the barrier."""
    shared = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    if nl.program_id() == 0:
        nisa.core_barrier(data=shared, cores=(0, 1))
    return shared


X = np.arange(16, dtype=np.float32).reshape(2, 8)


@pytest.mark.parametrize("lnc", [1, 2])
def test_cores_write_one_shared_result(lnc):
    np.testing.assert_array_equal(simulate(halves[lnc])(X), 2 * X)


def test_tiles_are_exchanged():
    np.testing.assert_array_equal(simulate(swapped[2])(X), X[::-1])


def test_after_a_barrier_each_core_sees_what_the_other_wrote():
    np.testing.assert_array_equal(simulate(reads_the_other[2])(X), X[::-1])


def test_each_core_has_a_trace_of_its_own():
    run = record(halves[2], (X,))
    assert [trace.num_rows for trace in (run.trace, *run.other_traces)] == [3, 3]


def test_a_barrier_that_one_core_never_reaches_is_named():
    with pytest.raises(NkiValidationError, match="core 0 waits for core_barrier 1; core 1 has end"):
        simulate(one_sided[2])(X)


def test_messages_between_cores_need_two_cores():
    for kernel in (swapped, reads_the_other):
        with pytest.raises(NkiValidationError, match="kernel\\[2\\]"):
            simulate(kernel)(X)


def test_an_error_on_one_core_is_the_launchs_error():
    @jit
    def fails(x):
        if nl.program_id() == 1:
            nl.ndarray((256, 4), dtype=nl.float32, buffer=nl.sbuf)
        shared = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        nisa.core_barrier(data=shared, cores=(0, 1))
        return shared

    with pytest.raises(NkiValidationError, match="128 partitions"):
        simulate(fails[2])(X)
    np.testing.assert_array_equal(simulate(halves[2])(X), 2 * X)
