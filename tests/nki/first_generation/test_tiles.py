"""Tiles by index tiles, slices and tiles of indices; blocks; masks."""

from __future__ import annotations

import numpy as np
import pytest

from rainshadow.errors import NkiValidationError, OutOfBoundsError
from rainshadow.nki.first_generation import compiler as ncc
from rainshadow.nki.first_generation import isa as nisa
from rainshadow.nki.first_generation import language as nl
from rainshadow.nki.first_generation import launch
from rainshadow.nki.kernel import record


def run(function, *arrays):
    return record(launch.jit(function), arrays)


def opcodes(run):
    return [run.trace.signatures[number].opcode for number in run.trace.signature]


@pytest.fixture
def x(rng):
    return rng.random((128, 512), dtype=np.float32)


def test_index_tiles_cut_what_numpy_cuts(x):
    p, f = np.arange(16)[:, None], np.arange(8)[None, :]

    def kernel(x):
        i_p, i_f = nl.arange(16)[:, None], nl.arange(8)[None, :]
        out = nl.ndarray((16, 8), x.dtype, buffer=nl.shared_hbm)
        nl.store(out, nl.load(x[2 * i_p + 3, 5 + i_f * 4]))
        return out

    np.testing.assert_array_equal(run(kernel, x).outputs, x[2 * p + 3, 5 + f * 4])


def test_tiles_of_tiles(x):
    def kernel(x):
        out = nl.ndarray((32, 4), x.dtype, buffer=nl.shared_hbm)
        tile = nl.load(x)[0:64, 8:72:2]
        i_p, i_f = nl.mgrid[0:32, 0:4]
        nl.store(out, tile[i_p, 2 * i_f + 1])
        return out

    expected = x[0:64, 8:72:2][:32, 1:9:2]
    np.testing.assert_array_equal(run(kernel, x).outputs, expected)


def test_rows_by_a_tile_of_indices(x, rng):
    rows = rng.permutation(128)[:32].astype(np.int32).reshape(32, 1)

    def kernel(x, rows):
        out = nl.ndarray((32, 16), x.dtype, buffer=nl.shared_hbm)
        picked = nl.load(rows)
        nl.store(out, nl.load(x[picked, 7 + nl.arange(16)[None, :]]))
        return out

    np.testing.assert_array_equal(run(kernel, x, rows).outputs, x[rows[:, 0], 7:23])


def test_a_mask_lets_a_tile_reach_past_the_end(x):
    def kernel(x):
        out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        i_p, i_f = nl.mgrid[0:128, 0:500]
        for j in nl.affine_range(2):
            mask = i_f + 500 * j < 512
            tile = nl.load(x[i_p, i_f + 500 * j], mask=mask)
            nl.store(out[i_p, i_f + 500 * j], tile * 2, mask=mask)
        return out

    np.testing.assert_array_equal(run(kernel, x).outputs, x * 2)


def test_without_the_mask_that_is_an_error_at_the_line(x):
    def kernel(x):
        i_p, i_f = nl.mgrid[0:128, 0:500]
        tile = nl.load(x[i_p, i_f + 500])
        nl.store(x[i_p, i_f], tile)

    with pytest.raises(OutOfBoundsError, match=r"nl.load\(x\[i_p, i_f \+ 500\]\)"):
        run(kernel, x)


def test_a_mask_that_is_no_box_becomes_several_instructions(rng):
    x = rng.random((4, 6), dtype=np.float32)

    def kernel(x):
        out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        i_p, i_f = nl.mgrid[0:4, 0:6]
        tile = nl.zeros(x.shape, x.dtype)
        tile[...] = nl.load(x)
        tile[i_p, i_f] = nl.multiply(tile[i_p, i_f], 0.0, mask=i_p * 6 + i_f < 15)
        nl.store(out, tile)
        return out

    expected = np.where(np.arange(24).reshape(4, 6) < 15, 0, x)
    np.testing.assert_array_equal(run(kernel, x).outputs, expected)


def test_masks_are_no_booleans(x):
    def kernel(x):
        i_p, i_f = nl.mgrid[0:128, 0:512]
        nl.load(x[i_p, i_f], mask=i_p < 4 and i_f < 5)

    with pytest.raises(NkiValidationError, match="instead of `a and b`"):
        run(kernel, x)


