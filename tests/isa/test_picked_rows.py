"""Rows of a table in HBM that an index tile picks: copies, transposes, what lies outside."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from on_core import blank, core, tile, values

from rainshadow.errors import NkiValidationError, OutOfBoundsError
from rainshadow.isa.memory import Space
from rainshadow.nki import isa as nisa

SEEDS = st.integers(0, 2**31)


@given(SEEDS, st.integers(1, 30), st.integers(1, 8), st.integers(1, 12))
def test_indirect_copies_gather_and_scatter_rows_by_their_index(seed, rows, columns, picks):
    table, rng = values(seed, rows, columns), np.random.default_rng(seed)
    index = rng.integers(0, rows, (picks, 1)).astype(np.int32)
    with core():
        source, gathered = tile(table, Space.shared_hbm), blank(picks, columns)
        nisa.dma_copy(gathered, source.vector_select(0, tile(index)))
        np.testing.assert_array_equal(gathered.array, table[index[:, 0]])
        order = rng.permutation(rows)[:picks, None].astype(np.int32)
        new = values(seed + 1, len(order), columns)
        nisa.dma_copy(source.vector_select(0, tile(order)), tile(new))
        expected = table.copy()
        expected[order[:, 0]] = new
        np.testing.assert_array_equal(source.array, expected)


def test_an_index_past_the_table_is_an_error_or_left_out_if_asked():
    index = np.array([[1], [7], [0]], np.int32)
    with core():
        table = tile(values(0, 4, 6), Space.shared_hbm)
        dst = tile(np.zeros((3, 6), np.float32))
        with pytest.raises(OutOfBoundsError, match=r"index 7 .*\n.*0\.\.3"):
            nisa.dma_copy(dst, table.vector_select(0, tile(index)))
        nisa.dma_copy(dst, table.vector_select(0, tile(index)), oob_mode=nisa.oob_mode.skip)
        np.testing.assert_array_equal(dst.array[[0, 2]], table.array[[1, 0]])
        assert (dst.array[1] == 0).all()


def test_rows_that_begin_where_the_index_says_may_be_longer_than_one():
    index = np.array([[0], [5], [6]], np.int32)
    with core():
        table, data = tile(np.zeros((8, 4), np.float32), Space.shared_hbm), tile(values(1, 3, 8))
        two_rows = table.ap([[1, 3], [4, 2], [1, 4]], vector_offset=tile(index), indirect_dim=0)
        nisa.dma_copy(two_rows, data.ap([[8, 3], [4, 2], [1, 4]]))
        for (row,), written in zip(index.tolist()[::2], data.array[::2], strict=True):
            np.testing.assert_array_equal(table.array[row : row + 2], written.reshape(2, 4))
        np.testing.assert_array_equal(table.array[5], data.array[1, :4])
        beyond = table.ap([[1, 3], [4, 2], [1, 4]], vector_offset=tile(index + 1), indirect_dim=0)
        with pytest.raises(OutOfBoundsError, match=r"index 7 .*\n.*0\.\.6"):
            nisa.dma_copy(beyond, data.ap([[8, 3], [4, 2], [1, 4]]))


def gathered(table: Any, index: Any, *free: int) -> Any:
    """A view of the rows of `table` that the index tile picks."""
    row = table.size // table.shape[0]
    pattern = [
        [row, index.size],
        *([row // math.prod(free[: i + 1]), n] for i, n in enumerate(free)),
    ]
    return table.ap(pattern, vector_offset=index, indirect_dim=0)


@pytest.mark.parametrize("columns", [1, 2])
def test_dma_transpose_of_picked_rows_goes_down_the_columns_of_the_index_tile(columns):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((300, 96)).astype(ml_dtypes.bfloat16)
    index = rng.integers(0, 300, (128, columns)).astype(np.uint32)
    with core():
        dst = blank(96, 128 * columns, dtype="bfloat16")
        nisa.dma_transpose(dst, gathered(tile(rows, Space.shared_hbm), tile(index), 96))
        assert (dst.array == rows[index.T.reshape(-1)].T).all()


def test_dma_transpose_of_picked_rows_of_four_axes_leaves_out_what_is_outside():
    rows = np.arange(40 * 4 * 8).reshape(40, 1, 4, 8).astype(np.float16)
    index = np.arange(16, dtype=np.uint32).reshape(16, 1) * 3
    with core():
        dst = blank(8, 1, 4, 16, dtype="float16")
        nisa.memset(dst, -1.0)
        src = gathered(tile(rows, Space.shared_hbm), tile(index), 1, 4, 8)
        with pytest.raises(OutOfBoundsError, match="index 42"):
            nisa.dma_transpose(dst, src)
        nisa.dma_transpose(dst, src, oob_mode=nisa.oob_mode.skip)
        expected = rows[(index[:14]).reshape(-1)].transpose(3, 1, 2, 0)
        assert (dst.array[..., :14] == expected).all() and (dst.array[..., 14:] == -1).all()


def test_an_index_tile_is_refused_where_rows_cannot_be_picked():
    with core():
        rows = tile(np.ones((64, 16), np.float32), Space.shared_hbm)
        index = tile(np.zeros((64, 1), np.uint32))
        with pytest.raises(NkiValidationError, match="rows of src are picked by an index tile"):
            nisa.tensor_copy(blank(64, 16), gathered(rows, index, 16))
