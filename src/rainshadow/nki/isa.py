"""The `nki.isa` names: AWS's signatures; every body is one call into the recorder.

What an instruction may do, means and costs is in `rainshadow.isa.instructions`.
"""

from __future__ import annotations

from typing import Any

from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern as NkiTensor
from rainshadow.isa.engine import Engine as engine
from rainshadow.isa.instruction import Instruction
from rainshadow.isa.instructions.activation import Activation
from rainshadow.isa.instructions.affine_select import AffineSelect
from rainshadow.isa.instructions.bn_aggr import BnAggr
from rainshadow.isa.instructions.bn_stats import BnStats
from rainshadow.isa.instructions.core_barrier import CoreBarrier
from rainshadow.isa.instructions.dma_compute import DmaCompute
from rainshadow.isa.instructions.dma_copy import DmaCopy
from rainshadow.isa.instructions.dma_transpose import PERMUTATIONS, DmaTranspose
from rainshadow.isa.instructions.iota import Iota
from rainshadow.isa.instructions.local_gather import LocalGather
from rainshadow.isa.instructions.max8 import Max8
from rainshadow.isa.instructions.memset import Memset
from rainshadow.isa.instructions.nc_find_index8 import NcFindIndex8
from rainshadow.isa.instructions.nc_match_replace8 import NcMatchReplace8
from rainshadow.isa.instructions.nc_matmul import NcMatmul
from rainshadow.isa.instructions.nc_n_gather import NcNGather
from rainshadow.isa.instructions.nc_stream_shuffle import NcStreamShuffle
from rainshadow.isa.instructions.nc_transpose import NcTranspose
from rainshadow.isa.instructions.nonzero_with_count import NonzeroWithCount
from rainshadow.isa.instructions.range_select import FP32_MIN, RangeSelect
from rainshadow.isa.instructions.reciprocal import Reciprocal
from rainshadow.isa.instructions.scalar_tensor_tensor import ScalarTensorTensor
from rainshadow.isa.instructions.select_reduce import SelectReduce
from rainshadow.isa.instructions.sendrecv import Sendrecv
from rainshadow.isa.instructions.tensor_copy import TensorCopy
from rainshadow.isa.instructions.tensor_copy_predicated import TensorCopyPredicated
from rainshadow.isa.instructions.tensor_partition_reduce import TensorPartitionReduce
from rainshadow.isa.instructions.tensor_reduce import TensorReduce
from rainshadow.isa.instructions.tensor_scalar import TensorScalar
from rainshadow.isa.instructions.tensor_scalar_cumulative import TensorScalarCumulative
from rainshadow.isa.instructions.tensor_scalar_reduce import TensorScalarReduce
from rainshadow.isa.instructions.tensor_tensor import TensorTensor
from rainshadow.isa.instructions.tensor_tensor_scan import TensorTensorScan
from rainshadow.isa.memory import Space as MemoryRegion
from rainshadow.isa.operators import ALU_OPERATORS, activation_function, alu_operator
from rainshadow.nki.constants import (
    dge_mode,
    dma_engine,
    matmul_perf_mode,
    nc_version,
    oob_mode,
    reduce_cmd,
)
from rainshadow.nki.kernel import target_chip
from rainshadow.nki.registers import (
    VirtualRegister,
    register_alloc,
    register_load,
    register_move,
    register_store,
)
from rainshadow.sim.recorder import active_recorder, inside_kernel

__all__ = ["NkiTensor", "NkiValidationError", "VirtualRegister", "engine", "nc_version",
           "register_alloc", "register_load", "register_move", "register_store"]  # fmt: skip

tensor_engine = engine.tensor
vector_engine = engine.vector
scalar_engine = engine.scalar
gpsimd_engine = engine.gpsimd
unknown_engine = engine.unknown


def get_nc_version() -> nc_version:
    """Generation of the chip the kernel runs on."""
    chip = active_recorder().chip if inside_kernel() else target_chip()
    return nc_version[str(chip.generation)]


def _issue(instr: Instruction) -> None:
    active_recorder().issue(instr)


def _default(chosen: engine, otherwise: engine) -> engine:
    return otherwise if chosen is engine.unknown else chosen


