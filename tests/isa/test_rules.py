"""What instructions refuse: one line per violation, and the limit that the message must name."""

from __future__ import annotations

import re
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from on_core import blank, core, tile

from rainshadow.errors import CapacityError, NkiValidationError
from rainshadow.isa.instruction import load_instructions
from rainshadow.isa.memory import Space
from rainshadow.nki import collectives as ncc
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl

GPSIMD, SCALAR, TENSOR = nisa.engine.gpsimd, nisa.engine.scalar, nisa.engine.tensor
VECTOR = nisa.engine.vector
LOAD = nisa.reduce_cmd.load_reduce


def sbuf(*shape: int, dtype: str = "float32"):
    return blank(*shape, dtype=dtype)


def psum(*shape: int, dtype: str = "float32"):
    return blank(*shape, dtype=dtype, space=Space.psum)


def hbm(*shape: int, dtype: str = "float32"):
    return blank(*shape, dtype=dtype, space=Space.shared_hbm)


def late(start: int, count: int):
    """A tile of `count` partitions that begins at partition `start`."""
    return sbuf(128, 4)[start : start + count]


def range_select(**changes):
    """range_select with everything right but what is given."""
    operands = {
        "dst": sbuf(4, 8), "on_true_tile": sbuf(4, 8), "comp_op0": nl.greater_equal,
        "comp_op1": nl.less, "bound0": sbuf(4, 1), "bound1": sbuf(4, 1),
    }  # fmt: skip
    nisa.range_select(**(operands | changes))


#: A group of the one rank that there is.
ALONE = ncc.ReplicaGroup([[0]])


def topk(partitions: int = 16, **changes):
    """topk with everything right but what is given."""
    bf16 = {"dtype": "bfloat16"}
    operands = {
        "val_dst": sbuf(partitions, 4, **bf16), "idx_dst": sbuf(partitions, 4, dtype="uint32"),
        "src": sbuf(partitions, 8, **bf16), "n": 64,
    }  # fmt: skip
    nisa.topk(**(operands | changes))


def matmul_mx(**changes):
    """nc_matmul_mx with everything right but what is given."""
    packed, scale = {"dtype": "float8_e4m3fn_x4"}, {"dtype": "uint8"}
    operands = {
        "dst": psum(8, 16), "stationary": sbuf(32, 8, **packed), "moving": sbuf(32, 16, **packed),
        "stationary_scale": sbuf(32, 8, **scale), "moving_scale": sbuf(32, 16, **scale),
    }  # fmt: skip
    nisa.nc_matmul_mx(**(operands | changes))


def quantize_mx(**changes):
    """quantize_mx with everything right but what is given."""
    operands = {
        "dst": sbuf(32, 4, dtype="float8_e5m2_x4"), "src": sbuf(32, 16, dtype="bfloat16"),
        "dst_scale": sbuf(32, 4, dtype="uint8"),
    }  # fmt: skip
    nisa.quantize_mx(**(operands | changes))


def activate2(op0=nl.multiply, op1=nl.add, **changes):
    """activate2 with everything right but what is given."""
    operands = {"dst": sbuf(4, 8), "op": nl.exp, "data": sbuf(4, 8), "imm0": 2.0, "imm1": 1.0}
    nisa.activate2(**(operands | {"op0": op0, "op1": op1} | changes))


