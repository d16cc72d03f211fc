"""Kernels of the first generation whose tiles do not fit get some moved away and back."""

from __future__ import annotations

import numpy as np
import pytest

from rainshadow import nki
from rainshadow.errors import CapacityError
from rainshadow.machine import load_chip
from rainshadow.nki import first_generation as first
from rainshadow.nki import isa, language
from rainshadow.nki.first_generation import language as nl
from rainshadow.nki.kernel import record
from rainshadow.sim.options import SimOptions
from rainshadow.sim.timing import time_trace


def opcodes(trace):
    return [trace.signatures[number].opcode for number in trace.signature]


@pytest.fixture
def x(rng):
    return rng.random((14, 128, 4096), dtype=np.float32)


@first.jit
def hold_all(x, adds=False):
    """14 tiles of 16 KiB per partition, all made before the first is stored: x, or x + 1."""
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    tiles = nl.ndarray((x.shape[0], nl.par_dim(128), x.shape[2]), x.dtype)
    for number in nl.affine_range(x.shape[0]):
        tiles[number] = nl.add(nl.load(x[number]), 1.0) if adds else nl.load(x[number])
    for number in nl.affine_range(x.shape[0]):
        nl.store(out[number], tiles[number])
    return out


def moves_of(trace, fits):
    """Rows that a kernel on 14 tiles has beyond those of the same kernel on 10."""
    assert fits.spilled_bytes() == {"saved_bytes": 0, "reloaded_bytes": 0}
    assert fits.num_rows % 10 == 0, "nothing moves where all fit"
    return trace.num_rows - fits.num_rows // 10 * 14


def test_tiles_in_sbuf_go_to_hbm_and_back(x):
    run, fits = record(hold_all, (x, True)), record(hold_all, (x[:10], True)).trace
    np.testing.assert_array_equal(run.outputs, x + 1)
    trace = run.trace
    moves = moves_of(trace, fits)
    assert moves >= 2 and moves % 2 == 0, "each tile that leaves comes back"
    usable = load_chip("trainium2").core.sbuf.usable_bytes_per_partition.value
    assert trace.peak_bytes["sbuf"] <= usable
    spilled = {trace.tensor(number).name for number in range(len(trace.tensors))}
    assert any(name.startswith("spilled ") for name in spilled)
    away = trace.spilled_bytes()
    assert away == {"saved_bytes": moves // 2 * x[0].nbytes, "reloaded_bytes": away["saved_bytes"]}
    per_tile = [
        time_trace(each, load_chip("trainium2")).duration_ps / count
        for each, count in ((trace, 14), (fits, 10))
    ]
    assert per_tile[0] > per_tile[1], "moves take their time"


def test_tiles_that_hold_what_was_loaded_are_dropped_and_loaded_again(x):
    run, fits = record(hold_all, (x,)), record(hold_all, (x[:10],)).trace
    np.testing.assert_array_equal(run.outputs, x)
    trace = run.trace
    moves = moves_of(trace, fits)
    assert moves >= 1
    assert trace.spilled_bytes() == {"saved_bytes": 0, "reloaded_bytes": moves * x[0].nbytes}
    assert trace.moved_bytes("hbm", written=False) == x.nbytes + moves * x[0].nbytes
    assert trace.moved_bytes("hbm", written=True) == x.nbytes


def test_what_is_written_in_hbm_is_not_loaded_again(rng):
    x = rng.random((14, 128, 4096), dtype=np.float32)

    @first.jit
    def through_hbm(x):
        out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        tiles = nl.ndarray((14, nl.par_dim(128), 4096), x.dtype)
        for number in nl.affine_range(14):
            nl.store(out[number], nl.load(x[number]))
            tiles[number] = nl.load(out[number])
        for number in nl.affine_range(14):
            nl.store(out[13 - number], tiles[number])
        return out

    run = record(through_hbm, (x,))
    np.testing.assert_array_equal(run.outputs, x[::-1])
    assert run.trace.spilled_bytes()["saved_bytes"] > 0


def test_tiles_in_psum_go_to_sbuf_and_back(rng):
    a = rng.random((128, 128), dtype=np.float32)
    b = rng.random((12, 128, 512), dtype=np.float32)

    @first.jit
    def products(a, b):
        out = nl.ndarray(b.shape, b.dtype, buffer=nl.shared_hbm)
        banks = nl.ndarray((12, nl.par_dim(128), 512), nl.float32, buffer=nl.psum)
        left = nl.load(a)
        for number in nl.affine_range(12):
            banks[number] = nl.matmul(left, nl.load(b[number]), transpose_x=True)
        for number in nl.affine_range(12):
            nl.store(out[number], banks[number])
        return out

    run = record(products, (a, b))
    np.testing.assert_allclose(run.outputs, a.T @ b, rtol=1e-5)
    plain = 1 + 12 * 2 + 12 * 2
    assert opcodes(run.trace).count("tensor_copy") - 12 == run.trace.num_rows - plain > 0


def test_one_instruction_that_needs_more_than_there_is_does_not_fit(rng):
    @first.jit
    def add(a, b):
        left, right = nl.load(a), nl.load(b)
        return nl.add(left, right)

    a, b = rng.random((2, 128, 20000), dtype=np.float32)
    with pytest.raises(CapacityError, match="largest free stretch"):
        record(add, (a, b))


def test_the_newer_generation_moves_nothing(x):
    @nki.jit
    def newer(x):
        out = language.ndarray(x.shape, x.dtype, buffer=language.shared_hbm)
        tiles = [language.ndarray(x.shape[1:], x.dtype, buffer=language.sbuf) for _ in range(14)]
        for number, tile in enumerate(tiles):
            isa.dma_copy(tile, x[number])
        for number, tile in enumerate(tiles):
            isa.dma_copy(out[number], tile)
        return out

    with pytest.raises(CapacityError, match="largest free stretch"):
        record(newer, (x,))


@nki.jit
def hold_on_each_core(x):
    """Each core holds its half of the tiles, 14 of 16 KiB per partition."""
    out = language.ndarray(x.shape, x.dtype, buffer=language.shared_hbm)
    half = x.shape[0] // 2
    mine = range(language.program_id(0) * half, (language.program_id(0) + 1) * half)
    tiles = [language.ndarray(x.shape[1:], x.dtype, buffer=language.sbuf) for _ in mine]
    for number, tile in zip(mine, tiles, strict=True):
        isa.dma_copy(tile, x[number])
    for number, tile in zip(mine, tiles, strict=True):
        isa.dma_copy(out[number], tile)
    return out


def test_cores_move_the_same_tiles_with_data_and_without(rng):
    x = rng.random((28, 128, 4096), dtype=np.float32)
    traces = []
    for given, data in ((x, "full"), (nki.Shape(x.shape, "float32"), "none")):
        run = record(hold_on_each_core[2], (given,), options=SimOptions(data=data, spill="model"))
        traces.append((run.trace, *run.other_traces))
    for with_data, without in zip(*traces, strict=True):
        assert with_data.spilled_bytes() == without.spilled_bytes()
        assert with_data.spilled_bytes()["saved_bytes"] == 0, "arguments are loaded again"
        np.testing.assert_array_equal(with_data.access, without.access)