def _trigger(chosen: engine, mode: dge_mode) -> engine:
    """The engine that starts a DMA: hardware descriptors come from SyncE unless named."""
    if chosen is not engine.unknown:
        return chosen
    return engine.sync if mode is dge_mode.hwdge else engine.gpsimd


def dma_copy(
    dst: NkiTensor,
    src: NkiTensor,
    priority: Any = None,
    oob_mode: oob_mode = oob_mode.error,
    dge_mode: dge_mode = dge_mode.unknown,
    engine: engine = engine.unknown,
    name: str | None = None,
) -> None:
    """dst = src by DMA. oob_mode skip leaves out what a dynamic index would move from outside."""
    skip = oob_mode.name == "skip"
    if skip and any(view.offset_from is not None and not view.is_inside() for view in (dst, src)):
        return
    _issue(DmaCopy(dst, src, _trigger(engine, dge_mode), skip))


def tensor_copy(
    dst: NkiTensor, src: NkiTensor, engine: engine = engine.unknown, name: str | None = None
) -> None:
    """dst = src on VectorE unless another engine is named."""
    _issue(TensorCopy(dst, src, _default(engine, vector_engine)))


def memset(
    dst: NkiTensor, value: Any, engine: engine = engine.unknown, name: str | None = None
) -> None:
    """dst = value."""
    _issue(Memset(dst, value, _default(engine, vector_engine)))


def nc_matmul(
    dst: NkiTensor,
    stationary: NkiTensor,
    moving: NkiTensor,
    is_stationary_onezero: bool = False,
    is_moving_onezero: bool = False,
    is_transpose: bool = False,
    accumulate: bool | None = None,
    tile_position: tuple[int, ...] = (),
    tile_size: tuple[int, ...] = (),
    perf_mode: matmul_perf_mode = matmul_perf_mode.none,
    name: str | None = None,
) -> None:
    """dst (+)= stationary.T @ moving. accumulate=None: add, except at a first write to dst."""
    if accumulate is None:
        accumulate = active_recorder().continue_accumulation(dst)
    mode = matmul_perf_mode(perf_mode).value
    _issue(NcMatmul(dst, stationary, moving, bool(accumulate), is_transpose, mode))


def nc_transpose(
    dst: NkiTensor, data: NkiTensor, engine: engine = engine.unknown, name: str | None = None
) -> None:
    """dst = data.T, on TensorE into PSUM unless dst or the engine named says otherwise."""
    usual = vector_engine if dst.space is MemoryRegion.sbuf else tensor_engine
    _issue(NcTranspose(dst, data, _default(engine, usual)))


def tensor_tensor(
    dst: NkiTensor,
    data1: NkiTensor,
    data2: NkiTensor,
    op: Any,
    engine: engine = engine.unknown,
    name: str | None = None,
) -> None:
    """dst = data1 op data2."""
    _issue(TensorTensor(dst, data1, data2, alu_operator(op), _default(engine, vector_engine)))


def tensor_scalar(
    dst: NkiTensor,
    data: NkiTensor,
    op0: Any,
    operand0: Any,
    reverse0: bool = False,
    op1: Any = None,
    operand1: Any = None,
    reverse1: bool = False,
    engine: engine = engine.unknown,
    name: str | None = None,
) -> None:
    """dst = (data op0 operand0) op1 operand1."""
    second = None if op1 is None else alu_operator(op1)
    _issue(
        TensorScalar(
            dst, data, alu_operator(op0), operand0, reverse0, second, operand1, reverse1,
            _default(engine, vector_engine),
        )
    )  # fmt: skip


def scalar_tensor_tensor(
    dst: NkiTensor,
    data: NkiTensor,
    op0: Any,
    operand0: Any,
    op1: Any,
    operand1: NkiTensor,
    reverse0: bool = False,
    reverse1: bool = False,
    name: str | None = None,
) -> None:
    """dst = (data op0 operand0) op1 operand1, operand1 a tensor."""
    _issue(
        ScalarTensorTensor(
            dst, data, alu_operator(op0), operand0, alu_operator(op1), operand1, reverse0, reverse1
        )
    )


def tensor_reduce(
    dst: NkiTensor,
    op: Any,
    data: NkiTensor,
    axis: Any,
    negate: bool = False,
    keepdims: bool = False,
    name: str | None = None,
) -> None:
    """dst = op over the last free axes of data."""
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    _issue(TensorReduce(dst, alu_operator(op), data, _positive(axes, data), negate))