def test_each_block_is_placed_by_its_own_lifetime(rng):
    x = rng.random((40, 128, 8192), dtype=np.float32)

    def kernel(x):
        out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        blocks = nl.ndarray((40, nl.par_dim(128), 8192), x.dtype)
        for b in nl.affine_range(40):
            blocks[b] = nl.load(x[b])
            nl.store(out[b], blocks[b])
        return out

    result = run(kernel, x)
    np.testing.assert_array_equal(result.outputs, x)
    assert opcodes(result) == ["dma_copy"] * 80


def test_a_result_is_written_straight_into_the_tile_it_is_assigned_to(x):
    def kernel(x):
        out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        tile = nl.ndarray(x.shape, x.dtype)
        tile[...] = nl.load(x)
        tile[:, 0:256] = nl.exp(tile[:, 0:256])
        tile[:, 256:512] += tile[:, 0:256]
        nl.store(out, tile)
        return out

    result = run(kernel, x)
    assert opcodes(result) == ["dma_copy", "activation", "tensor_tensor", "dma_copy"]
    left = np.exp(x[:, :256])
    np.testing.assert_allclose(
        result.outputs, np.concatenate([left, x[:, 256:] + left], axis=1), rtol=1e-6
    )


def test_matmuls_accumulate_in_psum_without_a_memset(rng):
    a, b = rng.random((4, 128, 64)), rng.random((4, 128, 256))
    a, b = a.astype(np.float32), b.astype(np.float32)

    def kernel(a, b):
        out = nl.ndarray((64, 256), np.float32, buffer=nl.shared_hbm)
        acc = nl.zeros((nl.par_dim(64), 256), np.float32, buffer=nl.psum)
        for k in nl.affine_range(4):
            acc += nl.matmul(nl.load(a[k]), nl.load(b[k]), transpose_x=True)
        nl.store(out, acc)
        return out

    result = run(kernel, a, b)
    assert "memset" not in opcodes(result)
    np.testing.assert_allclose(result.outputs, np.einsum("kpm,kpn->mn", a, b), rtol=1e-5)


def test_zeros_that_are_read_are_written_first():
    def kernel():
        out = nl.ndarray((64, 256), np.float32, buffer=nl.shared_hbm)
        acc = nl.zeros((nl.par_dim(64), 256), np.float32, buffer=nl.psum)
        nl.store(out, acc)
        return out

    result = run(kernel)
    assert opcodes(result) == ["memset", "tensor_copy", "dma_copy"]
    assert (result.outputs == 0).all()


def test_matmul_masks_follow_the_index_tiles(rng):
    a, b = rng.random((100, 60), dtype=np.float32), rng.random((100, 300), dtype=np.float32)

    def kernel(a, b):
        out = nl.ndarray((60, 300), np.float32, buffer=nl.shared_hbm)
        i_k, i_m, i_n = nl.arange(128)[:, None], nl.arange(64)[None, :], nl.arange(512)[None, :]
        i_mp = nl.arange(64)[:, None]
        left = nl.load(a[i_k, i_m], mask=(i_k < 100) & (i_m < 60))
        right = nl.load(b[i_k, i_n], mask=(i_k < 100) & (i_n < 300))
        mask = (i_k < 100) & (i_m < 60) & (i_n < 300)
        acc = nisa.nc_matmul(left[i_k, i_m], right[i_k, i_n], mask=mask)
        nl.store(out[i_mp, i_n], acc[i_mp, i_n], mask=(i_mp < 60) & (i_n < 300))
        return out

    np.testing.assert_allclose(run(kernel, a, b).outputs, a.T @ b, rtol=1e-5)


def test_rows_keep_the_line_of_their_operation(x):
    def kernel(x):
        tile = nl.load(x)
        doubled = tile * 2
        nl.store(x, doubled)

    trace = run(kernel, x).trace
    texts = [trace.lines[number].source.text for number in trace.line]
    assert texts == ["tile = nl.load(x)", "doubled = tile * 2", "nl.store(x, doubled)"]


def test_a_number_is_stored_everywhere(x):
    def kernel(x):
        out = nl.ndarray((128, 64), np.int32, buffer=nl.shared_hbm)
        nl.store(out, 7)
        return out

    assert (run(kernel, x).outputs == 7).all()