#: (instruction, what is wrong with it, the call, what was asked, the limit)
VIOLATIONS: list[tuple[str, str, Callable[[], object], str, str]] = [
    # memory
    ("ndarray", "129 partitions", lambda: sbuf(129, 4), "129 partitions", "128 partitions"),
    ("ndarray", "129 in psum", lambda: psum(129, 4), "129 partitions", "128 partitions"),
    ("ndarray", "an empty axis", lambda: sbuf(4, 0), r"shape \(4, 0\)", "axes of 1 or more"),
    # copies
    ("tensor_copy", "hbm source", lambda: nisa.tensor_copy(sbuf(4, 8), hbm(4, 8)),
     "src is in shared_hbm", "sbuf or psum"),
    ("tensor_copy", "hbm target", lambda: nisa.tensor_copy(hbm(4, 8), sbuf(4, 8)),
     "dst is in shared_hbm", "sbuf or psum"),
    ("tensor_copy", "partitions", lambda: nisa.tensor_copy(sbuf(4, 8), sbuf(8, 8)),
     "dst has 4, src has 8", "same number of partitions"),
    ("tensor_copy", "elements", lambda: nisa.tensor_copy(sbuf(4, 8), sbuf(4, 9)),
     "dst has 8, src has 9", "same number of elements per partition"),
    ("tensor_copy", "engine", lambda: nisa.tensor_copy(sbuf(4, 8), sbuf(4, 8), TENSOR),
     "on engine tensor", "vector, gpsimd, scalar"),
    ("tensor_copy", "gpsimd psum", lambda: nisa.tensor_copy(sbuf(4, 8), psum(4, 8), GPSIMD),
     "src is in PSUM", "SBUF operands"),
    ("tensor_copy", "an array", lambda: nisa.tensor_copy(sbuf(4, 8), np.ones((4, 8))),
     "src is ndarray", "an NKI tensor"),
    ("tensor_copy", "start 16", lambda: nisa.tensor_copy(late(16, 8), late(0, 8)),
     "8 partitions from partition 16", "multiple of 32"),
    ("tensor_copy", "start 32 for 64", lambda: nisa.tensor_copy(late(32, 64), late(0, 64)),
     "64 partitions from partition 32", "multiple of 64"),
    ("tensor_copy", "start 32 for 96", lambda: nisa.tensor_copy(late(32, 96), late(0, 96)),
     "96 partitions from partition 32", "multiple of 128"),
    ("memset", "hbm", lambda: nisa.memset(hbm(4, 8), 0.0), "shared_hbm", "sbuf or psum"),
    ("memset", "engine", lambda: nisa.memset(sbuf(4, 8), 0.0, SCALAR), "scalar", "vector, gpsimd"),
    ("memset", "gpsimd psum", lambda: nisa.memset(psum(4, 8), 0.0, GPSIMD), "PSUM", "SBUF"),
    ("memset", "a tensor", lambda: nisa.memset(sbuf(4, 8), sbuf(4, 1)), "value is", "a number"),
    ("tensor_copy_predicated", "mask dtype",
     lambda: nisa.tensor_copy_predicated(sbuf(4, 8), sbuf(4, 8), sbuf(4, 8)),
     "predicate is float32", "uint8, uint16, uint32"),
    ("tensor_copy_predicated", "dtypes",
     lambda: nisa.tensor_copy_predicated(
         sbuf(4, 8), sbuf(4, 8, dtype="bfloat16"), sbuf(4, 8, dtype="uint8")),
     "src is bfloat16, dst float32", "equal dtypes"),
    # DMA
    ("dma_copy", "psum", lambda: nisa.dma_copy(hbm(4, 8), psum(4, 8)),
     "src is in psum", "sbuf or private_hbm or shared_hbm"),
    ("dma_copy", "elements", lambda: nisa.dma_copy(sbuf(4, 8), hbm(4, 9)),
     "32 elements.*36", "equal element counts"),
    ("dma_transpose", "psum", lambda: nisa.dma_transpose(psum(8, 4), sbuf(4, 8)),
     "dst is in psum", "sbuf"),
    ("dma_transpose", "index tile", lambda: nisa.dma_transpose(
        sbuf(16, 16, dtype="bfloat16"),
        hbm(32, 16, dtype="bfloat16").ap(
            [[16, 16], [1, 16]], vector_offset=sbuf(16, 1, dtype="int32"))),
     "an index tile of int32", "uint32"),
    ("dma_transpose", "shape", lambda: nisa.dma_transpose(sbuf(4, 8), hbm(4, 8)),
     r"dst is \(4, 8\)", r"dst of shape \(8, 4\)"),
    ("dma_transpose", "dtypes",
     lambda: nisa.dma_transpose(sbuf(8, 4, dtype="bfloat16"), hbm(4, 8)),
     "src is float32, dst bfloat16", "equal dtypes of 2 or 4 bytes"),
    ("dma_transpose", "one byte",
     lambda: nisa.dma_transpose(sbuf(8, 4, dtype="uint8"), hbm(4, 8, dtype="uint8")),
     "src is uint8", "2 or 4 bytes"),
    ("dma_transpose", "five axes",
     lambda: nisa.dma_transpose(sbuf(2, 2, 2, 2, 2), hbm(2, 2, 2, 2, 2)),
     "5 axes", "2, 3 or 4 axes"),
    ("dma_transpose", "other axes",
     lambda: nisa.dma_transpose(sbuf(2, 4, 3), hbm(2, 3, 4), axes=(0, 2, 1)),
     r"axes \(0, 2, 1\)", r"\(2, 1, 0\)"),
    ("dma_compute", "17 sources",
     lambda: nisa.dma_compute(sbuf(4, 8), [sbuf(4, 8)] * 17, nl.add), "17 sources", "1 to 16"),
    ("dma_compute", "elements",
     lambda: nisa.dma_compute(sbuf(4, 8), [sbuf(4, 9)], nl.add), "36 elements", "equal element"),
    ("dma_compute", "operator",
     lambda: nisa.dma_compute(sbuf(4, 8), [sbuf(4, 8)], nl.maximum), "reduce_op", "nl.add"),
    ("dma_compute", "scales",
     lambda: nisa.dma_compute(sbuf(4, 8), [sbuf(4, 8)], nl.add, scales=[2.0]), "scales", "1.0"),
    # TensorE
    ("nc_matmul", "stationary free 129",
     lambda: nisa.nc_matmul(psum(128, 8), sbuf(16, 129), sbuf(16, 8)),
     "stationary free size 129", "at most 128"),
    ("nc_matmul", "moving free 513",
     lambda: nisa.nc_matmul(psum(8, 513), sbuf(16, 8), sbuf(16, 513)),
     "moving free size 513", "at most 512"),
    ("nc_matmul", "contraction differs",
     lambda: nisa.nc_matmul(psum(8, 8), sbuf(16, 8), sbuf(32, 8)),
     "stationary has 16, moving has 32", "same number of partitions"),
    ("nc_matmul", "into sbuf", lambda: nisa.nc_matmul(sbuf(8, 8), sbuf(16, 8), sbuf(16, 8)),
     "dst is in sbuf", "psum"),
    ("nc_matmul", "from psum", lambda: nisa.nc_matmul(psum(8, 8), psum(16, 8), sbuf(16, 8)),
     "stationary is in psum", "sbuf"),
    ("nc_matmul", "from hbm", lambda: nisa.nc_matmul(psum(8, 8), sbuf(16, 8), hbm(16, 8)),
     "moving is in shared_hbm", "sbuf"),
    ("nc_matmul", "dst shape", lambda: nisa.nc_matmul(psum(8, 9), sbuf(16, 8), sbuf(16, 8)),
     r"dst is \(8, 9\)", r"dst of shape \(8, 8\)"),
    ("nc_matmul", "mixed dtypes",
     lambda: nisa.nc_matmul(psum(8, 8), sbuf(16, 8), sbuf(16, 8, dtype="bfloat16")),
     "stationary float32, moving bfloat16", "only with each other"),
    ("nc_matmul", "over a bank's edge",
     lambda: nisa.nc_matmul(psum(8, 1024)[:, 256:768], sbuf(16, 8), sbuf(16, 512)),
     r"bytes 1024\.\.3071", "one bank of 2048 bytes"),
    ("nc_transpose", "129 columns", lambda: nisa.nc_transpose(psum(128, 8), sbuf(8, 129)),
     r"data is \(8, 129\)", "at most 128 partitions and 128 elements"),
    ("nc_transpose", "33 on vector",
     lambda: nisa.nc_transpose(sbuf(33, 8), sbuf(8, 33), nisa.engine.vector),
     r"data is \(8, 33\)", "at most 32 partitions and 32 elements"),
    ("nc_transpose", "into sbuf", lambda: nisa.nc_transpose(sbuf(8, 4), sbuf(4, 8), TENSOR),
     "dst is in sbuf", "psum"),
    ("nc_transpose", "shape", lambda: nisa.nc_transpose(psum(4, 8), sbuf(4, 8)),
     r"dst is \(4, 8\)", r"dst of shape \(8, 4\)"),
    ("nc_transpose", "dtypes",
     lambda: nisa.nc_transpose(psum(8, 4), sbuf(4, 8, dtype="bfloat16")),
     "dst is float32, data bfloat16", "equal dtypes"),
    ("nc_transpose", "engine", lambda: nisa.nc_transpose(psum(8, 4), sbuf(4, 8), GPSIMD),
     "gpsimd", "tensor, vector"),
    # element by element
    ("tensor_tensor", "both in psum",
     lambda: nisa.tensor_tensor(sbuf(4, 8), psum(4, 8), psum(4, 8), nl.add),
     "data1 and data2 are all in PSUM", "at most one operand in PSUM"),
    ("tensor_tensor", "engine",
     lambda: nisa.tensor_tensor(sbuf(4, 8), sbuf(4, 8), sbuf(4, 8), nl.add, SCALAR),
     "on engine scalar", "vector, gpsimd"),
    ("tensor_tensor", "gpsimd psum",
     lambda: nisa.tensor_tensor(psum(4, 8), sbuf(4, 8), sbuf(4, 8), nl.add, GPSIMD),
     "dst is in PSUM", "SBUF operands"),
    ("tensor_tensor", "elements",
     lambda: nisa.tensor_tensor(sbuf(4, 8), sbuf(4, 8), sbuf(4, 1), nl.add),
     "data2 has 1", "same number of elements"),
    ("tensor_tensor", "no such operator",
     lambda: nisa.tensor_tensor(sbuf(4, 8), sbuf(4, 8), sbuf(4, 8), nl.gelu),
     "operator 'gelu'", "add.*subtract"),
    ("tensor_tensor", "bits of floats",
     lambda: nisa.tensor_tensor(sbuf(4, 8), sbuf(4, 8), sbuf(4, 8), nl.bitwise_and),
     "is float32, op bitwise_and", "integer dtypes"),
    ("tensor_scalar", "column of another height",
     lambda: nisa.tensor_scalar(sbuf(4, 8), sbuf(4, 8), nl.add, sbuf(8, 1)),
     r"operand0 has shape \(8, 1\)", r"a number or a tensor of shape \(4, 1\)"),
    ("tensor_scalar", "row as column",
     lambda: nisa.tensor_scalar(sbuf(4, 8), sbuf(4, 8), nl.add, sbuf(4, 8)),
     r"operand0 has shape \(4, 8\)", r"\(4, 1\)"),
    ("tensor_scalar", "no operand", lambda: nisa.tensor_scalar(sbuf(4, 8), sbuf(4, 8), nl.add, "2"),
     "operand0 is str", "a number"),
    ("tensor_scalar", "bits then floats",
     lambda: nisa.tensor_scalar(
         sbuf(4, 8, dtype="int32"), sbuf(4, 8, dtype="int32"), nl.bitwise_and, 1, False, nl.add, 1),
     "op0 bitwise_and and op1 add", "two bitvec operators, or none"),
    ("tensor_scalar", "bits of floats",
     lambda: nisa.tensor_scalar(sbuf(4, 8), sbuf(4, 8), nl.right_shift, 1),
     "is float32", "integer dtypes"),
    ("scalar_tensor_tensor", "both in psum",
     lambda: nisa.scalar_tensor_tensor(
         sbuf(4, 8), psum(4, 8), nl.add, 1.0, nl.add, psum(4, 8)),
     "all in PSUM", "at most one operand"),
    ("reciprocal", "elements", lambda: nisa.reciprocal(sbuf(4, 8), sbuf(4, 4)),
     "data has 4", "same number of elements"),
    # ScalarE
    ("activation", "no such function", lambda: nisa.activation(sbuf(4, 8), nl.add, sbuf(4, 8)),
     "activation function 'add'", "exp.*tanh"),
    ("activation", "bias as a row",
     lambda: nisa.activation(sbuf(4, 8), nl.exp, sbuf(4, 8), bias=sbuf(4, 8)),
     r"bias has shape \(4, 8\)", r"\(4, 1\)"),
    ("activation", "bf16 scale column",
     lambda: nisa.activation(sbuf(4, 8), nl.exp, sbuf(4, 8), scale=sbuf(4, 1, dtype="bfloat16")),
     "scale is bfloat16", "float32"),
    ("activation", "hbm", lambda: nisa.activation(sbuf(4, 8), nl.exp, hbm(4, 8)),
     "data is in shared_hbm", "sbuf or psum"),
    ("activation", "reduction other than a sum",
     lambda: nisa.activation_reduce(sbuf(4, 8), nl.exp, sbuf(4, 8), nl.maximum, sbuf(4, 1)),
     "reduce_op", "nl.add"),
    # reductions
    ("tensor_reduce", "partition axis",
     lambda: nisa.tensor_reduce(sbuf(1, 8), nl.add, sbuf(1, 8), axis=0),
     r"axis \(0,\)", "never axis 0"),
    ("tensor_reduce", "an axis in the middle",
     lambda: nisa.tensor_reduce(sbuf(4, 5), nl.add, sbuf(4, 3, 5), axis=1),
     r"axis \(1,\)", "the last free axes"),
    ("tensor_reduce", "dst elements",
     lambda: nisa.tensor_reduce(sbuf(4, 2), nl.add, sbuf(4, 3, 5), axis=2),
     "2 elements per partition", "3 for data"),
    ("tensor_reduce", "operator",
     lambda: nisa.tensor_reduce(sbuf(4, 1), nl.divide, sbuf(4, 8), axis=1),
     "op divide", "add.*maximum"),
    ("tensor_reduce", "bits of floats",
     lambda: nisa.tensor_reduce(sbuf(4, 1), nl.bitwise_or, sbuf(4, 8), axis=1),
     "is float32", "integer dtypes"),
    ("tensor_partition_reduce", "dst partitions",
     lambda: nisa.tensor_partition_reduce(sbuf(2, 8), nl.add, sbuf(4, 8)),
     "2 partitions", "1 partition"),
    ("tensor_partition_reduce", "psum",
     lambda: nisa.tensor_partition_reduce(sbuf(1, 8), nl.add, psum(4, 8)), "PSUM", "SBUF operands"),
    ("tensor_partition_reduce", "operator",
     lambda: nisa.tensor_partition_reduce(sbuf(1, 8), nl.minimum, sbuf(4, 8)),
     "op minimum", "add, average, maximum"),
    ("tensor_scalar_reduce", "operator",
     lambda: nisa.tensor_scalar_reduce(sbuf(4, 8), sbuf(4, 8), nl.add, 1.0, nl.subtract),
     "reduce_op subtract", "add, multiply, maximum, minimum"),
    ("tensor_scalar_reduce", "load without a value",
     lambda: nisa.tensor_scalar_reduce(
         sbuf(4, 8), sbuf(4, 8), nl.add, 1.0, nl.add, reduce_cmd=LOAD),
     "load_reduce", "reduce_init with load_reduce"),
    ("tensor_scalar_cumulative", "load without a value",
     lambda: nisa.tensor_scalar_cumulative(
         sbuf(4, 8), sbuf(4, 8), nl.add, nl.add, 0.0, reduce_cmd=LOAD),
     "load_reduce", "imm1 with load_reduce"),
    ("tensor_scalar_cumulative", "32-bit integers",
     lambda: nisa.tensor_scalar_cumulative(
         sbuf(4, 8, dtype="int32"), sbuf(4, 8), nl.add, nl.add, 0.0),
     "dst is int32", "8- or 16-bit integer"),
    ("bn_stats", "513 elements", lambda: nisa.bn_stats(sbuf(4, 6), sbuf(4, 513)),
     "513 elements", "up to 512"),
    ("bn_stats", "dst of 5", lambda: nisa.bn_stats(sbuf(4, 5), sbuf(4, 64)), "dst 5", "dst 6"),
    ("bn_aggr", "no triples", lambda: nisa.bn_aggr(sbuf(4, 2), sbuf(4, 7)),
     "7 elements", "multiple of 3"),
    ("tensor_tensor_scan", "both in psum",
     lambda: nisa.tensor_tensor_scan(sbuf(4, 8), psum(4, 8), psum(4, 8), 0.0, nl.add, nl.add),
     "all in PSUM", "at most one operand"),
    # positions and masks
    ("iota", "too few values", lambda: nisa.iota(sbuf(4, 8), [[1, 4]]),
     "generates 4 values", "8 values"),
    ("iota", "five axes", lambda: nisa.iota(sbuf(4, 8), [[1, 2], [1, 2], [1, 2], [1, 1], [1, 1]]),
     "pattern", "at most 4 axes"),
    ("iota", "psum", lambda: nisa.iota(psum(4, 8), [[1, 8]]), "dst is in psum", "sbuf"),
    ("affine_select", "psum",
     lambda: nisa.affine_select(sbuf(4, 8), [[1, 8]], 0, psum(4, 8), 0.0, nl.less),
     "on_true_tile is in psum", "sbuf"),
    ("affine_select", "no comparison",
     lambda: nisa.affine_select(sbuf(4, 8), [[1, 8]], 0, sbuf(4, 8), 0.0, nl.add),
     "cmp_op add", "greater_equal"),
    ("select_reduce", "mask dtype",
     lambda: nisa.select_reduce(sbuf(4, 8), sbuf(4, 8), sbuf(4, 8), 0.0),
     "predicate is float32", "int8, uint8, int16, uint16"),
    ("select_reduce", "32-bit integers",
     lambda: nisa.select_reduce(
         sbuf(4, 8), sbuf(4, 8, dtype="uint8"), sbuf(4, 8, dtype="int32"), 0.0),
     "on_true is int32", "any dtype but"),
    ("range_select", "bf16 bound", lambda: range_select(bound0=sbuf(4, 1, dtype="bfloat16")),
     "bound0 is bfloat16", "float32"),
    ("range_select", "no comparison", lambda: range_select(comp_op0=nl.not_equal),
     "comparison not_equal", "greater_equal"),
    ("range_select", "another filler", lambda: range_select(on_false_value=0.0),
     r"on_false_value 0\.0", "-3.40"),
    ("range_select", "large indices", lambda: range_select(range_start=2**24),
     "indices up to 16777224", "up to 16777216"),
    # the eight largest, gathers, shuffles
    ("max8", "seven elements", lambda: nisa.max8(sbuf(4, 8), sbuf(4, 7)),
     "src has 7 elements", "8 to 16384"),
    ("max8", "nine results", lambda: nisa.max8(sbuf(4, 9), sbuf(4, 16)), "dst has 9", "8"),
    ("nc_find_index8", "float positions",
     lambda: nisa.nc_find_index8(sbuf(4, 8), sbuf(4, 16), sbuf(4, 8)),
     "dst is float32", "uint16 or uint32"),
    ("nc_match_replace8", "nine values",
     lambda: nisa.nc_match_replace8(sbuf(4, 16), sbuf(4, 16), sbuf(4, 9), 0.0), "vals has 9", "8"),
    ("nc_match_replace8", "a tensor", lambda: nisa.nc_match_replace8(
        sbuf(4, 16), sbuf(4, 16), sbuf(4, 8), sbuf(4, 1)), "imm is", "a number"),
    ("nc_stream_shuffle", "31 entries",
     lambda: nisa.nc_stream_shuffle(sbuf(32, 4), sbuf(32, 4), [0] * 31), "shuffle_mask", "32 ent"),
    ("nc_stream_shuffle", "partition 32",
     lambda: nisa.nc_stream_shuffle(sbuf(32, 4), sbuf(32, 4), [32] * 32), "mask", r"\.31"),
    ("nc_stream_shuffle", "dtypes",
     lambda: nisa.nc_stream_shuffle(sbuf(32, 4), sbuf(32, 4, dtype="int32"), [0] * 32),
     "src int32", "one dtype"),
    ("nc_n_gather", "signed indices",
     lambda: nisa.nc_n_gather(sbuf(4, 8), sbuf(4, 16), sbuf(4, 8, dtype="int32")),
     "indices int32", "uint32"),
    ("local_gather", "8 partitions",
     lambda: nisa.local_gather(sbuf(8, 16), sbuf(8, 16), sbuf(8, 1, dtype="uint16")),
     "8 partitions", "multiple of 16"),
    ("local_gather", "runs of 3", lambda: nisa.local_gather(
        sbuf(16, 48), sbuf(16, 16), sbuf(16, 1, dtype="uint16"), 3), "of 3 elements", "4096"),
    ("nonzero_with_count", "no room for the count",
     lambda: nisa.nonzero_with_count(sbuf(4, 8, dtype="int32"), sbuf(4, 8)), "dst has 8", "9"),
    ("nonzero_with_count", "dtypes", lambda: nisa.nonzero_with_count(sbuf(4, 9), sbuf(4, 8)),
     "dst float32", "dst int32"),
    # random numbers
    ("rng", "floats", lambda: nisa.rng(sbuf(4, 8)), "dst is float32", "int8.*uint32"),
    ("rng", "engine", lambda: nisa.rng(sbuf(4, 8, dtype="int32"), SCALAR), "scalar", "vector"),
    ("dropout", "dtypes", lambda: nisa.dropout(sbuf(4, 8), sbuf(4, 8, dtype="bfloat16"), 0.5),
     "dst is float32", "bfloat16"),
    ("dropout", "probability", lambda: nisa.dropout(sbuf(4, 8), sbuf(4, 8), 1.5),
     r"prob 1\.5", "0 to 1"),
    ("dropout", "integer probabilities",
     lambda: nisa.dropout(sbuf(4, 8), sbuf(4, 8), sbuf(4, 1, dtype="int32")),
     "prob is int32", "any float"),
    ("set_rng_seed", "two seeds", lambda: nisa.set_rng_seed(sbuf(1, 2, dtype="uint32")),
     r"uint32\[1, 2\]", r"\[1, 1\]"),
    ("rand_set_state", "five words", lambda: nisa.rand_set_state(sbuf(4, 5, dtype="uint32")),
     "has 5", "6"),
    ("rand_set_state", "vector engine",
     lambda: nisa.rand_set_state(sbuf(4, 24, dtype="uint32"), VECTOR), "engine vector", "gpsimd"),
    ("rand_get_state", "floats", lambda: nisa.rand_get_state(sbuf(4, 6)), "float32", "uint32"),
    ("rand_get_state", "psum", lambda: nisa.rand_get_state(psum(4, 6, dtype="uint32")),
     "dst is in psum", "sbuf"),
    # GpSimdE's searches
    ("topk", "float32", lambda: topk(src=sbuf(16, 8)), "src is float32", "bfloat16"),
    ("topk", "8 partitions", lambda: topk(8), "8 partitions", "multiple of 16"),
    ("topk", "n beyond the elements", lambda: topk(n=129), "n 129", "8 to 128"),
    ("sequence_bounds", "two partitions",
     lambda: nisa.sequence_bounds(sbuf(2, 2, 8), sbuf(2, 8)), r"\(2, 8\)", "one partition"),
    ("sequence_bounds", "psum", lambda: nisa.sequence_bounds(sbuf(1, 2, 8), psum(1, 8)),
     "segment_ids is in psum", "sbuf"),
    ("sendrecv", "one core", lambda: nisa.sendrecv(sbuf(4, 8), sbuf(4, 8), 1, 1, 0),
     "sendrecv on one core", "two cores"),
    ("core_barrier", "one core", lambda: nisa.core_barrier(hbm(4, 8), (0, 1)),
     "core_barrier on one core", "two cores"),
    ("all_reduce", "shapes", lambda: ncc.all_reduce([hbm(4, 8)], [hbm(4, 4)], ALONE, nl.add),
     r"dsts\[0\] has shape \(4, 4\)", r"\(4, 8\)"),
    ("all_reduce", "operator", lambda: ncc.all_reduce([hbm(4, 8)], [hbm(4, 8)], ALONE, nl.multiply),
     "op multiply", "nl.add, nl.minimum, nl.maximum"),
    ("all_gather", "axis 1 in HBM", lambda: ncc.all_gather([hbm(4, 8)], [hbm(4, 8)], ALONE, 1),
     "collective_dim 1", "0"),
    ("all_gather", "SBUF and HBM", lambda: ncc.all_gather([sbuf(4, 8)], [hbm(4, 8)], ALONE, 0),
     "some tensors are in SBUF", "all in HBM or all in SBUF"),
    ("all_gather_v", "one core a rank", lambda: ncc.all_gather_v(
        [hbm(4, 8)], [hbm(4, 8)], ALONE, hbm(3, 1, dtype="uint32")), "LNC 1", "LNC 2"),
    ("reduce_scatter", "dtypes", lambda: ncc.reduce_scatter(
        [hbm(4, 8)], [hbm(4, 8, dtype="bfloat16")], ALONE, 0, nl.add),
     "float32, dst bfloat16", "one dtype"),
    ("all_to_all", "SBUF", lambda: ncc.all_to_all([sbuf(4, 8)], [sbuf(4, 8)], ALONE, 0),
     "in sbuf", "hbm"),
    ("all_to_all_v", "metadata", lambda: ncc.all_to_all_v(
        [hbm(4, 8)], [hbm(4, 8)], ALONE, hbm(3, 2, dtype="uint32")),
     r"metadata_tensor is uint32\[3, 2\]", r"uint32\[3, 1\]"),
    ("collective_permute", "two tensors", lambda: ncc.collective_permute(
        [hbm(4, 8)] * 2, [hbm(4, 8)] * 2, [(0, 0)]), "2 tensors", "1 at a time"),
    ("collective_permute_implicit", "PSUM", lambda: ncc.collective_permute_implicit(
        [[psum(4, 8)]], [[psum(4, 8)]], ALONE), "in psum", "hbm or shared_hbm or sbuf"),
    ("collective_permute_implicit_reduce", "a channel too few",
     lambda: ncc.collective_permute_implicit_reduce(
         [[hbm(4, 8)]] * 2, [[hbm(4, 8)]], [[hbm(4, 8)]] * 2, ALONE, nl.add, channel_ids=[0, 1]),
     "2 source tensors for 2 channels", "one tensor for each channel"),
]  # fmt: skip
#: The same for what NeuronCore-v4 has and earlier ones do not.
VIOLATIONS_V4: list[tuple[str, str, Callable[[], object], str, str]] = [
    ("activate2", "operators", lambda: activate2(nl.add, nl.multiply),
     "op0 add, op1 multiply", "multiply and add"),
    ("activate2", "imm0 as a row", lambda: activate2(imm0=sbuf(4, 8)),
     r"imm0 has shape \(4, 8\)", r"\(4, 1\)"),
    ("activate2", "hbm", lambda: activate2(data=hbm(4, 8)), "data is in shared_hbm", "sbuf or"),
    ("exponential", "bf16 maximum",
     lambda: nisa.exponential(sbuf(4, 8), sbuf(4, 8), max_value=sbuf(4, 1, dtype="bfloat16")),
     "max_value is bfloat16", "float32"),
    ("exponential", "a start without loading it",
     lambda: nisa.exponential(sbuf(4, 8), sbuf(4, 8), reduce_init=1.0),
     "reduce_init", "load_reduce"),
    ("rand2", "bounds", lambda: nisa.rand2(sbuf(4, 8), 1.0, 0.0), r"min 1\.0", "min below max"),
    ("rand2", "hbm", lambda: nisa.rand2(hbm(4, 8), 0.0, 1.0), "shared_hbm", "sbuf or psum"),
    ("quantize_mx", "float32", lambda: quantize_mx(src=sbuf(32, 16)), "float32", "bfloat16"),
    ("quantize_mx", "16 partitions",
     lambda: quantize_mx(dst=sbuf(16, 4, dtype="float8_e5m2_x4"),
                         src=sbuf(16, 16, dtype="bfloat16")), r"\(16, 16\)", "multiple of 32"),
    ("nc_matmul_mx", "bf16", lambda: matmul_mx(moving=sbuf(32, 16, dtype="bfloat16")),
     "moving is bfloat16", "float8_e4m3fn_x4"),
    ("nc_matmul_mx", "odd rows",
     lambda: matmul_mx(dst=psum(7, 16), stationary=sbuf(32, 7, dtype="float8_e4m3fn_x4"),
                       stationary_scale=sbuf(32, 7, dtype="uint8")), r"\(32, 7\)", "an even free"),
]  # fmt: skip
IDS = [f"{opcode}-{wrong}" for opcode, wrong, *_ in VIOLATIONS]
IDS_V4 = [f"{opcode}-{wrong}" for opcode, wrong, *_ in VIOLATIONS_V4]