def _positive(axes: tuple[int, ...], data: NkiTensor) -> tuple[int, ...]:
    return tuple(sorted(axis + data.ndim if axis < 0 else axis for axis in axes))


def reciprocal(dst: NkiTensor, data: NkiTensor, name: str | None = None) -> None:
    """dst = 1 / data."""
    _issue(Reciprocal(dst, data))


def activation(
    dst: NkiTensor,
    op: Any,
    data: NkiTensor,
    bias: Any = None,
    scale: Any = 1.0,
    reduce_op: Any = None,
    reduce_res: NkiTensor | None = None,
    reduce_cmd: reduce_cmd = reduce_cmd.idle,
    name: str | None = None,
) -> None:
    """dst = op(data * scale + bias); reduce_res = the sums that reduce_cmd has gathered."""
    if reduce_op is not None and alu_operator(reduce_op).name != "add":
        raise NkiValidationError("activation: reduce_op", allowed="nl.add")
    registers = active_recorder().scalar_accumulator
    registers.used = registers.used or reduce_cmd.name != "idle"
    if reduce_res is not None and not registers.used:
        raise NkiValidationError(
            "activation: reduce_res reads ScalarE's registers, which nothing has set",
            allowed="reduce_cmd reset_reduce, or an earlier instruction that reduces",
            fix="add reduce_cmd=nisa.reduce_cmd.reset_reduce",
        )
    _issue(
        Activation(
            dst, activation_function(op), data, registers, bias, scale, reduce_res, reduce_cmd.name
        )
    )


def activation_reduce(
    dst: NkiTensor,
    op: Any,
    data: NkiTensor,
    reduce_op: Any,
    reduce_res: NkiTensor,
    bias: Any = None,
    scale: Any = 1.0,
    name: str | None = None,
) -> None:
    """activation with its sum along the free axes."""
    activation(dst, op, data, bias, scale, reduce_op, reduce_res, reduce_cmd.reset_reduce)


def iota(
    dst: NkiTensor,
    pattern: Any,
    offset: int = 0,
    channel_multiplier: int = 0,
    name: str | None = None,
) -> None:
    """dst[p, i] = offset + p * channel_multiplier + pattern(i)."""
    _issue(Iota(dst, _pattern(pattern), offset, channel_multiplier))


def _pattern(pattern: Any) -> tuple[tuple[int, int], ...]:
    return tuple((int(step), int(count)) for step, count in pattern)


def affine_select(
    dst: NkiTensor,
    pattern: Any,
    channel_multiplier: int,
    on_true_tile: NkiTensor,
    on_false_value: float,
    cmp_op: Any = ALU_OPERATORS["equal"],
    offset: int = 0,
    name: str | None = None,
) -> None:
    """dst = on_true_tile where cmp_op(offset + p * channel_multiplier + pattern, 0)."""
    operator = cmp_op if cmp_op is ALU_OPERATORS["equal"] else alu_operator(cmp_op)
    _issue(
        AffineSelect(
            dst, _pattern(pattern), channel_multiplier, on_true_tile, on_false_value, operator,
            offset,
        )
    )  # fmt: skip


def tensor_copy_predicated(
    dst: NkiTensor,
    src: Any,
    predicate: NkiTensor,
    reverse_pred: bool = False,
    name: str | None = None,
) -> None:
    """dst = src where predicate."""
    _issue(TensorCopyPredicated(dst, src, predicate, reverse_pred))


def dma_transpose(
    dst: NkiTensor,
    src: NkiTensor,
    axes: Any = None,
    priority: Any = None,
    dge_mode: dge_mode = dge_mode.unknown,
    oob_mode: oob_mode = oob_mode.error,
    name: str | None = None,
) -> None:
    """dst = src with first and last axes exchanged."""
    order = PERMUTATIONS.get(len(src.shape))
    if axes is not None and order is not None and tuple(axes) != order:
        raise NkiValidationError(f"dma_transpose: axes {tuple(axes)}", allowed=f"{order}")
    _issue(DmaTranspose(dst, src, _trigger(unknown_engine, dge_mode)))


