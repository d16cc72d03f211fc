"""Kernels run through `nki.simulate` as a user writes them."""

from __future__ import annotations

import numpy as np
import pytest

from rainshadow.errors import CapacityError, NkiValidationError, OutOfBoundsError
from rainshadow.nki import Shape, jit, record, simulate
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.sim.options import SimOptions


@jit
def add_tiles(a, b):
    result = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    rows, columns = a.shape
    for m in nl.affine_range(rows // 128):
        block = slice(m * 128, (m + 1) * 128)
        left = nl.ndarray((128, columns), dtype=a.dtype, buffer=nl.sbuf)
        right = nl.ndarray((128, columns), dtype=a.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=left, src=a[block])
        nisa.dma_copy(dst=right, src=b[block])
        total = nl.ndarray((128, columns), dtype=a.dtype, buffer=nl.sbuf)
        nisa.tensor_tensor(dst=total, data1=left, data2=right, op=nl.add)
        nisa.dma_copy(dst=result[block], src=total)
    return result


@jit
def matmul_block(lhs_t, rhs):
    k, m = lhs_t.shape
    n = rhs.shape[1]
    left = nl.ndarray((k, m), dtype=lhs_t.dtype, buffer=nl.sbuf)
    right = nl.ndarray((k, n), dtype=rhs.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=left, src=lhs_t)
    nisa.dma_copy(dst=right, src=rhs)
    product = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.psum)
    nisa.nc_matmul(dst=product, stationary=left, moving=right)
    copied = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=copied, src=product)
    result = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=result, src=copied)
    return result


def test_elementwise_kernel_matches_numpy(rng):
    a = rng.standard_normal((256, 384)).astype(np.float32)
    b = rng.standard_normal((256, 384)).astype(np.float32)
    np.testing.assert_array_equal(simulate(add_tiles)(a, b), a + b)


def test_calling_a_jit_kernel_simulates_it(rng):
    a = rng.standard_normal((128, 64)).astype(np.float32)
    np.testing.assert_array_equal(add_tiles(a, a), a + a)


def test_matmul_matches_numpy(rng):
    lhs_t = rng.standard_normal((96, 64)).astype(np.float32)
    rhs = rng.standard_normal((96, 200)).astype(np.float32)
    np.testing.assert_allclose(
        simulate(matmul_block)(lhs_t, rhs), lhs_t.T @ rhs, rtol=1e-5, atol=1e-5
    )


def test_recording_without_data_gives_the_same_trace(rng):
    a = rng.standard_normal((256, 384)).astype(np.float32)
    full = record(add_tiles, (a, a)).trace
    shape = Shape((256, 384), "float32")
    none = record(add_tiles, (shape, shape), options=SimOptions(data="none")).trace
    assert none.signatures == full.signatures
    np.testing.assert_array_equal(none.access, full.access)
    np.testing.assert_array_equal(none.ranges, full.ranges)