def assert_refused(chip: str, call: Callable[[], object], asked: str, limit: str) -> None:
    with core(chip, data="none"), pytest.raises(NkiValidationError) as caught:
        call()
    question, _, allowed = str(caught.value).partition("allowed: ")
    assert re.search(asked, question, re.DOTALL)
    assert re.search(limit, allowed, re.DOTALL)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(("call", "asked", "limit"), [entry[2:] for entry in VIOLATIONS], ids=IDS)
def test_a_violation_names_what_was_asked_and_the_limit(call, asked, limit):
    assert_refused("trainium2", call, asked, limit)


@pytest.mark.parametrize(
    ("call", "asked", "limit"), [entry[2:] for entry in VIOLATIONS_V4], ids=IDS_V4
)
def test_what_only_v4_has_is_refused_on_trainium_2_and_has_rules_on_trainium_3(call, asked, limit):
    assert_refused("trainium2", call, r"Trainium 2 \(gen3\)", "gen4")
    assert_refused("trainium3", call, asked, limit)


def test_every_instruction_with_rules_of_its_own_is_in_the_table():
    listed = {opcode for opcode, *_ in VIOLATIONS + VIOLATIONS_V4} - {"ndarray"}
    assert listed == set(load_instructions())


@pytest.mark.parametrize("call", [topk, activate2, quantize_mx, matmul_mx])
def test_the_calls_that_violations_start_from_are_allowed(call):
    with core("trainium3", data="none") as recorder:
        call()
        assert recorder.instruction_count == 1