def dma_compute(
    dst: NkiTensor,
    srcs: Any,
    reduce_op: Any,
    scales: Any = None,
    unique_indices: bool = True,
    oob_mode: oob_mode = oob_mode.error,
    name: str | None = None,
) -> None:
    """dst = sum of srcs."""
    if alu_operator(reduce_op).name != "add":
        raise NkiValidationError("dma_compute: reduce_op", allowed="nl.add")
    if scales is not None and any(scale != 1.0 for scale in scales):
        raise NkiValidationError(f"dma_compute: scales {scales}", allowed="1.0 for every source")
    _issue(DmaCompute(dst, tuple(srcs), len(srcs)))


def tensor_tensor_scan(
    dst: NkiTensor,
    data0: NkiTensor,
    data1: NkiTensor,
    initial: Any,
    op0: Any,
    op1: Any,
    reverse0: bool = False,
    reverse1: bool = False,
    name: str | None = None,
) -> None:
    """dst[:, i] = (data0[:, i] op0 dst[:, i-1]) op1 data1[:, i]."""
    _issue(
        TensorTensorScan(
            dst, data0, data1, initial, alu_operator(op0), alu_operator(op1), reverse0, reverse1
        )
    )


def tensor_partition_reduce(
    dst: NkiTensor, op: Any, data: NkiTensor, name: str | None = None
) -> None:
    """dst = op over the partitions of data."""
    _issue(TensorPartitionReduce(dst, alu_operator(op), data))


def tensor_scalar_reduce(
    dst: NkiTensor,
    data: NkiTensor,
    op0: Any,
    operand0: Any,
    reduce_op: Any,
    reduce_res: NkiTensor | None = None,
    reverse0: bool = False,
    reduce_cmd: reduce_cmd = reduce_cmd.reset_reduce,
    reduce_init: Any = None,
    reduce_res_negate: bool = False,
    name: str | None = None,
) -> None:
    """dst = data op0 operand0; reduce_res = reduce_op over the free axes of dst."""
    _issue(
        TensorScalarReduce(
            dst, data, alu_operator(op0), operand0, alu_operator(reduce_op),
            active_recorder().vector_accumulator, reduce_res, reverse0, reduce_cmd.name,
            reduce_init, reduce_res_negate,
        )
    )  # fmt: skip


def tensor_scalar_cumulative(
    dst: NkiTensor,
    src: NkiTensor,
    op0: Any,
    op1: Any,
    imm0: Any,
    imm1: Any = None,
    reduce_cmd: reduce_cmd = reduce_cmd.reset_reduce,
    name: str | None = None,
) -> None:
    """dst[:, i] = op1(op0(src[:, i], imm0), dst[:, i-1])."""
    _issue(
        TensorScalarCumulative(
            dst, src, alu_operator(op0), alu_operator(op1), imm0,
            active_recorder().vector_accumulator, imm1, reduce_cmd.name,
        )
    )  # fmt: skip


def select_reduce(
    dst: NkiTensor,
    predicate: NkiTensor,
    on_true: NkiTensor,
    on_false: Any,
    reduce_res: NkiTensor | None = None,
    reduce_cmd: reduce_cmd = reduce_cmd.idle,
    reduce_op: Any = "maximum",
    reverse_pred: bool = False,
    name: str | None = None,
) -> None:
    """dst = on_true where predicate, else on_false; reduce_res = row maximum."""
    if alu_operator(reduce_op).name != "maximum":
        raise NkiValidationError("select_reduce: reduce_op", allowed="nl.maximum")
    _issue(
        SelectReduce(
            dst, predicate, on_true, on_false, active_recorder().vector_accumulator, reduce_res,
            reduce_cmd.name, reverse_pred,
        )
    )  # fmt: skip


def range_select(
    dst: NkiTensor,
    on_true_tile: NkiTensor,
    comp_op0: Any,
    comp_op1: Any,
    bound0: NkiTensor,
    bound1: NkiTensor,
    reduce_cmd: reduce_cmd = reduce_cmd.reset_reduce,
    reduce_res: NkiTensor | None = None,
    reduce_op: Any = "maximum",
    range_start: int = 0,
    on_false_value: float = FP32_MIN,
    name: str | None = None,
) -> None:
    """dst = on_true_tile where both comparisons of the column index hold, else FP32_MIN."""
    if alu_operator(reduce_op).name != "maximum":
        raise NkiValidationError("range_select: reduce_op", allowed="nl.maximum")
    _issue(
        RangeSelect(
            dst, on_true_tile, alu_operator(comp_op0), alu_operator(comp_op1), bound0, bound1,
            active_recorder().vector_accumulator, reduce_res, reduce_cmd.name, range_start,
            on_false_value,
        )
    )  # fmt: skip


