"""The names of `nki.language` that are no instructions: dtypes that are names and NumPy's types."""

from __future__ import annotations

import copy
import pickle

import ml_dtypes
import numpy as np
import pytest

from rainshadow import dtypes
from rainshadow.nki import jit, record
from rainshadow.nki import language as nl

HELD_BY_NUMPY = {
    "float32": np.float32,
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3": ml_dtypes.float8_e4m3,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "uint8": np.uint8,
}


@pytest.mark.parametrize("name", HELD_BY_NUMPY)
def test_a_dtype_is_its_name_and_numpys_type(name):
    mine, numpys = getattr(nl, name), HELD_BY_NUMPY[name]
    assert mine == name and name == mine and {mine: 1}[name] == 1
    assert mine == numpys and numpys == mine and mine == np.dtype(numpys)
    assert str(mine) == name and name[:4] in mine and mine.startswith(name[:4])
    assert np.zeros(2, dtype=mine).dtype == mine
    assert np.ones(2).astype(mine).dtype == np.dtype(numpys)
    assert dtypes.canonical(mine) == name and type(dtypes.canonical(mine)) is str
    assert f"{mine}" == f"{numpys}"


def test_dtypes_differ_from_each_other_and_from_none():
    assert len({nl.float8_e4m3, nl.float8_e4m3fn, nl.float8_e5m2, nl.bfloat16, nl.float16}) == 5
    assert nl.float32 != nl.tfloat32 and nl.tfloat32 != np.float32
    assert nl.float32 is not None and nl.float32 != "float16"


def test_copies_of_a_dtype_are_the_dtype():
    assert copy.deepcopy(nl.bfloat16) is nl.bfloat16
    assert pickle.loads(pickle.dumps(nl.float8_e4m3fn_x4)) is nl.float8_e4m3fn_x4


def results_of(body, *arrays):
    """A kernel's result and the engines of its instructions. body: makes a tile of loaded ones."""

    @jit
    def kernel(*tensors):
        tile = body(*map(nl.load, tensors))
        result = nl.ndarray(tile.shape, dtype=tile.dtype, buffer=nl.shared_hbm)
        nl.store(result, tile)
        return result

    run = record(kernel, arrays)
    return run.outputs, [signature.engine for signature in run.trace.signatures]


def test_rsqrt_runs_on_gpsimd():
    x = np.linspace(0.5, 9, 64, dtype=np.float32).reshape(4, 16)
    result, engines = results_of(nl.rsqrt, x)
    np.testing.assert_allclose(result, 1 / np.sqrt(x), rtol=1e-6)
    assert "gpsimd" in engines and "scalar" not in engines


@pytest.mark.parametrize("rows", [1, 4])
def test_broadcast_to_casts_where_a_dtype_is_given(rows):
    x = np.linspace(0.5, 9, rows, dtype=np.float32).reshape(rows, 1)
    result, _ = results_of(lambda tile: nl.broadcast_to(tile, (4, 8), dtype=nl.bfloat16), x)
    assert result.dtype == ml_dtypes.bfloat16
    assert (result == np.broadcast_to(x.astype(ml_dtypes.bfloat16), (4, 8))).all()
