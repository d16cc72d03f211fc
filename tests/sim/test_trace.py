"""A Trace: what its rows say, and that a file of it holds all of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from rainshadow.errors import InputError
from rainshadow.machine import load_chip
from rainshadow.nki import Shape, jit, record
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.sim.options import SimOptions
from rainshadow.sim.timing import TimingOptions, time_trace
from rainshadow.sim.trace import ARGUMENT, RETURNED, Trace


@jit
def many_kinds(x):
    """Instructions whose options are numbers, names, tuples and tuples of tuples."""
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, name="tile")
    nisa.dma_copy(dst=tile, src=x)
    total = nl.ndarray((x.shape[0], 1), dtype=nl.float32)
    nisa.tensor_reduce(dst=total, op=nl.add, data=tile, axis=(1,))
    numbers = nl.ndarray(x.shape, dtype=nl.float32)
    nisa.iota(dst=numbers, pattern=[[1, x.shape[1]]], channel_multiplier=3)
    nisa.memset(dst=numbers.view(nl.int32), value=3)
    nisa.memset(dst=numbers, value=np.float32(2.5))
    product = nl.ndarray((x.shape[1], x.shape[1]), dtype=nl.float32, buffer=nl.psum)
    nisa.nc_matmul(dst=product, stationary=tile, moving=numbers)
    summed(tile, tile, total)
    nisa.dma_copy(dst=result, src=tile)
    return result


def summed(dst, data, column):
    nisa.tensor_scalar(dst=dst, data=data, op0=nl.add, operand0=column)


@pytest.fixture
def trace() -> Trace:
    return record(many_kinds, (Shape((64, 96), "float32"),), options=SimOptions(data="none")).trace


def test_a_saved_trace_loads_equal_in_every_field(trace, tmp_path):
    path = tmp_path / "trace.npz"
    trace.save(path)
    loaded = Trace.load(path)
    for field in dataclasses.fields(Trace):
        before, after = getattr(trace, field.name), getattr(loaded, field.name)
        if isinstance(before, np.ndarray):
            assert before.dtype == after.dtype, field.name
            np.testing.assert_array_equal(before, after, err_msg=field.name)
        else:
            assert before == after, field.name


def test_saving_a_loaded_trace_gives_the_same_contents(trace, tmp_path):
    trace.save(tmp_path / "first.npz")
    Trace.load(tmp_path / "first.npz").save(tmp_path / "second.npz")
    with np.load(tmp_path / "first.npz") as a, np.load(tmp_path / "second.npz") as b:
        assert a.files == b.files
        assert all(a[name].tobytes() == b[name].tobytes() for name in a.files)


def test_a_loaded_trace_can_be_timed_on_another_chip(trace, tmp_path):
    trace.save(tmp_path / "trace.npz")
    chip, options = load_chip("trainium3"), TimingOptions(compiled="never")
    before = time_trace(trace, chip, options)
    after = time_trace(Trace.load(tmp_path / "trace.npz"), chip, options)
    np.testing.assert_array_equal(before.end_ps, after.end_ps)
    assert after.chip_name == "trainium3" and after.trace.chip == "trainium2"


@pytest.mark.parametrize("spoil", ["empty", "text", "cut", "single array", "other arrays", "gone"])
def test_a_file_that_is_no_trace_is_an_input_error_that_names_it(trace, tmp_path, spoil):
    path = tmp_path / "odd.npz"
    trace.save(path)
    whole = path.read_bytes()
    match spoil:
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_bytes(b"hello")
        case "cut":
            path.write_bytes(whole[: len(whole) // 2])
        case "single array":
            with path.open("wb") as stream:
                np.save(stream, np.zeros(3))
        case "other arrays":
            np.savez(path, a=np.zeros(3))
        case "gone":
            path.unlink()
    with pytest.raises(InputError, match=r"odd\.npz is not a trace"):
        Trace.load(path)


def test_another_format_version_is_refused_with_the_one_that_is_read(trace, tmp_path, monkeypatch):
    import rainshadow.sim.trace as module

    path = tmp_path / "old.npz"
    wanted = module.FORMAT_VERSION
    monkeypatch.setattr(module, "FORMAT_VERSION", 0)
    trace.save(path)
    monkeypatch.undo()
    with pytest.raises(InputError, match=rf"format 0\n.*{wanted}"):
        Trace.load(path)


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(trace, tmp_path, monkeypatch):
    path = tmp_path / "trace.npz"
    path.write_text("old")

    def full_disk(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(OSError, match="no space left"):
        trace.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["trace.npz"]
    assert path.read_text() == "old"


def test_rows_know_the_line_and_the_function_that_issued_them(trace):
    assert trace.num_rows == 8
    assert trace.scopes == ["many_kinds", "summed"]
    assert trace.scope.tolist() == [0, 0, 0, 0, 0, 0, 1, 0]
    texts = [trace.lines[number].source.text for number in trace.line]
    assert texts[1].startswith("nisa.tensor_reduce(dst=total")
    assert all(line.source.file == __file__ for line in trace.lines)


def test_bytes_and_flops_are_those_of_the_tensors(trace):
    tensor = 64 * 96 * 4
    assert trace.moved_bytes("hbm", written=False) == tensor
    assert trace.moved_bytes("hbm", written=True) == tensor
    assert trace.moved_bytes("psum", written=True) == 96 * 96 * 4
    assert trace.flops == 2 * 64 * 96 * 96


def test_a_row_touches_the_ranges_of_its_operands_and_says_which_it_writes(trace):
    matmul = [trace.signatures[number].opcode for number in trace.signature].index("nc_matmul")
    mine = trace.access[trace.access_end[matmul - 1] : trace.access_end[matmul]]
    spaces = [(int(trace.ranges[item >> 1, 0]), int(item & 1)) for item in mine]
    assert spaces == [(1, 1), (0, 0), (0, 0)]
    assert trace.access_end[-1] == len(trace.access)


def test_a_trace_knows_its_tensors_and_who_made_them(trace):
    tensors = [trace.tensor(number) for number in range(len(trace.tensors))]
    by_name = {tensor.name: tensor for tensor in tensors}
    tile, argument = by_name["tile"], by_name["x"]
    assert (tile.space, tile.partitions, tile.size_bytes, tile.flags) == ("sbuf", 64, 96 * 4, 0)
    assert tile.line.text.startswith("tile = nl.ndarray")
    assert argument.flags == ARGUMENT and argument.line is None
    assert [tensor.flags for tensor in tensors if tensor.flags & RETURNED] == [RETURNED]
    first_load = trace.uses[trace.use[: trace.access_end[0]]]
    assert [tensors[number].name for number in first_load[:, 0]] == ["tile", "x"]
