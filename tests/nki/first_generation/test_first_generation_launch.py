"""Launching kernels of the first generation: grids, cores, modes, targets, both generations."""

from __future__ import annotations

import numpy as np
import pytest

from rainshadow.errors import InputError, NkiValidationError
from rainshadow.nki import jit as newer_jit
from rainshadow.nki.first_generation import (
    baremetal,
    benchmark,
    jit,
    simulate_kernel,
)
from rainshadow.nki.first_generation import isa as nisa
from rainshadow.nki.first_generation import language as nl
from rainshadow.nki.install import nki_names
from rainshadow.nki.kernel import record


@jit
def numbered(a):
    b = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    i, j = nl.program_id(0), nl.program_id(1)
    nl.store(b[i, j], nl.load(a[i, j]) + nl.num_programs() * nl.program_ndim())
    return b


@pytest.mark.parametrize(
    "grid", [(4, 2), (nl.nc(2) * 2, 2), (2 * nl.nc(2), 2), (nl.spmd_dim(nl.nc(2), 2), 2)]
)
def test_programs_of_a_grid_write_the_same_tensor(grid, rng):
    a = rng.random((4, 2, 1, 1), dtype=np.float32)
    np.testing.assert_array_equal(numbered[grid](a), a + 16)


def test_programs_are_spread_over_cores(rng):
    a = rng.random((4, 2, 1, 1), dtype=np.float32)
    run = record(numbered[2 * nl.nc(2), 2], (a,))
    assert len(run.trace.signature) == len(run.other_traces[0].signature) == 12


def test_a_grid_has_two_cores_at_most():
    with pytest.raises(InputError, match="4 cores"):
        numbered[nl.nc(2), nl.nc(2)]


def test_outputs_may_be_arguments(rng):
    a, b = rng.random((2, 128, 64), dtype=np.float32)

    def copy(a, b):
        nl.store(b, nl.load(a))

    simulate_kernel(copy, a, b)
    np.testing.assert_array_equal(b, a)


def test_benchmark_keeps_the_simulated_latency(rng):
    a = rng.random((128, 512), dtype=np.float32)

    @benchmark(warmup=1, iters=2)
    def double(a):
        out = nl.ndarray(a.shape, a.dtype, buffer=nl.shared_hbm)
        nl.store(out, nl.load(a) * 2)
        return out

    with pytest.raises(InputError, match="has not run"):
        double.benchmark_result.nc_latency.get_latency_percentile(50)
    np.testing.assert_array_equal(double(a), a * 2)
    latency = double.benchmark_result.nc_latency
    assert 1 < latency.get_latency_percentile(50) == latency.get_latency_percentile(99) < 100


def test_a_kernel_may_name_its_target():
    seen = []

    @jit(platform_target="trn1")
    def which():
        seen.append(nisa.get_nc_version())

    which()
    assert seen == [nisa.nc_version.gen2]


def test_kernels_call_kernels(rng):
    a = rng.random((128, 64), dtype=np.float32)

    @jit(mode="trace")
    def doubled(tile):
        return tile * 2

    @baremetal
    def kernel(a):
        out = nl.ndarray(a.shape, a.dtype, buffer=nl.shared_hbm)
        nl.store(out, doubled(nl.load(a)))
        return out

    np.testing.assert_array_equal(kernel(a), a * 2)


def test_both_generations_in_one_process(rng):
    a = rng.random((128, 64), dtype=np.float32)
    with nki_names():
        import neuronxcc.nki.language as old
        import nki.isa
        import nki.language as new

        @newer_jit
        def newer(x):
            tile = new.ndarray(x.shape, dtype=x.dtype, buffer=new.sbuf)
            nki.isa.dma_copy(dst=tile, src=x)
            nki.isa.tensor_scalar(dst=tile, data=tile, op0=new.multiply, operand0=3.0)
            nki.isa.dma_copy(dst=x, src=tile)
            return x

        @jit
        def older(x):
            old.store(x, old.load(x) * 2)
            return x

        @newer_jit
        def mixed(x):
            return old.load(x)

        np.testing.assert_array_equal(older(newer(a.copy())), a * 6)
        with pytest.raises(NkiValidationError, match="another generation"):
            mixed(a)


def test_an_index_past_the_end_is_numpys_error_in_simulation(rng):
    a = rng.random((128, 4), dtype=np.float32)

    def kernel(a):
        index = nisa.iota(3 * nl.arange(64)[:, None], dtype=np.int32)
        return nl.load(a[index, nl.arange(4)[None, :]])

    with pytest.raises(IndexError, match="index 516 is out of bounds for axis 0 with size 512"):
        simulate_kernel(kernel, a)
    with pytest.raises(NkiValidationError, match="index 129"):
        jit(kernel)(a)
