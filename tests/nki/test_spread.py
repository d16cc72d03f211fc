"""A row on all partitions: one matmul, read where it lies once, copied for whoever can't."""

from __future__ import annotations

import numpy as np
import pytest

from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.nki import record

ROW = np.arange(64, dtype=np.float32).reshape(1, 64)
TILE = np.ones((128, 64), dtype=np.float32)


def opcodes(run) -> list[str]:
    return [run.trace.signatures[number].opcode for number in run.trace.signature]


def loaded(a, b):
    row, tile = nl.load(a), nl.load(b)
    return row, tile, nl.ndarray(b.shape, dtype=b.dtype, buffer=nl.shared_hbm)


def added(a, b, times, engine=nisa.engine.vector):
    row, tile, result = loaded(a, b)
    everywhere = nl.broadcast_to(row, (128, 64))
    for _ in range(times):
        nisa.tensor_tensor(dst=tile, data1=tile, data2=everywhere, op=nl.add, engine=engine)
    nl.store(result, tile)
    return result


@pytest.mark.parametrize("times", [1, 2, 3])
def test_the_first_reader_takes_it_from_psum_and_the_others_from_one_copy(times):
    run = record(added, (ROW, TILE, times))
    np.testing.assert_array_equal(run.outputs, TILE + times * ROW)
    names = opcodes(run)
    assert names.count("nc_matmul") == 1
    assert names.count("tensor_copy") == (0 if times == 1 else 1)
    kinds = [s["data2"].space for s in run.trace.signatures if s.opcode == "tensor_tensor"]
    assert kinds == (["psum"] if times == 1 else ["psum", "sbuf"])


def test_gpsimd_which_cannot_read_psum_gets_a_copy():
    run = record(added, (ROW, TILE, 1, nisa.engine.gpsimd))
    np.testing.assert_array_equal(run.outputs, TILE + ROW)
    assert opcodes(run).count("tensor_copy") == 1


def test_two_of_them_are_not_both_read_from_psum():
    def kernel(a, b):
        row, tile, result = loaded(a, b)
        one, two = (nl.broadcast_to(row, (128, 64)) for _ in range(2))
        nisa.tensor_tensor(dst=tile, data1=one, data2=two, op=nl.add)
        nl.store(result, tile)
        return result

    run = record(kernel, (ROW, TILE))
    np.testing.assert_array_equal(run.outputs, np.broadcast_to(2 * ROW, (128, 64)))


def test_written_after_it_was_copied_the_copy_is_written():
    def kernel(a, b):
        row, tile, result = loaded(a, b)
        everywhere = nl.broadcast_to(row, (128, 64))
        for _ in range(2):
            nisa.tensor_tensor(dst=tile, data1=tile, data2=everywhere, op=nl.add)
            nisa.tensor_scalar(dst=everywhere, data=everywhere, op0=nl.multiply, operand0=2.0)
        nl.store(result, tile)
        return result

    run = record(kernel, (ROW, TILE))
    np.testing.assert_array_equal(run.outputs, TILE + 3 * ROW)


def test_a_matmul_may_stream_it():
    def kernel(a, b):
        row, tile, result = loaded(a, b)
        product = nl.ndarray((64, 64), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(dst=product, stationary=tile, moving=nl.broadcast_to(row, (128, 64)))
        nl.store(result[0:64], product)
        nl.store(result[64:128], product)
        return result

    run = record(kernel, (ROW, TILE))
    np.testing.assert_array_equal(run.outputs, np.broadcast_to(128 * ROW, (128, 64)))
