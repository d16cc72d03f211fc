"""Legal random calls of every instruction of one core: a recipe for each, by its opcode.

A call is made of two streams of random numbers: what it computes on (shapes, dtypes, values,
options) and where its operands lie (windows, strides, axes, quadrants, PSUM). With `plain` the
second is not used, so that the same call can be made on contiguous tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from random_operands import BINARY, BINARY_BITVEC, COMPARE, FLOATS, FP8, INTEGERS, RUNNING, Operands

from rainshadow.isa import mx
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.engine import Engine
from rainshadow.isa.memory import Space
from rainshadow.isa.operators import ACTIVATION_FUNCTIONS
from rainshadow.nki import language as nl
from rainshadow.nki.constants import matmul_perf_mode, reduce_cmd

#: Only NeuronCore-v4 has them.
GEN4 = {"activate2", "exponential", "nc_matmul_mx", "quantize_mx", "rand2"}

Call = dict[str, Any]

RECIPES: dict[str, Callable[[Operands], Call]] = {}


def recipe(make: Callable[[Operands], Call]) -> Callable[[Operands], Call]:
    """Register the recipe of an opcode."""
    RECIPES[make.__name__] = make
    return make


def _engine(o: Operands, *engines: Engine) -> Engine:
    return o.pick((Engine.unknown, *engines))


# -- one element after the other -----------------------------------------------------------------


@recipe
def tensor_copy(o: Operands) -> Call:
    rows, free = o.sized()
    engine = _engine(o, Engine.vector, Engine.scalar, Engine.gpsimd)
    psum = engine is not Engine.gpsimd
    kinds = (*FLOATS, *FP8, *INTEGERS)
    return {
        "dst": o.out(rows, *free, dtype=o.pick(kinds), psum=psum),
        "src": o.tile(rows, *free, dtype=o.pick(kinds), psum=psum),
        "engine": engine,
    }


@recipe
def memset(o: Operands) -> Call:
    rows, free = o.sized()
    engine = _engine(o, Engine.vector, Engine.gpsimd)
    dst = o.out(rows, *free, dtype=o.pick((*FLOATS, *INTEGERS)), psum=engine is not Engine.gpsimd)
    return {"dst": dst, "value": o.pick((0, 1, 3)), "engine": engine}


@recipe
def tensor_tensor(o: Operands) -> Call:
    rows, free = o.sized()
    if o.chance(0.2):
        kind = o.pick(INTEGERS)
        dst, a, b = (make(rows, *free, dtype=kind, low=0) for make in (o.out, o.tile, o.tile))
        return {"dst": dst, "data1": a, "data2": b, "op": o.pick(BINARY_BITVEC)}
    op = o.pick(BINARY)
    engine = _engine(o, Engine.gpsimd, *(() if op == "power" else (Engine.vector,)))
    psum = engine is Engine.vector or (engine is Engine.unknown and op != "power")
    return {
        "dst": o.out(rows, *free, dtype=o.pick((*FLOATS, "int32")), psum=psum),
        "data1": o.tile(rows, *free, dtype=o.pick((*FLOATS, "int32")), psum=psum),
        "data2": o.tile(rows, *free, dtype=o.pick(FLOATS), low=0.25),
        "op": op,
        "engine": engine,
    }


@recipe
def tensor_scalar(o: Operands) -> Call:
    rows, free = o.sized()
    op, operand = o.step(rows)
    call: Call = {
        "dst": o.out(rows, *free, dtype=o.pick((*FLOATS, *FP8, "int32")), psum=True),
        "data": o.tile(rows, *free, dtype=o.pick(FLOATS), low=0.25, psum=True),
        "op0": op,
        "operand0": operand,
        "reverse0": o.chance(),
    }
    if o.chance():
        op, operand = o.step(rows)
        call |= {"op1": op, "operand1": operand, "reverse1": o.chance()}
    return call


@recipe
def scalar_tensor_tensor(o: Operands) -> Call:
    rows, free = o.sized()
    op, operand = o.step(rows)
    return {
        "dst": o.out(rows, *free, dtype=o.pick((*FLOATS, "int16")), psum=True),
        "data": o.tile(rows, *free, dtype=o.pick(FLOATS), low=0.25, psum=True),
        "op0": op,
        "operand0": operand,
        "op1": o.pick(BINARY),
        "operand1": o.tile(rows, *free, dtype=o.pick(FLOATS), low=0.25),
        "reverse0": o.chance(),
        "reverse1": o.chance(),
    }


@recipe
def reciprocal(o: Operands) -> Call:
    rows, free = o.sized()
    dst = o.out(rows, *free, dtype=o.pick(FLOATS), psum=True)
    return {"dst": dst, "data": o.tile(rows, *free, dtype=o.pick(FLOATS), low=0.25, psum=True)}


@recipe
def activation(o: Operands) -> Call:
    rows, free = o.sized()
    call: Call = {
        "dst": o.out(rows, *free, dtype=o.pick((*FLOATS, *FP8)), psum=True),
        "op": o.pick(tuple(ACTIVATION_FUNCTIONS)),
        "data": o.tile(rows, *free, dtype=o.pick((*FLOATS, "int32")), low=0.25, psum=True),
        "scale": o.scalar(rows),
    }
    if o.chance():
        call["bias"] = o.column(rows, dtype=o.pick(FLOATS), low=0.0)
    if o.chance(0.4):
        call |= {"reduce_op": nl.add, "reduce_res": o.out(rows, 1, quadrant=False)}
        call["reduce_cmd"] = reduce_cmd.reset_reduce
    return call


@recipe
def activate2(o: Operands) -> Call:
    rows, free = o.sized()
    op0, op1 = o.pick((("multiply", "add"), ("multiply", "subtract"), ("subtract", "bypass")))
    call: Call = {
        "dst": o.out(rows, *free, dtype=o.pick(FLOATS), psum=True),
        "op": o.pick(tuple(ACTIVATION_FUNCTIONS)),
        "data": o.tile(rows, *free, dtype=o.pick(FLOATS), low=0.25),
        "imm0": o.scalar(rows),
        "imm1": o.scalar(rows),
        "op0": op0,
        "op1": op1,
        "reverse0": o.chance(),
        "reverse1": op1 != "bypass" and o.chance(),
    }
    if o.chance(0.4):
        call |= {"reduce_op": nl.add, "reduce_res": o.out(rows, 1, quadrant=False)}
        call["reduce_cmd"] = reduce_cmd.reset_reduce
    return call


@recipe
def exponential(o: Operands) -> Call:
    rows, free = o.sized()
    call: Call = {
        "dst": o.out(rows, *free, dtype=o.pick((*FLOATS, *FP8)), psum=True),
        "src": o.tile(rows, *free, dtype=o.pick((*FLOATS, "int8")), psum=True),
        "max_value": o.scalar(rows),
    }
    if o.chance(0.4):
        call |= {"reduce_res": o.out(rows, 1, quadrant=False)}
        call["reduce_cmd"] = o.pick((reduce_cmd.reset_reduce, reduce_cmd.load_reduce))
        if call["reduce_cmd"] is reduce_cmd.load_reduce:
            call["reduce_init"] = o.scalar(rows)
    return call


# -- chosen elements -----------------------------------------------------------------------------


def _pattern(o: Operands, free: tuple[int, ...]) -> list[list[int]]:
    return [[o.upto(3, -3), count] for count in free]


@recipe
def iota(o: Operands) -> Call:
    rows, free = o.sized()
    return {
        "dst": o.out(rows, *free, dtype=o.pick(("int32", "float32", "int16"))),
        "pattern": _pattern(o, free),
        "offset": o.upto(9, -9),
        "channel_multiplier": o.upto(3, -3),
    }


@recipe
def affine_select(o: Operands) -> Call:
    rows, free = o.sized()
    return {
        "dst": o.out(rows, *free, dtype=o.pick(FLOATS)),
        "pattern": _pattern(o, free),
        "channel_multiplier": o.upto(3, -3),
        "on_true_tile": o.tile(rows, *free, dtype=o.pick(FLOATS)),
        "on_false_value": o.number(),
        "cmp_op": o.pick(COMPARE),
        "offset": o.upto(9, -9),
    }


@recipe
def range_select(o: Operands) -> Call:
    rows, width = o.rows(), o.upto(64)
    compare = ("equal", "less", "less_equal", "greater", "greater_equal")
    call: Call = {
        "dst": o.out(rows, width, dtype=o.pick(FLOATS)),
        "on_true_tile": o.tile(rows, width, dtype=o.pick(FLOATS)),
        "comp_op0": o.pick(compare),
        "comp_op1": o.pick(compare),
        "bound0": o.column(rows, low=0, high=width),
        "bound1": o.column(rows, low=0, high=width),
        "range_start": o.upto(9, 0),
    }
    if o.chance():
        call["reduce_res"] = o.out(rows, 1, quadrant=False)
    return call


@recipe
def tensor_copy_predicated(o: Operands) -> Call:
    rows, free = o.sized()
    kind = o.pick(FLOATS)
    src = o.number() if o.chance() else o.tile(rows, *free, dtype=kind, psum=True)
    return {
        "dst": o.out(rows, *free, dtype=kind, psum=True),
        "src": src,
        "predicate": o.tile(rows, *free, dtype=o.pick(("uint8", "uint16", "uint32")), high=1),
        "reverse_pred": o.chance(),
    }


@recipe
def select_reduce(o: Operands) -> Call:
    rows, free = o.sized()
    call: Call = {
        "dst": o.out(rows, *free, dtype=o.pick(FLOATS), psum=True),
        "predicate": o.tile(
            rows, *free, dtype=o.pick(("uint8", "int8", "uint16", "int16")), high=1
        ),
        "on_true": o.tile(rows, *free, dtype=o.pick(FLOATS)),
        "on_false": o.scalar(rows),
        "reverse_pred": o.chance(),
    }
    if o.chance():
        call |= {"reduce_res": o.out(rows, 1, quadrant=False)}
        call["reduce_cmd"] = reduce_cmd.reset_reduce
    return call


@recipe
def max8(o: Operands) -> Call:
    rows, width = o.rows(), o.upto(64, 8)
    src = o.tile(rows, width, dtype=o.pick(FLOATS), psum=True)
    return {"dst": o.out(rows, 8, dtype=o.pick(FLOATS)), "src": src}


def _some_of(o: Operands, data: AccessPattern) -> Any:
    """[rows, 8]: elements of each row, some twice."""
    picks = o.rng.integers(0, data.shape[1], (data.shape[0], 8))
    return np.take_along_axis(data.array.astype(np.float32), picks, axis=1)


@recipe
def nc_find_index8(o: Operands) -> Call:
    rows, width = o.rows(), o.upto(64, 8)
    data = o.tile(rows, width, dtype=o.pick(FLOATS), psum=True)
    vals = o.tile(rows, 8, given=_some_of(o, data))
    return {"dst": o.out(rows, 8, dtype=o.pick(("uint16", "uint32"))), "data": data, "vals": vals}


@recipe
def nc_match_replace8(o: Operands) -> Call:
    rows, width = o.rows(), o.upto(64, 8)
    data = o.tile(rows, width, dtype=o.pick(FLOATS), psum=True)
    call: Call = {
        "dst": o.out(rows, width, dtype=o.pick(FLOATS)),
        "data": data,
        "vals": o.tile(rows, 8, given=_some_of(o, data)),
        "imm": o.number(),
    }
    if o.chance():
        call["dst_idx"] = o.out(rows, 8, dtype="uint16")
    return call


@recipe
def nc_n_gather(o: Operands) -> Call:
    (rows, free), width, kind = o.sized(), o.upto(64), o.pick((*FLOATS, "int32"))
    return {
        "dst": o.out(rows, *free, dtype=kind),
        "data": o.tile(rows, width, dtype=kind),
        "indices": o.tile(rows, *free, dtype="uint32", high=width - 1),
    }


@recipe
def local_gather(o: Operands) -> Call:
    rows, width, kind = o.pick((16, 32, 128)), o.upto(64, 32), o.pick((*FLOATS, "int32"))
    run, valid = o.pick((1, 2, 8)), o.pick((None, 5, 16))
    columns = o.upto(4)
    count = valid or columns * 16
    return {
        "dst": o.out(rows, count * run, dtype=kind),
        "src_buffer": o.tile(rows, width, dtype=kind),
        "index": o.tile(rows, columns, dtype="uint16", high=width - run),
        "num_elem_per_idx": run,
        "num_valid_indices": valid,
    }


@recipe
def nonzero_with_count(o: Operands) -> Call:
    rows, width = o.rows(), o.upto(64)
    return {
        "dst": o.out(rows, width + 1, dtype="int32"),
        "src": o.tile(rows, width, dtype="int32", high=1),
        "index_offset": o.upto(9, 0),
    }


@recipe
def topk(o: Operands) -> Call:
    rows, width = o.pick((16, 32, 128)), o.upto(64, 4)
    count = o.upto(min(width * 16, 200), 42)
    k = o.upto(8)
    return {
        "val_dst": o.out(rows, k, dtype="bfloat16"),
        "idx_dst": o.out(rows, k, dtype="uint32"),
        "src": o.tile(rows, width, dtype="bfloat16"),
        "n": count,
    }


@recipe
def sequence_bounds(o: Operands) -> Call:
    width = o.upto(64)
    ids = np.sort(o.rng.integers(0, 5, width))
    return {
        "dst": o.out(1, 2, width, dtype=o.pick(("float32", "int32"))),
        "segment_ids": o.tile(1, width, dtype=o.pick(("float32", "int32")), given=ids),
    }


# -- reductions ----------------------------------------------------------------------------------


@recipe
def tensor_reduce(o: Operands) -> Call:
    rows, free = o.rows(), (o.upto(5), o.upto(40))
    axes = o.pick(((2,), (1, 2)))
    kept = (free[0],) if axes == (2,) else (1,)
    return {
        "dst": o.out(rows, *kept, dtype=o.pick(FLOATS), psum=True),
        "op": o.pick(RUNNING),
        "data": o.tile(rows, *free, dtype=o.pick((*FLOATS, "int32")), low=0.5, psum=True),
        "axis": axes,
        "negate": o.chance(),
    }


@recipe
def tensor_partition_reduce(o: Operands) -> Call:
    rows, free = o.sized()
    return {
        "dst": o.out(1, *free, dtype=o.pick(FLOATS)),
        "op": o.pick(("add", "average", "maximum")),
        "data": o.tile(rows, *free, dtype=o.pick(FLOATS), low=0.5),
    }


@recipe
def tensor_scalar_reduce(o: Operands) -> Call:
    rows, free = o.sized()
    call: Call = {
        "dst": o.out(rows, *free, dtype=o.pick(FLOATS), psum=True),
        "data": o.tile(rows, *free, dtype=o.pick(FLOATS), low=0.25, psum=True),
        "op0": o.pick(("add", "multiply", "maximum", "subtract")),
        "operand0": o.scalar(rows),
        "reduce_op": o.pick(("add", "maximum", "minimum")),
        "reverse0": o.chance(),
        "reduce_res_negate": o.chance(),
    }
    if o.chance(0.3):
        call |= {"reduce_cmd": reduce_cmd.load_reduce, "reduce_init": o.column(rows)}
    if o.chance(0.8):
        call["reduce_res"] = o.out(rows, 1, quadrant=False)
    return call


@recipe
def tensor_scalar_cumulative(o: Operands) -> Call:
    rows, width = o.rows(), o.upto(40)
    call: Call = {
        "dst": o.out(rows, width, dtype=o.pick(FLOATS), psum=True),
        "src": o.tile(rows, width, dtype=o.pick((*FLOATS, "int8")), low=0.25, psum=True),
        "op0": o.pick(("add", "multiply", "maximum", "subtract")),
        "op1": o.pick(("add", "maximum", "minimum")),
        "imm0": o.scalar(rows),
    }
    if o.chance(0.3):
        call |= {"reduce_cmd": reduce_cmd.load_reduce, "imm1": o.scalar(rows)}
    return call


@recipe
def tensor_tensor_scan(o: Operands) -> Call:
    rows, width = o.rows(), o.upto(40)
    return {
        "dst": o.out(rows, width, dtype=o.pick(FLOATS), psum=True),
        "data0": o.tile(rows, width, dtype=o.pick(FLOATS), low=0.1, high=1.0, psum=True),
        "data1": o.tile(rows, width, dtype=o.pick(FLOATS)),
        "initial": o.scalar(rows),
        "op0": o.pick(("add", "multiply", "maximum")),
        "op1": o.pick(("add", "subtract", "minimum")),
        "reverse0": o.chance(),
        "reverse1": o.chance(),
    }


@recipe
def bn_stats(o: Operands) -> Call:
    rows, free = o.sized()
    return {"dst": o.out(rows, 6), "data": o.tile(rows, *free, dtype=o.pick(FLOATS), psum=True)}


@recipe
def bn_aggr(o: Operands) -> Call:
    rows, groups = o.rows(), o.upto(5)
    data = o.values((rows, groups, 3), "float32", 0.5, 9.0)
    return {"dst": o.out(rows, 2), "data": o.tile(rows, 3 * groups, given=data)}


# -- matrices ------------------------------------------------------------------------------------


@recipe
def nc_matmul(o: Operands) -> Call:
    contracted, rows, columns = o.rows(), o.upto(128), o.upto(64)
    kind = o.pick(("float32", "bfloat16", "float16", "float8_e4m3"))
    paired = kind == "float8_e4m3" and o.chance()
    inner = (2,) if paired else ()
    call: Call = {
        "stationary": o.tile(contracted, *inner, rows, dtype=kind, quadrant=False),
        "moving": o.tile(contracted, *inner, columns, dtype=kind, quadrant=False),
        "accumulate": o.pick((None, False)),
    }
    dst = nl.ndarray((rows, columns), "float32", Space.psum)
    o.written.append(dst)
    if paired:
        call["perf_mode"] = matmul_perf_mode.double_row
    return {"dst": dst, **call}


@recipe
def nc_transpose(o: Operands) -> Call:
    kind = o.pick(FLOATS)
    if o.chance():
        rows, columns, dst_space = o.upto(128), o.upto(128), Space.psum
    else:
        rows, columns, dst_space = o.upto(32), o.upto(32), Space.sbuf
    dst = nl.ndarray((columns, rows), kind, dst_space)
    o.written.append(dst)
    return {"dst": dst, "data": o.tile(rows, columns, dtype=kind)}


@recipe
def nc_stream_shuffle(o: Operands) -> Call:
    rows, free = o.pick((32, 64, 128)), o.sized()[1]
    kind = o.pick((*FLOATS, "int16"))
    mask = [int(entry) for entry in o.rng.permutation(32)]
    if o.chance():
        mask[o.upto(31, 0)] = 255
    return {
        "dst": o.out(rows, *free, dtype=kind, psum=True),
        "src": o.tile(rows, *free, dtype=kind, psum=True),
        "shuffle_mask": mask,
    }


def _scales(o: Operands, rows: int, words: int) -> Any:
    return o.tile(rows, words, dtype="uint8", low=124, high=130)


@recipe
def nc_matmul_mx(o: Operands) -> Call:
    contracted, rows, columns = o.pick((32, 64, 128)), 2 * o.upto(64), o.upto(64)
    call: Call = {}
    for name, width in (("stationary", rows), ("moving", columns)):
        kind = o.pick(("float8_e4m3fn_x4", "float8_e5m2_x4", "float4_e2m1fn_x4"))
        words = mx.pack(o.values((contracted, 4 * width), "float32", -3, 3), kind)
        tensor = nl.ndarray((contracted, width), kind, Space.sbuf)
        tensor.array[...] = words.view(tensor.array.dtype).reshape(tensor.shape)
        call |= {name: tensor, f"{name}_scale": _scales(o, contracted, width)}
    dst = nl.ndarray((rows, columns), o.pick(("float32", "bfloat16")), Space.psum)
    o.written.append(dst)
    return {"dst": dst, **call, "accumulate": o.pick((None, False))}


@recipe
def quantize_mx(o: Operands) -> Call:
    rows, words = o.pick((32, 64, 128)), o.upto(16)
    dst = nl.ndarray((rows, words), o.pick(("float8_e5m2_x4", "float8_e4m3fn_x4")), Space.sbuf)
    scale = nl.ndarray((rows, words), "uint8", Space.sbuf)
    for view in (dst, scale):
        view.view("uint8").array[...] = 0
    o.written += [dst, scale]
    src = o.tile(rows, 4 * words, dtype=o.pick(("bfloat16", "float16")), quadrant=False)
    return {"dst": dst, "src": src, "dst_scale": scale}


# -- DMA -----------------------------------------------------------------------------------------


@recipe
def dma_copy(o: Operands) -> Call:
    rows, free = o.sized()
    kinds = (*FLOATS, "int32")
    dst = o.out(rows, *free, dtype=o.pick(kinds), on_chip=o.chance())
    if o.chance(0.3) and len(free) == 1:
        table = o.tile(o.upto(64), *free, dtype=o.pick(kinds), on_chip=False)
        picks = o.tile(rows, 1, dtype="int32", high=table.shape[0] - 1)
        return {"dst": dst, "src": table.vector_select(0, picks)}
    return {"dst": dst, "src": o.tile(rows, *free, dtype=o.pick(kinds), on_chip=o.chance())}


@recipe
def dma_transpose(o: Operands) -> Call:
    rows, columns, kind = o.upto(128), o.upto(128), o.pick(FLOATS)
    src = o.tile(rows, columns, dtype=kind, on_chip=o.chance())
    return {"dst": o.out(columns, rows, dtype=kind), "src": src}


@recipe
def dma_compute(o: Operands) -> Call:
    rows, free = o.sized()
    srcs = [o.tile(rows, *free, dtype=o.pick(FLOATS), on_chip=o.chance()) for _ in range(o.upto(3))]
    return {"dst": o.out(rows, *free, dtype=o.pick(FLOATS)), "srcs": srcs, "reduce_op": nl.add}


# -- random numbers ------------------------------------------------------------------------------


@recipe
def rng(o: Operands) -> Call:
    rows, free = o.sized()
    return {"dst": o.out(rows, *free, dtype=o.pick(INTEGERS))}


@recipe
def rand2(o: Operands) -> Call:
    rows, free = o.sized()
    low, high = (-1.0, 2.0) if o.chance() else (o.column(rows, low=-2, high=0), 1.5)
    return {"dst": o.out(rows, *free, dtype=o.pick(FLOATS)), "min": low, "max": high}


@recipe
def dropout(o: Operands) -> Call:
    (rows, free), kind = o.sized(), o.pick(FLOATS)
    prob = o.pick((0.0, 0.3, 1.0)) if o.chance() else o.column(rows, low=0, high=1)
    dst = o.out(rows, *free, dtype=kind, psum=True)
    return {"dst": dst, "data": o.tile(rows, *free, dtype=kind), "prob": prob}


@recipe
def set_rng_seed(o: Operands) -> Call:
    return {"src_seeds": o.tile(1, 1, dtype="uint32", low=0, high=10**9)}


@recipe
def rand_set_state(o: Operands) -> Call:
    return {"src_seeds": o.tile(o.rows(), 6, dtype="uint32", low=1, high=10**9, quadrant=False)}


@recipe
def rand_get_state(o: Operands) -> Call:
    return {"dst": o.out(o.rows(), 6, dtype="uint32", quadrant=False)}
