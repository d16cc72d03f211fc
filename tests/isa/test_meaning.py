"""What instructions compute, against NumPy or torch formulas written without them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from on_core import blank, core, tile, values

from rainshadow.errors import NkiValidationError
from rainshadow.isa.memory import Space
from rainshadow.isa.operators import ACTIVATION_FUNCTIONS
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl

torch = pytest.importorskip("torch")

SEEDS = st.integers(0, 2**31)
PARTITIONS = st.integers(1, 128)
COLUMNS = st.integers(1, 40)
BFLOAT16 = ml_dtypes.bfloat16


ARITHMETIC = {
    nl.add: lambda a, b: a + b,
    nl.subtract: lambda a, b: a - b,
    nl.multiply: lambda a, b: a * b,
    nl.divide: lambda a, b: a / b,
    nl.maximum: lambda a, b: np.where(a > b, a, b),
    nl.minimum: lambda a, b: np.where(a < b, a, b),
    nl.abs_max: lambda a, b: np.where(np.abs(a) > np.abs(b), a, b),
    nl.abs_min: lambda a, b: np.where(np.abs(a) < np.abs(b), a, b),
    nl.mod: lambda a, b: a - np.floor(a / b) * b,
    nl.fmod: lambda a, b: a - np.trunc(a / b) * b,
    nl.equal: lambda a, b: (a == b) * 1.0,
    nl.not_equal: lambda a, b: (a != b) * 1.0,
    nl.greater: lambda a, b: (a > b) * 1.0,
    nl.greater_equal: lambda a, b: (a >= b) * 1.0,
    nl.less: lambda a, b: (a < b) * 1.0,
    nl.less_equal: lambda a, b: (a <= b) * 1.0,
    nl.logical_and: lambda a, b: ((a != 0) & (b != 0)) * 1.0,
    nl.logical_or: lambda a, b: ((a != 0) | (b != 0)) * 1.0,
    nl.logical_xor: lambda a, b: ((a != 0) ^ (b != 0)) * 1.0,
}
#: Operators of NeuronCore-v4 only.
CHIP_OF = {nl.abs_max: "trainium3", nl.abs_min: "trainium3"}
OPERATORS = pytest.mark.parametrize("op", ARITHMETIC, ids=lambda op: op.__name__)


def two_operands(seed: int, rows: int, columns: int) -> tuple[Any, Any]:
    """Values with zeros and equal elements among them, the second never 0."""
    a, b = np.round(values(seed, rows, columns), 1), np.round(values(seed + 1, rows, columns), 1)
    a[0, 0] = 0.0
    return a, np.where(b == 0, np.float32(0.5), b)


@OPERATORS
@given(SEEDS, PARTITIONS, COLUMNS)
def test_tensor_tensor_is_the_operator_on_every_pair_of_elements(op, seed, rows, columns):
    a, b = two_operands(seed, rows, columns)
    with core(CHIP_OF.get(op, "trainium2")):
        dst = blank(rows, columns)
        nisa.tensor_tensor(dst, tile(a), tile(b), op)
        expected = ARITHMETIC[op](a.astype(np.float64), b.astype(np.float64))
        if op in (nl.mod, nl.fmod):
            wrapped = np.abs(dst.array - expected)
            assert np.minimum(wrapped, np.abs(np.abs(b) - wrapped)).max() < 1e-5
        else:
            np.testing.assert_allclose(dst.array, expected, rtol=1e-6)


@OPERATORS
def test_tensor_scalar_takes_a_number_or_a_column_and_reverse_swaps_the_sides(op):
    _, b = two_operands(0, 16, 12)
    column = b[:, 0:1]
    with core(CHIP_OF.get(op, "trainium2")):
        for operand, reverse in ((column, False), (column, True), (1.5, False), (1.5, True)):
            dst = blank(16, 12)
            other = tile(operand) if isinstance(operand, np.ndarray) else operand
            nisa.tensor_scalar(dst, tile(b), op, other, reverse0=reverse)
            pair = (np.float64(operand), b) if reverse else (b, np.float64(operand))
            expected = ARITHMETIC[op](*np.broadcast_arrays(*pair))
            np.testing.assert_allclose(dst.array, expected, rtol=1e-5, atol=1e-5)


@given(SEEDS, PARTITIONS, COLUMNS, st.booleans(), st.booleans())
def test_tensor_scalar_applies_two_operators_one_after_the_other(seed, p, n, first, second):
    data, column = values(seed, p, n), values(seed + 1, p, 1, low=0.5)
    with core():
        dst = blank(p, n)
        nisa.tensor_scalar(
            dst, tile(data), nl.subtract, 2.0, first, nl.divide, tile(column), second
        )
        inner = 2.0 - data if first else data - 2.0
        expected = column / inner if second else inner / column
        np.testing.assert_allclose(dst.array, expected, rtol=1e-6)


@given(SEEDS, PARTITIONS, COLUMNS, st.booleans(), st.booleans())
def test_scalar_tensor_tensor_applies_a_column_then_a_tensor(seed, p, n, first, second):
    data, column, other = values(seed, p, n), values(seed + 1, p, 1), values(seed + 2, p, n)
    with core():
        dst = blank(p, n)
        nisa.scalar_tensor_tensor(
            dst, tile(data), nl.subtract, tile(column), nl.subtract, tile(other), first, second
        )
        inner = column - data if first else data - column
        np.testing.assert_allclose(dst.array, other - inner if second else inner - other)


@pytest.mark.parametrize("number", [np.float32(1.5), np.float64(1.5), np.int64(2), 2, 1.5])
def test_numbers_of_numpy_are_numbers(number):
    data = values(0, 4, 6)
    with core():
        dst, filled = blank(4, 6), blank(4, 6)
        nisa.tensor_scalar(dst, tile(data), nl.multiply, number)
        nisa.memset(filled, number)
        np.testing.assert_allclose(dst.array, data * np.float32(number))
        assert (filled.array == number).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int32])
def test_bit_operators_work_on_the_integers_themselves(dtype):
    rng = np.random.default_rng(0)
    top = np.iinfo(dtype).max
    a, b = rng.integers(0, top, (8, 10)).astype(dtype), rng.integers(0, 7, (8, 10)).astype(dtype)
    with core():
        for op, expected in (
            (nl.bitwise_and, a & b),
            (nl.bitwise_or, a | b),
            (nl.bitwise_xor, a ^ b),
            (nl.left_shift, a << b),
            (nl.right_shift, a >> b),
        ):
            dst = tile(np.zeros_like(a))
            nisa.tensor_tensor(dst, tile(a), tile(b), op)
            np.testing.assert_array_equal(dst.array, expected)
        nisa.tensor_scalar(dst, tile(a), nl.right_shift, 2, op1=nl.bitwise_and, operand1=1)
        np.testing.assert_array_equal(dst.array, (a >> 2) & 1)


def test_an_average_of_two_operands_is_refused_rather_than_a_sum():
    with core():
        a = tile(values(0, 4, 4))
        with pytest.raises(NkiValidationError, match="average"):
            nisa.tensor_tensor(a, a, a, nl.average)


functional = torch.nn.functional
TORCH = {
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": functional.gelu,
    "gelu_apprx_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "gelu_apprx_sigmoid": lambda x: x * torch.sigmoid(1.702 * x),
    "silu": functional.silu,
    "softplus": functional.softplus,
    "mish": functional.mish,
    "erf": torch.erf,
    "sin": torch.sin,
    "arctan": torch.atan,
    "relu": functional.relu,
    "square": torch.square,
    "abs": torch.abs,
    "sign": torch.sign,
    "copy": torch.clone,
    "identity": torch.clone,
}
DERIVATIVES = {"gelu_dx": "gelu", "silu_dx": "silu", "erf_dx": "erf",
               "gelu_apprx_sigmoid_dx": "gelu_apprx_sigmoid"}  # fmt: skip
ONLY_POSITIVE = {"log", "sqrt", "rsqrt", "reciprocal"}


def test_every_activation_function_has_a_torch_function_to_be_held_to():
    assert set(ACTIVATION_FUNCTIONS) == set(TORCH) | set(DERIVATIVES) | {"prelu"}


@pytest.mark.parametrize("name", sorted(TORCH))
def test_activation_functions_are_torchs(name):
    low = 1e-3 if name in ONLY_POSITIVE else -9.0
    data = values(0, 64, 40, low=low, high=9.0)
    if name == "sin":
        data /= 3  # within its table
    with core():
        dst = blank(64, 40)
        nisa.activation(dst, name, tile(data))
        expected = TORCH[name](torch.from_numpy(data).double())
        np.testing.assert_allclose(dst.array, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", sorted(DERIVATIVES))
def test_derivatives_are_what_torchs_autograd_finds(name):
    data = values(0, 64, 40, low=-6.0, high=6.0)
    with core():
        dst = blank(64, 40)
        nisa.activation(dst, name, tile(data))
        x = torch.from_numpy(data).double().requires_grad_()
        TORCH[DERIVATIVES[name]](x).sum().backward()
        np.testing.assert_allclose(dst.array, x.grad, rtol=1e-5, atol=2e-6)


def test_prelu_has_the_slope_of_activate2_and_torchs_values():
    data = values(0, 64, 40)
    with core("trainium3"):
        dst = blank(64, 40)
        nisa.activate2(dst, "prelu", tile(data), 1.0, 0.0, nl.multiply, nl.add, relu_param=0.25)
        expected = functional.prelu(torch.from_numpy(data), torch.tensor([0.25]))
        np.testing.assert_array_equal(dst.array, expected)


@given(SEEDS, PARTITIONS, COLUMNS, st.booleans())
def test_activation_scales_then_adds_the_bias_then_sums_the_results(seed, p, n, column):
    data, bias = values(seed, p, n), values(seed + 1, p, 1)
    scale = values(seed + 2, p, 1) if column else 0.25
    with core():
        dst, total = blank(p, n), blank(p, 1)
        nisa.activation_reduce(
            dst, nl.exp, tile(data), nl.add, total, tile(bias), tile(scale) if column else scale
        )
        expected = np.exp(data.astype(np.float64) * scale + bias)
        np.testing.assert_allclose(dst.array, expected, rtol=1e-5)
        np.testing.assert_allclose(total.array, expected.sum(axis=1, keepdims=True), rtol=1e-5)


@given(SEEDS, st.integers(1, 128), st.integers(1, 128), st.integers(1, 512), st.integers(1, 3))
def test_matmuls_into_one_psum_tile_accumulate(seed, k, m, n, steps):
    left, right = values(seed, steps, k, m), values(seed + 1, steps, k, n)
    with core():
        dst = blank(m, n, space=Space.psum)
        for step in range(steps):
            nisa.nc_matmul(dst, tile(left[step]), tile(right[step]), accumulate=step > 0)
        expected = np.einsum("skm,skn->mn", left.astype(np.float64), right)
        np.testing.assert_allclose(dst.array, expected, rtol=1e-4, atol=1e-3)


def test_without_being_told_a_matmul_overwrites_first_and_adds_afterwards():
    left, right = values(0, 32, 8), values(1, 32, 16)
    with core():
        dst = blank(8, 16, space=Space.psum)
        nisa.nc_matmul(dst, tile(left), tile(right))
        once = dst.array.copy()
        nisa.nc_matmul(dst, tile(left), tile(right))
        np.testing.assert_allclose(once, left.T @ right, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(dst.array, 2 * once)


@given(SEEDS, st.integers(1, 128), st.integers(1, 128))
def test_bfloat16_matmul_multiplies_exactly_and_adds_in_float32(seed, k, m):
    left, right = values(seed, k, m).astype(BFLOAT16), values(seed + 1, k, 4).astype(BFLOAT16)
    with core():
        dst = blank(m, 4, space=Space.psum)
        nisa.nc_matmul(dst, tile(left), tile(right))
        expected = left.astype(np.float64).T @ right.astype(np.float64)
        np.testing.assert_allclose(dst.array, expected, rtol=1e-5, atol=1e-4)


@given(SEEDS, st.integers(1, 128), st.integers(1, 128), st.booleans())
def test_transposes_move_bits_unchanged(seed, p, n, half):
    data = values(seed, p, n).astype(BFLOAT16 if half else np.float32)
    dtype = "bfloat16" if half else "float32"
    with core():
        by_tensor = blank(n, p, dtype=dtype, space=Space.psum)
        nisa.nc_transpose(by_tensor, tile(data))
        by_dma = blank(n, p, dtype=dtype)
        nisa.dma_transpose(by_dma, tile(data, Space.shared_hbm))
        np.testing.assert_array_equal(by_tensor.array, data.T)
        np.testing.assert_array_equal(by_dma.array, data.T)
        small = data[:32, :32]
        by_vector = blank(*small.T.shape, dtype=dtype)
        nisa.nc_transpose(by_vector, tile(small), engine=nisa.engine.vector)
        np.testing.assert_array_equal(by_vector.array, small.T)


def test_dma_transpose_of_three_and_four_axes_swaps_the_first_and_the_last():
    three, four = values(0, 5, 3, 7), values(1, 5, 2, 3, 7)
    with core():
        dst = blank(7, 3, 5)
        nisa.dma_transpose(dst, tile(three, Space.shared_hbm), axes=(2, 1, 0))
        np.testing.assert_array_equal(dst.array, three.transpose(2, 1, 0))
        dst = blank(7, 2, 3, 5)
        nisa.dma_transpose(dst, tile(four, Space.shared_hbm))
        np.testing.assert_array_equal(dst.array, np.moveaxis(four, (3, 0), (0, 3)))


REDUCTIONS = {nl.add: np.sum, nl.multiply: np.prod, nl.maximum: np.max, nl.minimum: np.min}


@pytest.mark.parametrize("op", REDUCTIONS, ids=lambda op: op.__name__)
@given(SEEDS, PARTITIONS, st.integers(1, 6), st.integers(1, 12), st.booleans(), st.booleans())
def test_tensor_reduce_runs_over_the_last_axes(op, seed, p, m, n, both, negate):
    data = values(seed, p, m, n)
    axes = (1, 2) if both else (2,)
    with core():
        dst = blank(p, 1) if both else blank(p, m)
        nisa.tensor_reduce(dst, op, tile(data), (-2, -1) if both else -1, negate)
        expected = REDUCTIONS[op](data.astype(np.float64), axis=axes).reshape(dst.shape)
        np.testing.assert_allclose(
            dst.array, -expected if negate else expected, rtol=1e-4, atol=1e-4
        )


@given(SEEDS, PARTITIONS, COLUMNS)
def test_tensor_partition_reduce_runs_over_the_partitions(seed, p, n):
    data = values(seed, p, n)
    with core():
        dst = blank(1, n)
        for op, expected in ((nl.add, np.sum), (nl.maximum, np.max), (nl.average, np.mean)):
            nisa.tensor_partition_reduce(dst, op, tile(data))
            np.testing.assert_allclose(dst.array[0], expected(data, 0), rtol=1e-4, atol=1e-4)


@given(SEEDS, PARTITIONS, st.lists(st.integers(1, 60), min_size=1, max_size=4))
def test_bn_stats_of_parts_and_bn_aggr_give_mean_and_variance_of_the_whole(seed, p, widths):
    parts = [values(seed + i, p, width) + 2 for i, width in enumerate(widths)]
    whole = np.concatenate(parts, axis=1).astype(np.float64)
    with core():
        statistics, result = blank(p, 6 * len(parts)), blank(p, 2)
        for i, part in enumerate(parts):
            nisa.bn_stats(statistics[:, 6 * i : 6 * i + 6], tile(part))
        nisa.bn_aggr(result, statistics)
        np.testing.assert_allclose(result.array[:, 0], whole.mean(axis=1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(result.array[:, 1], whole.var(axis=1), rtol=1e-3, atol=1e-5)


@given(SEEDS, PARTITIONS, COLUMNS, st.booleans())
def test_tensor_tensor_scan_is_a_recurrence_along_the_free_axis(seed, p, n, column):
    decay, x = values(seed, p, n, low=0, high=1), values(seed + 1, p, n)
    first = values(seed + 2, p, 1)
    with core():
        dst = blank(p, n)
        initial = tile(first) if column else 0.5
        nisa.tensor_tensor_scan(dst, tile(decay), tile(x), initial, nl.multiply, nl.add)
        state = first[:, 0].astype(np.float64) if column else np.full(p, 0.5)
        for i in range(n):
            state = decay[:, i] * state + x[:, i]
            np.testing.assert_allclose(dst.array[:, i], state, rtol=1e-4, atol=1e-4)


@given(SEEDS, PARTITIONS, COLUMNS)
def test_running_sums_and_maxima_go_on_where_the_last_tile_ended(seed, p, n):
    data = values(seed, p, 2 * n)
    command = nisa.reduce_cmd
    with core():
        dst = blank(p, 2 * n)
        for op, expected in ((nl.add, np.cumsum), (nl.maximum, np.maximum.accumulate)):
            for half, start in ((slice(0, n), command.reset_reduce),
                                (slice(n, 2 * n), command.reduce)):  # fmt: skip
                nisa.tensor_scalar_cumulative(
                    dst[:, half], tile(data[:, half]), nl.multiply, op, 2.0, reduce_cmd=start
                )
            np.testing.assert_allclose(
                dst.array, expected(2.0 * data, axis=1), rtol=1e-4, atol=1e-4
            )


@given(SEEDS, PARTITIONS, COLUMNS)
def test_a_running_sum_can_start_from_a_loaded_column(seed, p, n):
    data, start = values(seed, p, n), values(seed + 1, p, 1)
    with core():
        dst = blank(p, n)
        nisa.tensor_scalar_cumulative(
            dst, tile(data), nl.add, nl.add, 0.0, tile(start), nisa.reduce_cmd.load_reduce
        )
        np.testing.assert_allclose(dst.array, start + np.cumsum(data, axis=1), rtol=1e-4, atol=1e-4)


@given(SEEDS, PARTITIONS, COLUMNS, st.booleans())
def test_tensor_scalar_reduce_gives_the_tile_and_its_reduction(seed, p, n, negate):
    data = values(seed, p, n)
    with core():
        dst, total = blank(p, n), blank(p, 1)
        nisa.tensor_scalar_reduce(
            dst, tile(data), nl.multiply, 2.0, nl.add, total, reduce_res_negate=negate
        )
        sign = -1 if negate else 1
        np.testing.assert_array_equal(dst.array, data * 2)
        np.testing.assert_allclose(
            total.array[:, 0], sign * (data * 2).sum(axis=1), rtol=1e-4, atol=1e-4
        )


@given(SEEDS, PARTITIONS, COLUMNS, st.booleans())
def test_select_reduce_and_predicated_copy_choose_by_the_mask(seed, p, n, reverse):
    data, other = values(seed, p, n), values(seed + 1, p, n)
    mask = np.random.default_rng(seed).integers(0, 2, (p, n)).astype(np.uint8)
    chosen = (mask == 0) if reverse else (mask != 0)
    with core():
        dst, largest = blank(p, n), blank(p, 1)
        nisa.select_reduce(
            dst, tile(mask), tile(data), -1.0, largest, nisa.reduce_cmd.reset_reduce,
            reverse_pred=reverse,
        )  # fmt: skip
        expected = np.where(chosen, data, np.float32(-1))
        np.testing.assert_array_equal(dst.array, expected)
        np.testing.assert_array_equal(largest.array[:, 0], expected.max(axis=1))
        kept = tile(other)
        nisa.tensor_copy_predicated(kept, tile(data), tile(mask), reverse)
        np.testing.assert_array_equal(kept.array, np.where(chosen, data, other))


@given(SEEDS, PARTITIONS, COLUMNS, st.integers(-20, 20), st.integers(-3, 3))
def test_affine_select_and_iota_know_the_position_of_every_element(seed, p, n, offset, per_row):
    data = values(seed, p, n)
    position = offset + per_row * np.arange(p)[:, None] - np.arange(n)[None, :]
    with core():
        dst, numbers = blank(p, n), blank(p, n, dtype="int32")
        nisa.iota(numbers, [[-1, n]], offset, per_row)
        np.testing.assert_array_equal(numbers.array, position)
        nisa.affine_select(dst, [[-1, n]], per_row, tile(data), -9.0, nl.greater_equal, offset)
        np.testing.assert_array_equal(dst.array, np.where(position >= 0, data, np.float32(-9)))


def test_iota_steps_through_several_axes_as_nested_loops_do():
    with core():
        dst = blank(3, 2, 4, dtype="int32")
        nisa.iota(dst, [[100, 2], [7, 4]], offset=5, channel_multiplier=1000)
        expected = [[[5 + 1000 * p + 100 * i + 7 * j for j in range(4)] for i in range(2)]
                    for p in range(3)]  # fmt: skip
        np.testing.assert_array_equal(dst.array, expected)


@given(SEEDS, PARTITIONS, COLUMNS, st.integers(0, 50))
def test_range_select_keeps_the_columns_between_two_bounds_and_finds_their_maximum(
    seed, p, n, start
):
    data = values(seed, p, n)
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 90, (p, 1)).astype(np.float32)
    high = low + rng.integers(0, 30, (p, 1)).astype(np.float32)
    with core():
        dst, largest = blank(p, n), blank(p, 1)
        nisa.range_select(
            dst, tile(data), nl.greater_equal, nl.less, tile(low), tile(high),
            reduce_res=largest, range_start=start,
        )  # fmt: skip
        index = start + np.arange(n)
        keep = (index >= low) & (index < high)
        expected = np.where(keep, data, np.finfo(np.float32).min)
        np.testing.assert_array_equal(dst.array, expected)
        np.testing.assert_array_equal(largest.array[:, 0], expected.max(axis=1))


@given(SEEDS, PARTITIONS, COLUMNS)
def test_reciprocal_is_one_over_each_element(seed, p, n):
    data = values(seed, p, n, low=0.1)
    with core():
        dst = blank(p, n)
        nisa.reciprocal(dst, tile(data))
        np.testing.assert_allclose(dst.array, 1 / data, rtol=1e-6)


def test_dma_compute_adds_its_sources_and_adds_rows_in_place():
    a, b, c = (values(i, 8, 6) for i in range(3))
    rows = np.array([[5], [0], [2]], np.int32)
    with core():
        dst = blank(8, 6)
        nisa.dma_compute(dst, [tile(a), tile(b, Space.shared_hbm), tile(c)], nl.add)
        np.testing.assert_allclose(dst.array, a + b + c, rtol=1e-5, atol=1e-6)
        table = tile(a, Space.shared_hbm)
        target = table.vector_select(0, tile(rows))
        nisa.dma_compute(target, [tile(b[:3]), target], nl.add)
        expected = a.copy()
        expected[rows[:, 0]] += b[:3]
        np.testing.assert_allclose(table.array, expected, rtol=1e-6)
        twice = table.vector_select(0, tile(np.array([[1], [1]], np.int32)))
        with pytest.raises(NkiValidationError, match="names a row twice"):
            nisa.dma_compute(twice, [tile(b[:2]), twice], nl.add)


@given(SEEDS, PARTITIONS, COLUMNS)
def test_results_are_rounded_once_to_the_destinations_dtype(seed, p, n):
    a, b = values(seed, p, n), values(seed + 1, p, n)
    with core():
        half, whole = blank(p, n, dtype="bfloat16"), blank(p, n, dtype="int8")
        nisa.tensor_tensor(half, tile(a), tile(b), nl.add)
        np.testing.assert_array_equal(half.array, (a + b).astype(BFLOAT16))
        nisa.tensor_scalar(whole, tile(a), nl.multiply, 100.0)
        expected = np.clip(np.rint(a * np.float32(100)), -128, 127)
        np.testing.assert_array_equal(whole.array, expected)


@pytest.mark.parametrize("copy", ["tensor_copy", "dma_copy"])
def test_copies_keep_every_bit_of_equal_dtypes_and_cast_others(copy):
    exact = np.array([[np.nan, -0.0, np.inf, 1e-42, 3.0]], np.float32).repeat(4, axis=0)
    with core():
        same, half = blank(4, 5), blank(4, 5, dtype="bfloat16")
        getattr(nisa, copy)(same, tile(exact))
        getattr(nisa, copy)(half, tile(values(0, 4, 5)))
        np.testing.assert_array_equal(same.array.view(np.int32), exact.view(np.int32))
        np.testing.assert_array_equal(half.array, values(0, 4, 5).astype(BFLOAT16))


# -- the eight largest, gathers, shuffles ----------------------------------------------------------


@given(SEEDS, PARTITIONS, st.integers(8, 60))
def test_max8_finds_what_torch_finds_and_find_index8_where(seed, rows, columns):
    data = np.random.default_rng(seed).permuted(
        np.tile(np.arange(columns, dtype=np.float32), (rows, 1)), axis=1
    )
    with core():
        source, largest = tile(data), blank(rows, 8)
        positions = blank(rows, 8, dtype="uint32")
        nisa.max8(largest, source)
        nisa.nc_find_index8(positions, source, largest)
        expected, where = torch.from_numpy(data).topk(8, dim=1)
        np.testing.assert_array_equal(largest.array, expected)
        np.testing.assert_array_equal(positions.array, where)


def test_find_index8_counts_up_and_match_replace8_down_among_equal_values():
    # The example of AWS's page for nc_match_replace8.
    data = np.array([[1, 2, 3, 4, 8, 8, 8, 8, 8, 8, 8]], dtype=np.float32)
    wanted = np.array([[3, 8, 8, 8, 8, 8, 8, 8]], dtype=np.float32)
    with core():
        source, values_ = tile(data), tile(wanted)
        up, down = blank(1, 8, dtype="uint32"), blank(1, 8, dtype="uint32")
        replaced = blank(1, 11)
        nisa.nc_find_index8(up, source, values_)
        nisa.nc_match_replace8(replaced, source, values_, -1.0, down)
        assert up.array.tolist() == [[2, 4, 5, 6, 7, 8, 9, 10]]
        assert down.array.tolist() == [[2, 10, 9, 8, 7, 6, 5, 4]]
        assert replaced.array.tolist() == [[1, 2, -1, 4] + [-1] * 7]


def test_a_value_that_is_not_there_has_all_ones_as_position():
    with core():
        source, wanted = tile(np.zeros((2, 9), np.float32)), tile(np.ones((2, 8), np.float32))
        for dtype, ones in (("uint16", 0xFFFF), ("uint32", 0xFFFFFFFF)):
            positions = blank(2, 8, dtype=dtype)
            nisa.nc_find_index8(positions, source, wanted)
            assert (positions.array == ones).all()


@given(SEEDS, st.sampled_from([32, 64, 128]), COLUMNS)
def test_stream_shuffle_moves_partitions_within_quadrants(seed, rows, columns):
    rng = np.random.default_rng(seed)
    mask = [int(entry) for entry in rng.choice([*range(32), 255], 32)]
    data, before = values(seed, rows, columns), values(seed + 1, rows, columns)
    with core():
        source, target = tile(data), tile(before)
        nisa.nc_stream_shuffle(target, source, mask)
        for partition in range(rows):
            entry = mask[partition % 32]
            row = before[partition] if entry == 255 else data[partition // 32 * 32 + entry]
            np.testing.assert_array_equal(target.array[partition], row)


@given(SEEDS, PARTITIONS, COLUMNS, COLUMNS)
def test_n_gather_is_a_take_along_the_free_axis(seed, rows, columns, picked):
    index = np.random.default_rng(seed).integers(0, columns, (rows, picked)).astype(np.uint32)
    data = values(seed, rows, columns)
    with core():
        result = blank(rows, picked)
        nisa.nc_n_gather(result, tile(data), tile(index))
        expected = torch.gather(torch.from_numpy(data), 1, torch.from_numpy(index.astype(np.int64)))
        np.testing.assert_array_equal(result.array, expected)


@given(SEEDS, st.sampled_from([16, 48, 128]), st.sampled_from([1, 2, 4]))
def test_local_gather_uses_one_list_of_indices_for_sixteen_partitions(seed, rows, run):
    index = np.random.default_rng(seed).integers(0, 20, (rows, 2)).astype(np.uint16)
    data = values(seed, rows, 24)
    with core():
        result = blank(rows, 32 * run)
        nisa.local_gather(result, tile(data), tile(index), run)
        for partition in range(rows):
            group = index[partition // 16 * 16 : partition // 16 * 16 + 16]
            picks = [data[partition, i : i + run] for column in group.T for i in column]
            np.testing.assert_array_equal(result.array[partition], np.concatenate(picks))


def test_nonzero_with_count_as_awss_page_shows_it():
    data = np.zeros((17, 8), np.int32)
    data[0] = data[16] = [0, 1, 1, 0, 0, 1, 0, 0]
    with core():
        result = tile(np.full((17, 9), 77, np.int32))
        nisa.nonzero_with_count(result, tile(data), index_offset=16, padding_val=-1)
        assert result.array[0].tolist() == [17, 18, 21, -1, -1, -1, -1, -1, 3]
        assert result.array[16].tolist() == result.array[0].tolist()
        assert (result.array[1:16] == 77).all(), "other partitions are not touched"
