"""Disassembly: operands by name, where they lie, with their gaps; filters; saved traces."""

from __future__ import annotations

import numpy as np
import pytest

from rainshadow.nki import isa as nisa
from rainshadow.nki import jit, record
from rainshadow.nki import language as nl
from rainshadow.report.disasm import disassemble, select
from rainshadow.sim.trace import Trace

X = np.arange(64 * 32, dtype=np.float32).reshape(64, 32)


@jit
def kernel(x, rows, where):
    tile = nl.ndarray((64, 32), dtype=x.dtype, buffer=nl.sbuf, name="tile")
    half = nl.ndarray((32, 16), dtype=nl.bfloat16, buffer=nl.sbuf)
    result = nl.ndarray((32, 16), dtype=nl.bfloat16, buffer=nl.shared_hbm, name="result")
    picks = nl.ndarray((64, 1), dtype=nl.int32, buffer=nl.sbuf, name="picks")
    start = nl.ndarray((1, 1), dtype=nl.int32, buffer=nl.sbuf, name="start")
    nisa.dma_copy(dst=picks, src=rows)
    nisa.dma_copy(dst=start, src=where)
    nisa.dma_copy(
        dst=tile, src=x.ap(pattern=[[32, 64], [1, 32]], vector_offset=picks, indirect_dim=0)
    )
    nisa.tensor_copy(dst=half, src=tile[32:64, 0:32:2])
    nisa.dma_copy(
        dst=half,
        src=x.ap(pattern=[[32, 32], [1, 16]], scalar_offset=start, indirect_dim=1),
    )
    nisa.dma_copy(dst=result, src=half)
    return result


@pytest.fixture(scope="module")
def trace():
    rows = np.arange(64, dtype=np.int32).reshape(64, 1)
    return record(kernel, (X, rows, np.full((1, 1), 3, np.int32))).trace


def listing(trace, **filters):
    return list(disassemble(trace, select(trace, **filters)))


def test_every_row_has_its_line_engine_and_named_operands(trace):
    lines = listing(trace)
    assert [line.index for line in lines] == list(range(trace.num_rows))
    copy = lines[3]
    assert (copy.engine, copy.opcode, copy.function) == ("vector", "tensor_copy", "kernel")
    assert copy.text.startswith("nisa.tensor_copy")
    dst, src = copy.operands
    assert (dst.name, dst.writes, dst.dtype, dst.shape) == ("dst", True, "bfloat16", (32, 16))
    assert (src.name, src.tensor, src.space, src.partitions) == ("src", "tile", "sbuf", (32, 64))
    assert src.pattern == (4, (8, 16)) and src.bytes[1] - src.bytes[0] == 4 + 15 * 8
    assert "src=tile:sbuf[p32:64 " in str(copy) and " 4B x16@8] float32[32x16]" in str(copy)


def test_index_tiles_and_offsets_are_told_from_operands(trace):
    gather, offset = listing(trace)[2], listing(trace)[4]
    assert [(item.name, item.tensor) for item in gather.operands] == [
        ("dst", "tile"), ("src", "x"), ("index", "picks"),
    ]  # fmt: skip
    assert not gather.operands[1].is_exact and "src=x:hbm[~" in str(gather)
    assert [(item.name, item.tensor) for item in offset.operands][1:] == [
        ("src", "x"), ("index", "start"),
    ]  # fmt: skip


def test_filters(trace):
    assert [line.opcode for line in listing(trace, engine="vector")] == ["tensor_copy"]
    assert len(listing(trace, opcode="dma_copy")) == trace.num_rows - 1
    assert [line.index for line in listing(trace, first=2, last=4)] == [2, 3]
    place = trace.lines[trace.line[3]].source.line
    assert [line.index for line in listing(trace, line=place)] == [3]
    assert listing(trace, function="other") == []


def test_a_saved_trace_reads_the_same(trace, tmp_path):
    trace.save(tmp_path / "saved.npz")
    loaded = Trace.load(tmp_path / "saved.npz")
    assert [str(line) for line in listing(loaded)] == [str(line) for line in listing(trace)]
