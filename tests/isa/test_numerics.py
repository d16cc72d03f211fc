"""Numbers where AWS documents more than float32 arithmetic: integers, bits, NaN through TensorE."""

from __future__ import annotations

import numpy as np
import pytest
from on_core import blank, core, tile

from rainshadow.isa.memory import Space
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl

WORDS = np.array([[2**24 + 1, 2**30 - 1, 7, -(2**30) + 1]], np.int32)


@pytest.mark.parametrize(("engine", "exact"), [({}, True), ({"engine": nisa.engine.vector}, False)])
def test_gpsimd_adds_integers_of_32_bits_as_they_are_and_vector_in_float32(engine, exact):
    with core():
        words, total = tile(WORDS), blank(1, 4, dtype="int32")
        nisa.tensor_tensor(total, words, words, nl.add, **engine)
        assert (total.array == WORDS + WORDS).all() == exact


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (nl.invert, ~WORDS),
        (nl.right_shift, (WORDS.view(np.uint32) >> np.uint32(4)).view(np.int32)),
        (nl.left_shift, WORDS << 4),
    ],
)
def test_operators_on_bits_take_no_notice_of_signs(op, expected):
    with core():
        words, result = tile(WORDS), blank(1, 4, dtype="int32")
        nisa.tensor_scalar(result, words, op, None if op is nl.invert else 4)
        assert (result.array == expected).all()


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (nl.square, [[9, 1, 0, 4]]),
        (nl.relu, [[0, 1, 0, 2]]),
        (nl.abs, [[3, 1, 0, 2]]),
        (nl.reciprocal, [[-1 / 3, 1, np.inf, 0.5]]),
    ],
)
def test_unary_operators_of_tensor_scalar_need_no_operand(op, expected):
    with core():
        data, result = tile(np.array([[-3, 1, 0, 2]], np.float32)), blank(1, 4)
        nisa.tensor_scalar(result, data, op, None)
        assert result.array == pytest.approx(np.array(expected, np.float32))


@pytest.mark.parametrize("chip", ["trainium1", "trainium2"])
def test_transposes_keep_nan_and_infinity_from_v3_on(chip):
    values = np.array([[1.0, np.nan], [np.inf, 4.0]], np.float32)
    with core(chip):
        data, identity = tile(values), tile(np.eye(2, dtype=np.float32))
        for issue in (
            lambda dst: nisa.nc_transpose(dst, data, nisa.engine.tensor),
            lambda dst: nisa.nc_matmul(dst, data, identity, is_transpose=True),
            lambda dst: nisa.nc_matmul(dst, identity, tile(values.T), is_transpose=True),
        ):
            dst = blank(2, 2, space=Space.psum)
            issue(dst)
            assert np.array_equal(dst.array, values.T, equal_nan=True) == (chip == "trainium2")


def test_affine_select_moves_integers_as_they_are():
    with core():
        words, kept = tile(WORDS), blank(1, 4, dtype="int32")
        nisa.affine_select(kept, [[1, 4]], 0, words, -5, nl.less, offset=-2)
        assert kept.array.tolist() == [[*WORDS[0, :2], -5, -5]]


def test_a_gather_into_another_dtype_rounds_and_saturates_like_every_write():
    with core():
        table = blank(3, 2, space=Space.shared_hbm)
        table.array[...] = [[0.5, 1.5], [300.0, -7.0], [2.5, 3.4]]
        rows, picked = tile(np.array([[2], [1]], np.uint32)), blank(2, 2, dtype="uint8")
        nisa.dma_copy(picked, table.vector_select(0, rows))
        assert picked.array.tolist() == [[2, 3], [255, 0]]


def test_dma_compute_skips_rows_outside():
    with core():
        table, total = blank(3, 2, space=Space.shared_hbm), tile(np.ones((2, 2), np.float32))
        table.array[...] = [[1, 2], [3, 4], [5, 6]]
        rows = tile(np.array([[9], [1]], np.uint32))
        picked = table.vector_select(0, rows)
        nisa.dma_compute(total, [total, picked], nl.add, oob_mode=nisa.oob_mode.skip)
        assert total.array.tolist() == [[1, 1], [4, 5]]


def test_reductions_by_subtraction_and_exclusive_or():
    with core():
        data = tile(np.array([[5, 2, 1], [1, 0, 1]], np.float32))
        difference, odd = blank(2, 1), blank(2, 1)
        nisa.tensor_reduce(difference, nl.subtract, data, 1)
        nisa.tensor_reduce(odd, nl.logical_xor, data, 1)
        assert difference.array.tolist() == [[2], [0]] and odd.array.tolist() == [[1], [0]]