@pytest.mark.parametrize(
    ("space", "limit"), [(Space.sbuf, "212448"), (Space.psum, "16384")], ids=["sbuf", "psum"]
)
def test_a_tile_larger_than_its_memory_is_refused_with_the_capacity(space, limit):
    with core(data="none"), pytest.raises(CapacityError, match=rf"allowed: {limit} B"):
        blank(1, 60_000, space=space)


def test_trainium_1_has_no_range_select_and_no_copy_on_scalar():
    with core("trainium1", data="none"):
        with pytest.raises(NkiValidationError, match=r"Trainium 1 \(gen2\)\n.*gen3, gen4"):
            range_select()
        with pytest.raises(NkiValidationError, match="vector, gpsimd"):
            nisa.tensor_copy(sbuf(4, 8), sbuf(4, 8), SCALAR)
    with core("trainium2", data="none"):
        range_select()
        nisa.tensor_copy(sbuf(4, 8), sbuf(4, 8), SCALAR)


def test_the_largest_operands_allowed_are_accepted():
    with core(data="none") as recorder:
        nisa.nc_matmul(psum(128, 512), sbuf(128, 128), sbuf(128, 512))
        nisa.nc_matmul(psum(8, 1024)[:, 512:1024], sbuf(16, 8), sbuf(16, 512))
        nisa.nc_transpose(psum(128, 128), sbuf(128, 128))
        nisa.bn_stats(sbuf(128, 6), sbuf(128, 512))
        nisa.tensor_copy(late(96, 32), late(32, 32))
        nisa.tensor_copy(late(64, 64), late(0, 64))
        nisa.dma_compute(sbuf(4, 8), [sbuf(4, 8)] * 16, nl.add)
        assert recorder.instruction_count == 7