def bn_stats(dst: NkiTensor, data: NkiTensor, name: str | None = None) -> None:
    """dst = count, mean, variance * count of even and of odd elements."""
    _issue(BnStats(dst, data))


def bn_aggr(dst: NkiTensor, data: NkiTensor, name: str | None = None) -> None:
    """dst = mean, variance from bn_stats triples."""
    _issue(BnAggr(dst, data))


def max8(dst: NkiTensor, src: NkiTensor, name: str | None = None) -> None:
    """dst = the 8 largest values of each partition, largest first."""
    _issue(Max8(dst, src))


def nc_find_index8(
    dst: NkiTensor, data: NkiTensor, vals: NkiTensor, name: str | None = None
) -> None:
    """dst = positions of the 8 values in each partition of data."""
    _issue(NcFindIndex8(dst, data, vals))


def nc_match_replace8(
    dst: NkiTensor,
    data: NkiTensor,
    vals: NkiTensor,
    imm: float,
    dst_idx: NkiTensor | None = None,
    name: str | None = None,
) -> None:
    """dst = data with the first occurrence of each value replaced by imm."""
    _issue(NcMatchReplace8(dst, data, vals, imm, dst_idx))


def nc_stream_shuffle(
    dst: NkiTensor, src: NkiTensor, shuffle_mask: Any, name: str | None = None
) -> None:
    """dst[i] = src[shuffle_mask[i]] within each quadrant of 32 partitions."""
    _issue(NcStreamShuffle(dst, src, tuple(int(entry) for entry in shuffle_mask)))


def nc_n_gather(
    dst: NkiTensor, data: NkiTensor, indices: NkiTensor, name: str | None = None
) -> None:
    """dst[p, i] = data[p, indices[p, i]]."""
    _issue(NcNGather(dst, data, indices))


def local_gather(
    dst: NkiTensor,
    src_buffer: NkiTensor,
    index: NkiTensor,
    num_elem_per_idx: int = 1,
    num_valid_indices: int | None = None,
    name: str | None = None,
) -> None:
    """Elements of src_buffer by one list of indices for each 16 partitions."""
    _issue(LocalGather(dst, src_buffer, index, num_elem_per_idx, num_valid_indices))


def nonzero_with_count(
    dst: NkiTensor,
    src: NkiTensor,
    index_offset: int = 0,
    padding_val: int = -1,
    name: str | None = None,
) -> None:
    """dst = positions of src's nonzero elements, padding, and their count."""
    _issue(NonzeroWithCount(dst, src, int(index_offset), int(padding_val)))


def sendrecv(
    src: NkiTensor,
    dst: NkiTensor,
    send_to_rank: int,
    recv_from_rank: int,
    pipe_id: Any,
    dma_engine: dma_engine = dma_engine.dma,
    name: str | None = None,
) -> None:
    """Send src to a core of this logical core, receive into dst from one."""
    recorder = active_recorder()
    if recorder.cores.count < 2:
        raise NkiValidationError(
            "sendrecv on one core", allowed="a launch on two cores", fix="launch with kernel[2]"
        )
    ranks = (int(send_to_rank), int(recv_from_rank))

    def exchange(data: Any) -> Any:
        return recorder.cores.exchange(recorder.rank, *ranks, pipe_id, data)

    _issue(Sendrecv(dst, src, exchange, ranks, dma_engine.name))


def core_barrier(
    data: NkiTensor, cores: Any, engine: engine = engine.gpsimd, name: str | None = None
) -> None:
    """Wait until all of `cores` have come to this barrier."""
    recorder = active_recorder()
    if recorder.cores.count < 2:
        raise NkiValidationError(
            "core_barrier on one core", allowed="a launch on two cores", fix="launch with kernel[2]"
        )
    ranks, number = tuple(int(core) for core in cores), recorder.num_barriers
    recorder.num_barriers += 1

    def arrive() -> None:
        recorder.cores.barrier(recorder.rank, ranks, number)

    _issue(CoreBarrier(data, arrive, ranks, _default(engine, gpsimd_engine)))
