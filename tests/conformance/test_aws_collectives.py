"""AWS's kernels with collectives run by several ranks and give what NumPy says.

The library's own tests cannot run them in a simulator: their framework hands ranks to a cluster.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from rainshadow.nki import PerRank, simulate
from rainshadow.nki import collectives as ncc
from rainshadow.nki.install import nki_names

pytestmark = pytest.mark.conformance
VARIABLE = "RAINSHADOW_CHECKOUT_NKI_LIBRARY"
RANDOM = np.random.default_rng(42)


@pytest.fixture(scope="module")
def kernels():
    """A function that imports a module of the library's collectives."""
    if VARIABLE not in os.environ:
        pytest.skip(f"CONFORMANCE NOT RUN: set {VARIABLE} to a checkout")
    source = str(Path(os.environ[VARIABLE]) / "src")
    before = set(sys.modules)
    sys.path.insert(0, source)
    try:
        with nki_names():
            yield lambda name: importlib.import_module(
                f"nkilib_src.nkilib.experimental.collectives.{name}"
            )
    finally:
        sys.path.remove(source)
        for name in set(sys.modules) - before:
            if name.startswith("nkilib_src"):
                del sys.modules[name]


def data(*shape, dtype=ml_dtypes.bfloat16):
    return RANDOM.normal(size=shape).astype(dtype)


@pytest.mark.parametrize(
    ("rows", "columns", "dtype", "ranks"),
    [
        (128, 512, ml_dtypes.bfloat16, 8),
        (96, 512, ml_dtypes.bfloat16, 16),
        (64, 1024, np.float16, 8),
        (128, 512, np.float32, 8),
        (128, 256, ml_dtypes.bfloat16, 64),
    ],
)
def test_allgather_sb2sb(kernels, rows, columns, dtype, ranks):
    kernel = kernels("sb2sb_allgather").allgather_sb2sb
    given = data(ranks, rows, columns, dtype=dtype)
    group = ncc.ReplicaGroup([list(range(ranks))])
    for result in simulate(kernel, ranks=ranks)(PerRank(given), group, ranks):
        np.testing.assert_array_equal(result, np.concatenate(given, axis=1))


@pytest.mark.parametrize(
    ("rows", "columns", "dtype", "ranks", "lnc"),
    [
        (128, 512, ml_dtypes.bfloat16, 4, 2),
        (64, 1024, ml_dtypes.bfloat16, 4, 2),
        (256, 512, ml_dtypes.bfloat16, 8, 1),
        (512, 1024, np.float16, 4, 2),
        (256, 512, np.float32, 8, 1),
    ],
)
def test_allgather_sb2sb_tiled(kernels, rows, columns, dtype, ranks, lnc):
    kernel = kernels("sb2sb_allgather").allgather_sb2sb_tiled
    given = data(ranks, rows, columns, dtype=dtype)
    group = ncc.ReplicaGroup([list(range(ranks))])
    for result in simulate(kernel[lnc], ranks=ranks)(PerRank(given), group, ranks):
        np.testing.assert_array_equal(result, np.concatenate(given, axis=1))


@pytest.mark.parametrize(
    ("rows", "columns", "ranks", "lnc", "through_hbm"),
    [
        (1024, 1024, 4, 2, False),
        (256, 512, 4, 1, False),
        (512, 512, 4, 2, True),
        (256, 256, 8, 1, True),
        (256, 256, 16, 2, False),
    ],
)
def test_fine_grained_allgather(kernels, rows, columns, ranks, lnc, through_hbm):
    kernel = kernels("fg_allgather").fine_grained_allgather
    whole = data(rows * ranks, columns)
    parts = PerRank(lambda rank: whole[rank * rows : (rank + 1) * rows])
    results = simulate(kernel[lnc], ranks=ranks)(
        parts, tp_degree=ranks, num_groups=1, force_hbm_cc=through_hbm
    )
    for result in results:
        np.testing.assert_array_equal(np.asarray(result).reshape(whole.shape), whole)


@pytest.mark.parametrize(
    ("rows", "inner", "columns", "ranks", "lnc", "through_hbm"),
    [
        (256, 1024, 1024, 4, 2, False),
        (256, 512, 1024, 4, 1, False),
        (256, 512, 1024, 4, 2, True),
        (256, 512, 512, 4, 1, True),
    ],
)
def test_allgather_compute_matmul(kernels, rows, inner, columns, ranks, lnc, through_hbm):
    kernel = kernels("fgcc").allgather_compute_matmul
    left, right = data(rows * ranks, inner), data(inner, columns)
    share = columns // ranks
    results = simulate(kernel[lnc], ranks=ranks)(
        PerRank(lambda rank: left[rank * rows : (rank + 1) * rows]),
        PerRank(lambda rank: np.ascontiguousarray(right[:, rank * share : (rank + 1) * share])),
        tp_degree=ranks,
        num_groups=1,
        force_hbm_cc=through_hbm,
    )
    wanted = left.astype(np.float32) @ right.astype(np.float32)
    for rank, result in enumerate(results):
        mine = wanted[:, rank * share : (rank + 1) * share]
        got = np.asarray(result).astype(np.float32).reshape(mine.shape)
        np.testing.assert_allclose(got, mine, rtol=1e-2, atol=0.2)


@pytest.mark.parametrize("lnc", [1, 2])
def test_topk_reduce(kernels, lnc):
    """Rows scattered over the buffer of an all_to_all_v are added up by their token's number."""
    kernel = kernels("topk_reduce").topk_reduce
    tokens, experts, width = 64, 4, 256
    rows = data(tokens * experts, width)
    order = RANDOM.permutation(tokens * experts)
    number = (np.arange(tokens * experts) % tokens).astype(np.int32)[order]
    packed = np.concatenate([rows, number.view(ml_dtypes.bfloat16).reshape(-1, 2)], axis=1)
    result = simulate(kernel[lnc])(packed, tokens, experts)
    wanted = np.zeros((tokens, width), np.float32)
    np.add.at(wanted, number, rows.astype(np.float32))
    np.testing.assert_allclose(result.astype(np.float32), wanted, rtol=2e-2, atol=6e-2)
