"""Numbers where AWS documents more than float32 arithmetic: integers, bits, NaN through TensorE."""

from __future__ import annotations

import numpy as np
import pytest
from on_core import blank, core, tile

from rainshadow.errors import InputError, NkiValidationError, NotModelled
from rainshadow.isa.memory import Space
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.nki import simulate
from rainshadow.sim.options import SimOptions

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
    with core("trainium3"):
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


def test_tfloat32_holds_ten_bits_of_mantissa():
    with core():
        data = tile(
            np.array([[1 + 2**-10, 1 + 2**-11, 1 + 3 * 2**-11, np.nan, np.inf]], np.float32)
        )
        rounded = blank(1, 5, dtype="tfloat32")
        nisa.tensor_copy(rounded, data)
        assert rounded.array[0, :3].tolist() == [1 + 2**-10, 1.0, 1 + 2**-9]
        assert np.isnan(rounded.array[0, 3]) and np.isinf(rounded.array[0, 4])


def test_the_sine_of_scalar_engine_goes_on_as_a_cubic_beyond_pi():
    with core():
        wave = blank(1, 3)
        nisa.activation(wave, nl.sin, tile(np.array([[9.0, -9.0, 1.0]], np.float32)))
        assert wave.array[0] == pytest.approx([27.65, -27.65, np.sin(1)], abs=0.01)


def launch(kernel, *arrays, **options):
    return simulate(kernel, options=SimOptions(**options))(*arrays)


def halves(dtype: str):
    """A kernel that adds a quarter of what dtype can tell from 1, as float32, and stores it."""

    def kernel(x):
        tile, narrow = nl.ndarray(x.shape, nl.float32), nl.ndarray(x.shape, dtype)
        out = nl.ndarray(x.shape, dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(tile, x)
        nisa.tensor_scalar(narrow, tile, nl.add, 0.0)
        nisa.dma_copy(out, narrow)
        return out

    return kernel


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3", "float8_e5m2", "tfloat32"])
def test_rounding_at_random_is_right_on_average_and_the_same_for_a_seed(dtype):
    bits = {"bfloat16": 7, "float16": 10, "float8_e4m3": 3, "float8_e5m2": 2, "tfloat32": 10}[dtype]
    x = np.full((128, 128), 1 + 2.0 ** -(bits + 2), np.float32)
    nearest = launch(halves(dtype), x).astype(np.float32)
    assert (nearest == 1).all()
    first, again, other = (
        launch(halves(dtype), x, rounding="stochastic", seed=seed).astype(np.float32)
        for seed in (3, 3, 4)
    )
    assert (first == again).all() and (first != other).any()
    assert set(np.unique(first)) == {1.0, 1 + 2.0**-bits}
    assert (first > 1).mean() == pytest.approx(0.25, abs=0.02)


def test_what_a_dtype_holds_is_not_rounded_at_random_either():
    x = np.array([[0.0, -0.0, 1.5, -2.0, np.inf, -np.inf, 2.0**-149, -(2.0**-149)]], np.float32)
    for seed in range(8):
        got = launch(halves("bfloat16"), x, rounding="stochastic", seed=seed).astype(np.float32)
        assert (got[0, :6] == x[0, :6]).all()
        assert got[0, 6] in (0, 2.0**-133) and got[0, 7] in (0, -(2.0**-133))


def test_with_nki_precise_fp_0_narrow_tensors_hold_float32(monkeypatch):
    x = np.full((4, 4), 1 + 2.0**-20, np.float32)
    assert (simulate(halves("bfloat16"))(x).astype(np.float32) == 1).all()
    monkeypatch.setenv("NKI_PRECISE_FP", "0")
    wide = simulate(halves("bfloat16"))(x)
    assert wide.dtype == np.float32 and (wide == x).all()

    def bits(x):
        tile = nl.ndarray(x.shape, nl.bfloat16)
        nisa.memset(tile.view(nl.uint16), 0)

    with pytest.raises(NotModelled, match="NKI_PRECISE_FP=1"):
        simulate(bits)(x)


def test_the_runtimes_variables_choose_the_rounding(monkeypatch):
    x = np.full((64, 64), 1 + 2.0**-9, np.float32)
    monkeypatch.setenv("NEURON_RT_STOCHASTIC_ROUNDING_EN", "1")
    seen = simulate(halves("bfloat16"))(x)
    monkeypatch.setenv("NEURON_RT_STOCHASTIC_ROUNDING_SEED", "7")
    assert (seen > 1).any() and (simulate(halves("bfloat16"))(x) != seen).any()
    monkeypatch.setenv("NEURON_RT_STOCHASTIC_ROUNDING_SEED", "many")
    with pytest.raises(InputError, match="SEED=many"):
        simulate(halves("bfloat16"))(x)


@pytest.mark.parametrize(
    ("op", "inside", "outside"),
    [
        (nl.log, 1.0, 0.0),
        (nl.sqrt, 4.0, 2.0**-120),
        (nl.rsqrt, 4.0, 2.0**100),
        (nl.reciprocal, -2.0, 2.0**-43),
        (nl.arctan, 1.5, 2.0),
        (nl.sin, 3.0, 4.0),
    ],
)
def test_functions_beyond_the_range_that_aws_documents_are_as_the_option_says(op, inside, outside):
    def kernel(x):
        tile, out = nl.ndarray(x.shape, nl.float32), nl.ndarray(x.shape, nl.float32, nl.shared_hbm)
        nisa.dma_copy(tile, x)
        nisa.activation(tile, op, tile)
        nisa.dma_copy(out, tile)
        return out

    x = np.array([[inside, outside]], np.float32)
    assert not np.isnan(launch(kernel, x)).any()
    got = launch(kernel, x, beyond_range="nan")
    assert np.isnan(got).tolist() == [[False, True]]
    with pytest.raises(NkiValidationError, match=r"allowed: inputs from"):
        launch(kernel, x, beyond_range="error")
