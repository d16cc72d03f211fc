"""A kept launch computes what the kernel computes, in the addresses that placement gave."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from rainshadow.errors import NkiValidationError
from rainshadow.machine import load_chip
from rainshadow.nki import isa as nisa
from rainshadow.nki import keep, record
from rainshadow.nki import language as nl

CHIP = load_chip("trainium2")


def layer(x, w, result):
    """x: [k, rows], w: [k, n] -> result [rows, n]: relu(x.T @ w) + 1, by tiles of 64 rows."""
    weights = nl.ndarray(w.shape, dtype=w.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=weights, src=w)
    for block in range(x.shape[1] // 64):
        here = nl.ds(block * 64, 64)
        tile = nl.ndarray((x.shape[0], 64), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[:, here])
        product = nl.ndarray((64, w.shape[1]), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(dst=product, stationary=tile, moving=weights)
        value = nl.ndarray(product.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation(dst=value, op=nl.relu, data=product)
        nisa.tensor_scalar(dst=value, data=value, op0=nl.add, operand0=1.0)
        nisa.dma_copy(dst=result[here], src=value)


def arrays(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((128, 256), dtype=np.float32)
    w = rng.standard_normal((128, 512), dtype=np.float32)
    return x, w, np.full((256, 512), np.nan, dtype=np.float32)


def expected(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return np.maximum(x.T @ w, 0) + 1


@pytest.mark.parametrize("exact", [False, True])
def test_a_replay_computes_on_the_arrays_it_is_given(exact):
    first = record(layer, arrays(0), chip=CHIP)
    x, w, result = arrays(1)
    replay = keep(layer, (x, w, result), first, chip=CHIP, exact=exact)
    np.testing.assert_allclose(result, expected(x, w), rtol=1e-5)
    for seed in (2, 3):
        x, w, result = arrays(seed)
        replay.run((x, w, result))
        np.testing.assert_allclose(result, expected(x, w), rtol=1e-5)


def test_a_replay_keeps_no_memory_of_its_caller():
    first = record(layer, arrays(0), chip=CHIP)
    values = arrays(1)
    replay = keep(layer, values, first, chip=CHIP, exact=False)
    replay.run(values)
    watched = [weakref.ref(value) for value in values]
    del values
    gc.collect()
    assert [ref() for ref in watched] == [None] * len(watched)
    replay.run(arrays(2))


def test_two_kept_kernels_share_the_chips_memory_without_harm():
    first = record(layer, arrays(0), chip=CHIP)
    replays = [keep(layer, arrays(i), first, chip=CHIP, exact=False) for i in range(2)]
    for seed, replay in enumerate([*replays, *replays]):
        x, w, result = arrays(seed)
        replay.run((x, w, result))
        np.testing.assert_allclose(result, expected(x, w), rtol=1e-5)


def pick(table, index, result):
    """result[i] = table[index[i]], by indirect DMA."""
    rows = nl.ndarray(index.shape, dtype=nl.int32, buffer=nl.sbuf)
    nisa.dma_copy(dst=rows, src=index)
    tile = nl.ndarray((index.shape[0], table.shape[1]), dtype=table.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=table.ap(
        pattern=[[table.shape[1], index.shape[0]], [1, table.shape[1]]],
        vector_offset=rows,
        indirect_dim=0,
    ))  # fmt: skip
    nisa.dma_copy(dst=result, src=tile)


def test_data_that_break_a_rule_in_a_replay_name_the_kernels_line():
    table = np.arange(40, dtype=np.float32).reshape(10, 4)
    good = np.array([[1], [7], [3]], dtype=np.int32)
    result = np.zeros((3, 4), np.float32)
    first = record(pick, (table, good, result), chip=CHIP)
    replay = keep(pick, (table, good, result), first, chip=CHIP, exact=False)
    replay.run((table, good[::-1].copy(), result))
    np.testing.assert_array_equal(result, table[[3, 7, 1]])
    with pytest.raises(NkiValidationError) as caught:
        replay.run((table, good + 90, result))
    assert "test_replay.py" in str(caught.value.where)
    replay.run((table, good, result))
    np.testing.assert_array_equal(result, table[[1, 7, 3]])
