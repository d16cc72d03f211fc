"""Law: a fast path gives what the instruction's NumPy meaning gives."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from rainshadow.isa.access import AccessPattern  # noqa: E402
from rainshadow.isa.accumulator import Accumulator  # noqa: E402
from rainshadow.isa.instruction import Instruction  # noqa: E402
from rainshadow.isa.instructions.activation import Activation  # noqa: E402
from rainshadow.isa.instructions.scalar_tensor_tensor import ScalarTensorTensor  # noqa: E402
from rainshadow.isa.instructions.tensor_copy import TensorCopy  # noqa: E402
from rainshadow.isa.instructions.tensor_reduce import TensorReduce  # noqa: E402
from rainshadow.isa.instructions.tensor_scalar import TensorScalar  # noqa: E402
from rainshadow.isa.instructions.tensor_tensor import TensorTensor  # noqa: E402
from rainshadow.isa.memory import Buffer, Space  # noqa: E402
from rainshadow.isa.operators import ACTIVATION_FUNCTIONS, ALU_OPERATORS  # noqa: E402
from rainshadow.isa.strides import contiguous_strides  # noqa: E402
from rainshadow.sim.fast import fast_paths  # noqa: E402

DTYPES = st.sampled_from(["float32", "bfloat16", "float16"])
ARITHMETIC = ["add", "subtract", "multiply", "divide", "maximum", "minimum"]
#: One rounding of the narrowest dtype involved; functions differ in the last float32 bits.
TOLERANCE = {"float32": 2e-6, "bfloat16": 1e-2, "float16": 2e-3}
SEEDS = st.integers(0, 2**31)


def tile(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, strided: bool) -> Any:
    """A tile of random values in 0.5..2, optionally every second column of a wider one."""
    wide = (*shape[:-1], shape[-1] * 2) if strided else shape
    buffer = Buffer(space=Space.sbuf, shape=wide, dtype=dtype)
    buffer.storage = np.zeros(buffer.size_bytes * wide[0], np.uint8)
    view = AccessPattern(buffer, dtype, wide, contiguous_strides(wide))
    view.array[...] = rng.uniform(0.5, 2.0, wide).astype(np.float32)
    return view[..., 0 : wide[-1] : 2] if strided else view


def assert_same(instr: Instruction, *written: AccessPattern) -> None:
    """Executing fast and by meaning gives the same values."""
    before = [view.array.copy() for view in written]
    assert fast_paths()[type(instr)](instr), "the fast path declined a case it should take"
    fast = [view.array.astype(np.float32) for view in written]
    for view, old in zip(written, before, strict=True):
        view.array[...] = old
    instr.meaning()
    for view, got in zip(written, fast, strict=True):
        tolerance = TOLERANCE[view.dtype]
        expected = view.array.astype(np.float32)
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@given(SEEDS, DTYPES, DTYPES, DTYPES, st.sampled_from(ARITHMETIC), st.booleans())
def test_tensor_tensor(seed, out, left, right, op, strided):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 129)), int(rng.integers(1, 40)))
    dst = tile(rng, shape, out, strided)
    a, b = tile(rng, shape, left, strided), tile(rng, shape, right, False)
    assert_same(TensorTensor(dst, a, b, ALU_OPERATORS[op]), dst)


@given(
    SEEDS,
    DTYPES,
    st.sampled_from(ARITHMETIC),
    st.sampled_from([None, *ARITHMETIC]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_tensor_scalar(seed, dtype, op0, op1, reverse0, reverse1, column):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 129)), int(rng.integers(1, 40)))
    dst, data = tile(rng, shape, dtype, False), tile(rng, shape, "float32", True)
    operand = tile(rng, (shape[0], 1), "float32", False) if column else 1.25
    second = ALU_OPERATORS[op1] if op1 else None
    instr = TensorScalar(dst, data, ALU_OPERATORS[op0], operand, reverse0, second, 0.75, reverse1)
    assert_same(instr, dst)


@given(SEEDS, DTYPES, st.sampled_from(ARITHMETIC), st.sampled_from(ARITHMETIC), st.booleans())
def test_scalar_tensor_tensor(seed, dtype, op0, op1, reverse):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 129)), 3, int(rng.integers(1, 20)))
    dst, data, other = (tile(rng, shape, dtype, False) for _ in range(3))
    column = tile(rng, (shape[0], 1), "float32", False)
    instr = ScalarTensorTensor(
        dst, data, ALU_OPERATORS[op0], column, ALU_OPERATORS[op1], other, reverse, not reverse
    )
    assert_same(instr, dst)


@given(SEEDS, DTYPES, DTYPES)
def test_tensor_copy(seed, out, source):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 129)), int(rng.integers(1, 40)))
    dst, src = tile(rng, shape, out, True), tile(rng, shape, source, False)
    if out == source:
        assert not fast_paths()[TensorCopy](TensorCopy(dst, src)), "a plain copy is left to NumPy"
    else:
        assert_same(TensorCopy(dst, src), dst)


@given(SEEDS, DTYPES, st.sampled_from(["add", "maximum", "minimum"]), st.booleans())
def test_tensor_reduce(seed, dtype, op, negate):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 129)), 4, int(rng.integers(1, 20)))
    data, dst = tile(rng, shape, dtype, False), tile(rng, (shape[0], 4), "float32", False)
    assert_same(TensorReduce(dst, ALU_OPERATORS[op], data, (2,), negate), dst)


@given(
    SEEDS,
    DTYPES,
    st.sampled_from(sorted(set(ACTIVATION_FUNCTIONS) & {
        "exp", "log", "sqrt", "rsqrt", "tanh", "sigmoid", "erf", "gelu", "gelu_dx",
        "gelu_apprx_tanh", "silu", "relu", "square", "copy",
    })),
    st.booleans(),
)  # fmt: skip
def test_activation(seed, dtype, function, reduced):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 129)), int(rng.integers(1, 40)))
    dst, data = tile(rng, shape, dtype, False), tile(rng, shape, dtype, False)
    bias = tile(rng, (shape[0], 1), "float32", False)
    total = tile(rng, (shape[0], 1), "float32", False) if reduced else None
    instr = Activation(
        dst,
        ACTIVATION_FUNCTIONS[function],
        data,
        Accumulator(128),
        bias,
        0.5,
        total,
        "reset_reduce",
    )
    written = [dst] if total is None else [dst, total]
    fast_paths()[Activation](instr)
    fast = [view.array.astype(np.float32) for view in written]
    instr.meaning()
    for view, got in zip(written, fast, strict=True):
        expected = view.array.astype(np.float32)
        np.testing.assert_allclose(got, expected, rtol=TOLERANCE[dtype], atol=1e-5)


def test_bfloat16_rounding_is_to_nearest_even():
    rng = np.random.default_rng(0)
    dst, src = tile(rng, (4, 64), "bfloat16", False), tile(rng, (4, 64), "float32", False)
    src.array[...] = rng.standard_normal((4, 64)).astype(np.float32)
    fast_paths()[TensorCopy](TensorCopy(dst, src))
    np.testing.assert_array_equal(dst.array, src.array.astype(ml_dtypes.bfloat16))
