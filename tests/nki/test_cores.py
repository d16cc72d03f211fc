"""Two cores of one logical core: shared memory, messages, barriers, deadlocks."""

from __future__ import annotations

import numpy as np
import pytest

from rainshadow.errors import NkiValidationError
from rainshadow.nki import Shape, jit, record, simulate
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.sim.options import SimOptions


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


@jit
def cleared_by_both(x):
    """Both cores clear all of the shared result, then each writes its row, with no barrier."""
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    me = nl.program_id()
    zeros = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.memset(dst=zeros, value=0.0)
    nisa.dma_copy(dst=result, src=zeros)
    nisa.dma_copy(dst=result[me : me + 1], src=x[me : me + 1])
    return result


X = np.arange(16, dtype=np.float32).reshape(2, 8)


def test_writes_to_shared_memory_go_in_turns_without_a_barrier():
    np.testing.assert_array_equal(simulate(cleared_by_both[2])(X), X)


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
    wanted = (
        r"core 0 waits for core 1 to come to core_barrier 1 at .*test_cores\.py:\d+: nisa\.core_b"
    )
    with pytest.raises(NkiValidationError, match=wanted) as raised:
        simulate(one_sided[2])(X)
    assert "core 1 has ended" in str(raised.value) and raised.value.where.text


def test_a_deadlock_is_found_without_data_too():
    with pytest.raises(NkiValidationError, match="core 0 waits for core 1"):
        record(one_sided[2], (Shape(X.shape, "float32"),), options=SimOptions(data="none"))


def exchange(sizes, receive=(1, 0), pipes=(0, 0)):
    """A kernel in which core i sends sizes[i] numbers and receives from receive[i]."""

    @jit
    def kernel(x):
        me = nl.program_id()
        mine = nl.ndarray((1, sizes[me]), dtype=x.dtype, buffer=nl.sbuf)
        theirs = nl.ndarray((1, sizes[me]), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=mine, src=x[0:1, 0 : sizes[me]])
        if receive[me] is not None:
            nisa.sendrecv(
                src=mine,
                dst=theirs,
                send_to_rank=1 - me,
                recv_from_rank=receive[me],
                pipe_id=pipes[me],
            )
        return x

    return kernel[2]


def test_a_message_of_another_size_is_named_with_both_lines():
    wanted = r"core . sends float32\[1, .\], core . receives float32\[1, .\]; sent at .*test_cores"
    with pytest.raises(NkiValidationError, match=wanted):
        simulate(exchange((4, 8)))(X)


def test_a_message_that_nobody_sends_is_a_deadlock():
    wanted = "core 0 waits for core 1 to send by sendrecv, pipe 0"
    with pytest.raises(NkiValidationError, match=wanted):
        simulate(exchange((4, 4), receive=(1, None)))(X)
    with pytest.raises(NkiValidationError, match=r"core 1 waits for core 0 to send .* pipe 7"):
        simulate(exchange((4, 4), pipes=(0, 7)))(X)


def test_a_core_that_is_not_there_is_refused_wherever_it_is_named():
    with pytest.raises(NkiValidationError, match=r"ranks \(1, 2\)"):
        simulate(exchange((4, 4), receive=(2, 0)))(X)


def test_barriers_on_different_tensors_are_named_with_both_lines():
    @jit
    def kernel(x):
        first = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm, name="first")
        second = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm, name="second")
        if nl.program_id() == 0:
            nisa.core_barrier(data=first, cores=(0, 1))
        else:
            nisa.core_barrier(data=second, cores=(0, 1))
        return x

    with pytest.raises(NkiValidationError, match=r"core_barrier second where core 0 .* first at "):
        simulate(kernel[2])(X)


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