def test_rule_error_names_the_users_line():
    @jit
    def too_wide(a):
        tile = nl.ndarray((128, 513), dtype=nl.float32, buffer=nl.sbuf)
        nisa.memset(dst=tile, value=0.0)
        acc = nl.ndarray((128, 513), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(dst=acc, stationary=tile[:, 0:128], moving=tile)
        return a

    with pytest.raises(NkiValidationError) as caught:
        simulate(too_wide)(np.zeros((1, 1), np.float32))
    message = str(caught.value)
    assert "moving free size 513" in message
    assert "at most 512" in message
    assert "test_kernel.py" in message
    assert "nisa.nc_matmul(dst=acc" in message


def test_full_sbuf_lists_the_live_tensors():
    @jit
    def greedy(a):
        tiles = [nl.ndarray((128, 16384), dtype=nl.float32, name=f"tile{i}") for i in range(9)]
        for tile in tiles:
            nisa.memset(dst=tile, value=0.0)
        for tile in tiles:
            nisa.tensor_scalar(dst=tile, data=tile, op0=nl.add, operand0=1.0)
        return a

    with pytest.raises(CapacityError, match=r"tile3 needs 65536 .*tile0 65536 B.*") as caught:
        simulate(greedy)(np.zeros((1, 1), np.float32))
    message = str(caught.value)
    assert "196608 B in 3 tiles made at" in message and "tiles = [nl.ndarray" in message
    assert "a tile of at most 15840 B per partition fits here" in message


def test_tiles_of_a_loop_share_addresses_once_dead():
    @jit
    def loop(a):
        for _ in nl.affine_range(20):
            tile = nl.ndarray((128, 16384), dtype=nl.float32)
            nisa.memset(dst=tile, value=0.0)
        return a

    trace = record(loop, (np.zeros((1, 1), np.float32),)).trace
    assert trace.peak_bytes["sbuf"] == 16384 * 4


def test_slices_past_the_end_are_refused():
    @jit
    def past(a):
        return a[0:3]

    with pytest.raises(OutOfBoundsError, match=r"slice 0:3 on axis 0"):
        simulate(past)(np.zeros((2, 4), np.float32))


def test_bfloat16_rounds_once_at_the_write(rng):
    torch = pytest.importorskip("torch")
    a = torch.randn(128, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    got = simulate(add_tiles)(a, a)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, a + a)


@pytest.mark.parametrize("name", ["float8_e4m3", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"])
def test_torch_tensors_come_back_in_every_float8(name):
    torch = pytest.importorskip("torch")

    @jit
    def narrow(x):
        tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x)
        small = nl.ndarray(x.shape, dtype=getattr(nl, name), buffer=nl.sbuf)
        nisa.tensor_copy(dst=small, src=tile)
        out = nl.ndarray(x.shape, dtype=small.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=small)
        return out

    x = torch.full((4, 4), 2.0)
    got = simulate(narrow)(x)
    if hasattr(torch, name):
        assert got.dtype == getattr(torch, name) and torch.equal(got.float(), x)
    else:  # PyTorch has none whose largest value is 240
        assert isinstance(got, np.ndarray) and (got.astype(np.float32) == 2).all()


def row_sums(x, commands):
    """exp of each third of x in turn, its sums gathered in ScalarE's registers by `commands`."""
    tile = nl.ndarray(x.shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    total = nl.ndarray((x.shape[0], 1), dtype=nl.float32, buffer=nl.sbuf)
    width = x.shape[1] // 3
    for number, command in enumerate(commands):
        part = tile[:, nl.ds(number * width, width)]
        last = total if number == len(commands) - 1 else None
        nisa.activation(
            dst=part, op=nl.exp, data=part, reduce_op=nl.add, reduce_res=last, reduce_cmd=command
        )
    result = nl.ndarray((x.shape[0], 1), dtype=nl.float32, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=result, src=total)
    return result


@pytest.mark.parametrize(
    ("commands", "counted"),
    [
        (("reset_reduce", "reduce", "reduce"), (0, 1, 2)),
        (("reset_reduce", "reduce", "idle"), (0, 1)),
        (("reset_reduce", "idle", "reduce"), (0, 2)),
        (("reset_reduce", "reset", "reduce"), (2,)),
        (("reset_reduce", "reduce", "reset_reduce"), (2,)),
    ],
)
def test_activation_gathers_sums_over_several_instructions(rng, commands, counted):
    x = rng.standard_normal((128, 30)).astype(np.float32)
    names = [nisa.reduce_cmd[command] for command in commands]
    parts = [np.exp(x[:, n * 10 : (n + 1) * 10]).sum(1, keepdims=True) for n in counted]
    np.testing.assert_allclose(simulate(row_sums)(x, names), sum(parts), rtol=1e-5)


def test_reading_sums_that_nothing_gathered_is_an_error_at_the_users_line(rng):
    x = rng.standard_normal((128, 30)).astype(np.float32)
    with pytest.raises(NkiValidationError, match="reset_reduce") as caught:
        simulate(row_sums)(x, [nisa.reduce_cmd.idle])
    assert "test_kernel.py" in str(caught.value.where)


@jit
def double_in_place(x):
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
    nisa.dma_copy(dst=x, src=tile)


@pytest.mark.parametrize("as_torch", [False, True])
def test_a_kernel_writes_into_an_array_of_any_strides(rng, as_torch):
    """A row-major copy goes to the device; what the kernel wrote comes back."""
    values = rng.standard_normal((32, 64)).astype(np.float32)
    array = values.copy()
    if as_torch:
        torch = pytest.importorskip("torch")
        simulate(double_in_place)(torch.from_numpy(array).T)
    else:
        simulate(double_in_place)(array.T)
    assert np.array_equal(array, 2 * values)