def test_rules_come_from_the_machine_that_the_kernel_runs_on():
    with core(data="none") as recorder:
        limits = recorder.core.tensor
    assert limits.moving_free_max.value == 512
    assert limits.stationary_free_max.value == 128


def test_an_instruction_outside_a_kernel_says_so():
    with core():
        a = tile(np.zeros((4, 4), np.float32))
    with pytest.raises(NkiValidationError, match="outside a kernel"):
        nisa.tensor_copy(a, a)


def test_a_tile_lies_where_the_kernel_puts_it_and_others_go_round_it():
    with core() as recorder:
        mine = nl.ndarray((32, 16), nl.float32, address=(64, 128))
        assert mine.box() == (64, 96, 128, 192)
        nisa.memset(mine, 1.0)
        other = sbuf(32, 128)
        nisa.memset(other, 2.0)
    trace = recorder.trace()
    assert sorted(trace.ranges[:, 3:5].tolist()) == [[128, 192], [192, 704]]
    assert trace.peak_bytes["sbuf"] == 64 + 512


def test_tiles_at_overlapping_addresses_share_their_bytes():
    with core():
        whole = nl.ndarray((128, 8), nl.float32, address=(0, 64))
        part = nl.ndarray((32, 2, 2), nl.float32, address=(32, 72))
        nisa.memset(whole, 1.0)
        nisa.memset(part[:, 1], 2.0)
        expected = np.ones((128, 8), np.float32)
        expected[32:64, 4:6] = 2.0
        assert (whole.array == expected).all() and (part.array[:, 0] == 1.0).all()


