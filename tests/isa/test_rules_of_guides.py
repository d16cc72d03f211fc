"""Rules of AWS's guides that depend on the generation, the engine, or one argument's value."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from on_core import blank, core, tile

from rainshadow.errors import NkiValidationError
from rainshadow.isa.memory import Space
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl

HW, SW = nisa.dge_mode.hwdge, nisa.dge_mode.swdge
DOUBLE = nisa.matmul_perf_mode.double_row
GPSIMD, SCALAR, VECTOR = nisa.engine.gpsimd, nisa.engine.scalar, nisa.engine.vector


def sb(*shape: int, dtype: str = "float32"):
    return blank(*shape, dtype=dtype)


def ps(*shape: int, dtype: str = "float32"):
    return blank(*shape, dtype=dtype, space=Space.psum)


def hbm(*shape: int, dtype: str = "float32"):
    return blank(*shape, dtype=dtype, space=Space.shared_hbm)


def matmul(stationary: str, moving: str, dst: str = "float32", **options):
    pair = (2,) if options.get("perf_mode") else ()
    a, b = sb(16, *pair, 8, dtype=stationary), sb(16, *pair, 32, dtype=moving)
    nisa.nc_matmul(ps(8, 32, dtype=dst), a, b, **options)


def scale(op0, operand0, op1=None, operand1=None, dtype: str = "float32", **options):
    data = sb(4, 8, dtype=dtype)
    nisa.tensor_scalar(data, data, op0, operand0, op1=op1, operand1=operand1, **options)


def rows(tensor, dtype: str = "uint32"):
    return tensor.vector_select(0, sb(16, 1, dtype=dtype))


#: (chip, what is wrong, the call, what the message asks about, what it allows)
REFUSED: list[tuple[str, str, Callable[[], object], str, str]] = [
    ("trainium1", "hwdge before v3", lambda: nisa.dma_copy(sb(4, 8), hbm(4, 8), dge_mode=HW),
     "hwdge on AWS Trainium 1", "gen3, gen4"),
    ("trainium2", "an engine without hwdge",
     lambda: nisa.dma_copy(sb(4, 8), hbm(4, 8), engine=SCALAR), "engine scalar", "hwdge"),
    ("trainium2", "hwdge by vector",
     lambda: nisa.dma_copy(sb(4, 8), hbm(4, 8), engine=VECTOR, dge_mode=HW), "vector", "sync"),
    ("trainium2", "priority before v4", lambda: nisa.dma_copy(sb(4, 8), hbm(4, 8), priority=1),
     "priority", "gen4"),
    ("trainium3", "priority 4", lambda: nisa.dma_copy(sb(4, 8), hbm(4, 8), priority=4),
     "priority 4", "to 3"),
    ("trainium2", "rows by hwdge",
     lambda: nisa.dma_copy(sb(16, 8), rows(hbm(32, 8)), dge_mode=HW), "index tile", "swdge"),
    ("trainium2", "a held address without descriptors", lambda: nisa.dma_copy(
        sb(4, 8), hbm(3, 4, 8).select(0, tile(np.zeros((1, 1), np.int32))),
        dge_mode=nisa.dge_mode.none), "an address that a tensor holds", "swdge, hwdge"),
    ("trainium2", "transpose by swdge",
     lambda: nisa.dma_transpose(sb(8, 16), hbm(16, 8), dge_mode=SW), "swdge", "any other dge_mode"),
    ("trainium2", "transpose by hwdge of 4-byte elements",
     lambda: nisa.dma_transpose(sb(8, 16), hbm(16, 8), dge_mode=HW), "float32", "2-byte"),
    ("trainium2", "transpose by hwdge of 32 rows",
     lambda: nisa.dma_transpose(sb(8, 32, dtype="bfloat16"), hbm(32, 8, dtype="bfloat16"),
                                dge_mode=HW), r"\[32, 8\]", "16 rows"),
    ("trainium2", "skip of plain rows", lambda: nisa.dma_transpose(
        sb(8, 16), hbm(16, 8), oob_mode=nisa.oob_mode.skip), "skip True", "dynamic rows only"),
    ("trainium2", "scales too few",
     lambda: nisa.dma_compute(sb(4, 8), [sb(4, 8)] * 2, nl.add, scales=[1.0]), "1 scales", "one"),
    ("trainium2", "equal indices", lambda: nisa.dma_compute(
        sb(4, 8), [sb(4, 8)], nl.add, unique_indices=False), "unique_indices", "True"),
    ("trainium2", "scatter without the rows as source", lambda: nisa.dma_compute(
        rows(hbm(32, 8)), [sb(16, 8), sb(16, 8)], nl.add), "0 of 2", "on one of them"),
    ("trainium2", "a matmul of integers", lambda: matmul("int32", "int32"), "int32", "bfloat16"),
    ("trainium2", "float8_e4m3fn before v4", lambda: matmul("float8_e4m3fn", "bfloat16"),
     "float8_e4m3fn", "gen4"),
    ("trainium3", "both kinds of float8_e4m3", lambda: matmul("float8_e4m3fn", "float8_e4m3"),
     "float8_e4m3fn, moving float8_e4m3", "one kind"),
    ("trainium2", "a sum in bfloat16", lambda: matmul("bfloat16", "bfloat16", "bfloat16"),
     "dst is bfloat16", "float32"),
    ("trainium1", "double_row before v3",
     lambda: matmul("float8_e4m3", "float8_e4m3", perf_mode=DOUBLE), "perf_mode", "gen3, gen4"),
    ("trainium2", "double_row in column tiles", lambda: matmul(
        "float8_e4m3", "float8_e5m2", perf_mode=DOUBLE, tile_size=(128, 64),
        tile_position=(0, 0)), "double_row, tile_size", "whole columns"),
    ("trainium2", "power on VectorE", lambda: nisa.tensor_tensor(
        sb(4, 8), sb(4, 8), sb(4, 8), nl.power, VECTOR), "power on engine vector", "gpsimd"),
    ("trainium2", "power in PSUM",
     lambda: nisa.tensor_tensor(sb(4, 8), ps(4, 8), sb(4, 8), nl.power), "PSUM", "SBUF"),
    ("trainium2", "a unary operator of two tensors",
     lambda: nisa.tensor_tensor(sb(4, 8), sb(4, 8), sb(4, 8), nl.rsqrt), "rsqrt", "two operands"),
    ("trainium2", "a number beside a unary operator", lambda: scale(nl.abs, 2.0), "abs", "None or"),
    ("trainium2", "an integer column", lambda: scale(nl.add, sb(4, 1, dtype="int32")),
     "operand0 is int32", "float32"),
    ("trainium2", "operand1 alone", lambda: scale(nl.add, 1.0, None, 2.0), "operand1", "both"),
    ("trainium2", "bits on GpSimdE",
     lambda: scale(nl.bitwise_and, 1, dtype="int32", engine=GPSIMD), "gpsimd", "vector"),
    ("trainium2", "a sum on GpSimdE", lambda: scale(nl.add, 1.0, engine=GPSIMD), "gpsimd", "rsqrt"),
    ("trainium2", "a maximum on ScalarE", lambda: scale(nl.maximum, 1.0, engine=SCALAR),
     "scalar: op0 maximum", "multiply and add"),
    ("trainium2", "negated bits", lambda: nisa.tensor_reduce(
        sb(4, 1, dtype="int32"), nl.bitwise_or, sb(4, 8, dtype="int32"), 1, negate=True),
     "negate", "arithmetic"),
    ("trainium2", "a scan that resets only", lambda: nisa.tensor_scalar_cumulative(
        sb(4, 8), sb(4, 8), nl.add, nl.add, 0.0, reduce_cmd=nisa.reduce_cmd.reset),
     "reduce_cmd .*reset", "load_reduce"),
    ("trainium2", "packed ones",
     lambda: nisa.memset(sb(4, 8, dtype="float8_e5m2_x4"), 1), "value 1", "0"),
    ("trainium1", "a number as bias",
     lambda: nisa.activation(sb(4, 8), nl.exp, sb(4, 8), bias=1.0), "a number", r"\[P, 1\]"),
    ("trainium1", "a bias with reciprocal", lambda: nisa.activation(
        sb(4, 8), nl.reciprocal, sb(4, 8), bias=sb(4, 1)), "reciprocal", "none with"),
    ("trainium2", "a tfloat32 bias", lambda: nisa.activation(
        sb(4, 8), nl.exp, sb(4, 8), bias=sb(4, 1, dtype="tfloat32")), "tfloat32", "other"),
    ("trainium2", "max8 of 4 axes", lambda: nisa.max8(sb(4, 8), sb(4, 2, 2, 4)), "4 axes", "3"),
    ("trainium2", "indices of 3 axes", lambda: nisa.nc_find_index8(
        sb(4, 2, 4, dtype="uint32"), sb(4, 16), sb(4, 8)), "3 axes", "2"),
    ("trainium2", "more valid indices than there are", lambda: nisa.local_gather(
        sb(16, 33), sb(16, 64), sb(16, 2, dtype="uint16"), num_valid_indices=33),
     "num_valid_indices 33", "1 to 32"),
    ("trainium2", "an offset of 33 bits",
     lambda: nisa.iota(sb(4, 8), [[1, 8]], offset=2**31), "offset", "int32"),
    ("trainium2", "integers to select from", lambda: nisa.range_select(
        sb(4, 8), sb(4, 8, dtype="int32"), nl.greater, nl.less, sb(4, 1), sb(4, 1)),
     "on_true_tile is int32", "floats"),
    ("trainium2", "abs_max before v4", lambda: scale(nl.abs_max, 1.0), "abs_max", "gen4"),
    ("trainium2", "square in VectorE before v4", lambda: scale(nl.square, None), "square", "gen4"),
    ("trainium3", "a reduction by size", lambda: nisa.tensor_reduce(
        sb(4, 1), nl.abs_max, sb(4, 8), 1), "abs_max", "maximum"),
    ("trainium2", "a cosine by ScalarE", lambda: nisa.activation(sb(4, 8), nl.cos, sb(4, 8)),
     "cos", "sin"),
    ("trainium2", "a transpose into HBM", lambda: nisa.dma_transpose(hbm(8, 4), hbm(4, 8)),
     "dst is in shared_hbm", "sbuf"),
    ("trainium2", "a sum that skips plain rows", lambda: nisa.dma_compute(
        sb(4, 8), [sb(4, 8)], nl.add, oob_mode=nisa.oob_mode.skip), "skip", "oob_mode error"),
    ("trainium2", "a range that starts at 1.5", lambda: nisa.range_select(
        sb(4, 8), sb(4, 8), nl.greater, nl.less, sb(4, 1), sb(4, 1), range_start=1.5),
     "range_start 1.5", "an integer"),
    ("trainium2", "a register from PSUM", lambda: nisa.register_load(
        nisa.register_alloc(), ps(1, 1, dtype="int32")), "in psum", "sbuf or hbm"),
    ("trainium2", "a register into PSUM", lambda: nisa.register_store(
        ps(1, 1, dtype="int32"), nisa.register_alloc(1)), "in psum", "sbuf or hbm"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("chip", "call", "asked", "limit"),
    [(chip, *rest) for chip, _, *rest in REFUSED],
    ids=[f"{chip}-{wrong}" for chip, wrong, *_ in REFUSED],
)
def test_a_rule_of_the_guides_is_refused_with_its_limit(chip, call, asked, limit):
    with core(chip), pytest.raises(NkiValidationError) as caught:
        call()
    question, _, allowed = str(caught.value).partition("allowed: ")
    assert re.search(asked, question, re.DOTALL) and re.search(limit, allowed, re.DOTALL)


#: What one of the rules above allows, which stricter readings would not.
ALLOWED: list[tuple[str, Callable[[], object]]] = [
    ("trainium3", lambda: nisa.dma_copy(sb(4, 8), hbm(4, 8), priority=3)),
    ("trainium2", lambda: nisa.dma_copy(sb(4, 8), hbm(4, 8), dge_mode=HW, engine=SCALAR)),
    ("trainium2", lambda: nisa.dma_copy(sb(4, 8), hbm(4, 8), dge_mode=3)),
    ("trainium2", lambda: nisa.dma_transpose(
        sb(8, 16, dtype="bfloat16"), hbm(16, 8, dtype="bfloat16"), dge_mode=HW)),
    ("trainium2", lambda: matmul("float8_e4m3", "bfloat16")),
    ("trainium3", lambda: matmul("float8_e4m3fn", "bfloat16", "bfloat16")),
    ("trainium2", lambda: matmul("bfloat16", "bfloat16", "bfloat16", is_transpose=True)),
    ("trainium3", lambda: nisa.nc_matmul(ps(8, 4096), sb(16, 8), sb(16, 4096))),
    ("trainium2", lambda: scale(nl.abs, None, nl.multiply, 2.0)),
    ("trainium2", lambda: scale(nl.rsqrt, 0.0, engine=GPSIMD)),
    ("trainium3", lambda: scale(nl.maximum, 1.0, engine=SCALAR)),
    ("trainium1", lambda: nisa.activation(sb(4, 8), nl.exp, sb(4, 8), bias=sb(4, 1))),
]  # fmt: skip


@pytest.mark.parametrize(("chip", "call"), ALLOWED)
def test_what_the_guides_allow_is_accepted(chip, call):
    with core(chip, data="none") as recorder:
        call()
        assert recorder.instruction_count == 1