def test_a_tensor_argument_is_true_a_tile_is_neither(x):
    def kernel(x, scale=None):
        out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        tile = nl.load(x)
        nl.store(out, tile * nl.load(scale) if scale else tile)
        return out

    np.testing.assert_array_equal(run(kernel, x).outputs, x)
    np.testing.assert_array_equal(run(kernel, x, x[:, :1]).outputs, x * x[:, :1])
    with pytest.raises(NkiValidationError, match="as True or False"):
        run(lambda x: 1 if nl.load(x) else 2, x)
    with pytest.raises(NkiValidationError, match="as True or False"):
        run(lambda x: 1 if x[0, 0:4] else 2, x)


def test_transposes_by_matmul_cast_on_their_way_to_psum(x):
    def kernel(x):
        out = nl.ndarray((128, 128), np.float32, buffer=nl.shared_hbm)
        turned = nl.ndarray((nl.par_dim(128), 128), nl.float32, buffer=nl.psum)
        turned[...] = nisa.nc_transpose(nl.load(x[:, 0:128], dtype=nl.bfloat16))
        nl.store(out, turned)
        return out

    result = run(kernel, x)
    assert opcodes(result) == ["dma_copy", "nc_transpose", "tensor_copy", "dma_copy"]
    rounded = x[:, :128].astype(nl.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(result.outputs, rounded.T)


def test_running_sums_go_on_from_the_accumulator(x):
    def kernel(x):
        out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        tile, sums = nl.load(x), nl.ndarray(x.shape, x.dtype)
        for half, command in enumerate((nisa.reduce_cmd.load_reduce, nisa.reduce_cmd.reduce)):
            part = nl.ds(256 * half, 256)
            nisa.tensor_scalar_cumulative(
                src=tile[:, part], dst=sums[:, part], op0=nl.multiply, op1=nl.add, imm0=2.0,
                imm1=10.0, reduce_cmd=command,
            )  # fmt: skip
        nl.store(out, sums)
        return out

    expected = 10 + np.cumsum(2 * x, axis=1, dtype=np.float64)
    np.testing.assert_allclose(run(kernel, x).outputs, expected, rtol=1e-5)


def test_reductions_over_axes_that_are_not_the_last(rng):
    x = rng.random((3, 6, 8), dtype=np.float32)

    def kernel(x):
        out = nl.ndarray((3, 3, 4), x.dtype, buffer=nl.shared_hbm)
        p = nl.arange(3)[:, None, None, None, None]
        y, dy = nl.arange(3)[None, :, None, None, None], nl.arange(2)[None, None, :, None, None]
        z, dz = nl.arange(4)[None, None, None, :, None], nl.arange(2)[None, None, None, None, :]
        nl.store(out, nl.max(nl.load(x)[p, 2 * y + dy, 2 * z + dz], axis=[2, 4]))
        return out

    np.testing.assert_array_equal(run(kernel, x).outputs, x.reshape(3, 3, 2, 4, 2).max((2, 4)))


def test_matmul_masks_of_other_index_tiles_mean_the_axis_of_equal_extent(rng):
    a, b = rng.random((128, 64), dtype=np.float32), rng.random((128, 512), dtype=np.float32)

    def kernel(a, b):
        out = nl.ndarray((64, 500), np.float32, buffer=nl.shared_hbm)
        acc = nl.zeros((64, 512), np.float32, buffer=nl.psum)
        acc += nisa.nc_matmul(nl.load(a), nl.load(b), mask=nl.arange(512)[None, :] < 500)
        nl.store(out, acc[:, 0:500])
        return out

    result = run(kernel, a, b)
    np.testing.assert_allclose(result.outputs, a.T @ b[:, :500], rtol=1e-5)
    assert "memset" not in opcodes(result)

    def ambiguous(a):
        tile = nl.load(a)
        nisa.nc_matmul(tile, tile, mask=nl.arange(64)[None, :] < 50)

    with pytest.raises(NkiValidationError, match="index no operand"):
        run(ambiguous, a)


def test_modulo_allocation_of_a_tensor_without_blocks():
    place = ncc.sbuf.mod_alloc(base_addr=64, num_free_tiles=(2,)).allocator
    assert [place(idx=(n,), pdim_size=128, fdim_size=32) for n in (0, 1, 2)] == [
        (0, 64), (0, 96), (0, 64),
    ]  # fmt: skip
    assert place(idx=(), pdim_size=128, fdim_size=32) == (0, 64)
    grid = ncc.sbuf.mod_alloc(base_addr=0, num_free_tiles=(2, 3)).allocator
    assert grid(idx=(3, 4), pdim_size=128, fdim_size=10) == (0, (1 * 3 + 1) * 10)