def test_an_address_is_free_for_others_while_no_tile_there_is_in_use():
    with core() as recorder:
        capacity = recorder.memories.sbuf.capacity_bytes
        early = nl.ndarray((128, capacity // 4), nl.float32, address=(0, 0))
        nisa.memset(early, 1.0)
        late = sbuf(128, capacity // 4)
        nisa.memset(late, 1.0)
    assert recorder.trace().peak_bytes["sbuf"] >= capacity
    with core() as recorder:
        early = nl.ndarray((128, capacity // 4), nl.float32, address=(0, 0))
        nisa.memset(early, 1.0)
        late = sbuf(128, 1)
        nisa.tensor_copy(late, early[:, :1])
        nisa.tensor_copy(early[:, :1], late)
        nisa.tensor_copy(late, early[:, :1])
    with pytest.raises(CapacityError, match="at addresses the kernel gives"):
        recorder.trace()


@pytest.mark.parametrize("address", [(100, 0), (0, 229_370), (-1, 0)])
def test_an_address_outside_the_memory_is_refused(address):
    with core(), pytest.raises(CapacityError, match=r"partitions 0\.\.127, bytes 0\.\.229375"):
        nl.ndarray((32, 16), nl.float32, address=address)


def test_double_row_matmul_contracts_pairs_of_fp8_elements():
    rng = np.random.default_rng(0)
    dtype = ml_dtypes.float8_e4m3
    left = rng.integers(-3, 4, (64, 2, 32)).astype(dtype)
    right = rng.integers(-3, 4, (64, 2, 48)).astype(dtype)
    with core():
        out = psum(32, 48)
        nisa.nc_matmul(out, tile(left), tile(right), perf_mode="double_row")
        expected = np.einsum("kpm,kpn->mn", left.astype(np.float32), right.astype(np.float32))
        np.testing.assert_array_equal(out.array, expected)
        with pytest.raises(NkiValidationError, match="float8_e4m3"):
            nisa.nc_matmul(out, sbuf(64, 2, 32), sbuf(64, 2, 48), perf_mode="double_row")
