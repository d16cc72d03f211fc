"""AWS's tutorial kernels (aws-neuron/aws-neuron-sdk, nki/examples), unmodified, against NumPy."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from rainshadow.dtypes import numpy_dtype
from rainshadow.nki.install import nki_names
from rainshadow.nki.program import load_kernel

pytestmark = pytest.mark.conformance("RAINSHADOW_CHECKOUT_AWS_NEURON_SDK")


@pytest.fixture(autouse=True)
def environment():
    with patch.dict(os.environ):  # these files choose their platform with os.environ[...] = ...
        yield


def kernel(checkout: str, path: str, name: str):
    return load_kernel(Path(checkout) / "nki" / "examples" / path, name)


def test_tensor_addition(checkout, rng):
    add = kernel(checkout, "tensor_addition/tensor_addition_nki_kernels.py", "nki_tensor_add")
    a, b = rng.random((2, 256, 1024), dtype=np.float32)
    np.testing.assert_array_equal(add(a, b), a + b)


def test_transpose_of_two_axes(checkout):
    name = "tensor_transpose2D_kernel_"
    transpose = kernel(checkout, "transpose2d/transpose2d_nki_kernels.py", name)
    partitions, x, y = 5, 3, 4
    a = np.arange(partitions * x * y, dtype=np.int8).reshape(partitions, x * y)
    expected = a.reshape(partitions, x, y).transpose(0, 2, 1).reshape(partitions, -1)
    np.testing.assert_array_equal(transpose(a, (x, y)), expected)


MATMUL = "matrix_multiplication/matrix_multiplication_nki_kernels.py"


@pytest.mark.parametrize(
    ("name", "m", "k", "n"),
    [
        ("nki_matmul_basic_", 64, 128, 512),
        ("nki_matmul_tiled_", 4096, 1024, 2048),
        ("nki_matmul_hoist_load_", 4096, 1024, 2048),
        ("nki_matmul_block_free_dimension_", 4096, 1024, 2048),
        ("nki_matmul_fully_optimized_", 4096, 1024, 2048),
    ],
)
def test_matmul_at_the_tutorials_sizes(checkout, rng, name, m, k, n):
    bf16 = numpy_dtype("bfloat16")
    lhs_t, rhs = (rng.random(shape, dtype=np.float32).astype(bf16) for shape in ((k, m), (k, n)))
    result = kernel(checkout, MATMUL, name)(lhs_t, rhs)
    expected = lhs_t.astype(np.float32).T @ rhs.astype(np.float32)
    # One bf16 rounding of the result: 2**-8 relative.
    np.testing.assert_allclose(np.asarray(result, np.float32), expected, rtol=2**-7)


def test_average_pooling(checkout, rng):
    path = "average_pool2d/average_pool2d_nki_kernels.py"
    pool = kernel(checkout, path, "tensor_avgpool_kernel")
    image = rng.random((3, 8, 8), dtype=np.float32)
    expected = image.reshape(3, 4, 2, 4, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(pool(image, 2), expected, rtol=1e-6)


def selective_scan(delta, u, a, b, c):
    """Mamba's recurrence, one step of the sequence at a time, in float64."""
    batch, channels, length = delta.shape
    state = np.zeros((batch, channels, a.shape[1]))
    result = np.empty(delta.shape)
    for t in range(length):
        decay = np.exp(delta[:, :, t, None] * a)
        state = decay * state + (delta * u)[:, :, t, None] * b[:, None, :, t]
        result[:, :, t] = (state * c[:, None, :, t]).sum(-1)
    return result


@pytest.mark.parametrize("version", ["mamba_v1", "mamba_v2", "mamba_v3"])
def test_mamba(checkout, rng, version):
    mamba = kernel(checkout, "fused_mamba/mamba_nki_kernels.py", version)
    channels, length, states = 256, 512, 16
    delta, u = rng.random((2, 1, channels, length), dtype=np.float32)
    b, c = rng.random((2, 1, states, length), dtype=np.float32)
    a = -rng.random((channels, states), dtype=np.float32)
    expected = selective_scan(delta, u, a, b, c)
    np.testing.assert_allclose(mamba(delta, u, a, b, c), expected, rtol=1e-3, atol=1e-4)


def test_the_simulator_example_checks_itself(checkout):
    with nki_names():
        runpy.run_path(f"{checkout}/nki/examples/simulate/nki_simulate_example.py")
