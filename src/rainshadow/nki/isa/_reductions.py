"""Reductions, scans and statistics."""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.isa.access import AccessPattern as NkiTensor
from rainshadow.isa.instructions.bn_aggr import BnAggr
from rainshadow.isa.instructions.bn_stats import BnStats
from rainshadow.isa.instructions.tensor_partition_reduce import TensorPartitionReduce
from rainshadow.isa.instructions.tensor_reduce import TensorReduce
from rainshadow.isa.instructions.tensor_scalar_cumulative import TensorScalarCumulative
from rainshadow.isa.instructions.tensor_scalar_reduce import TensorScalarReduce
from rainshadow.isa.instructions.tensor_tensor_scan import TensorTensorScan
from rainshadow.isa.integers import wholes
from rainshadow.isa.operators import alu_operator
from rainshadow.nki.constants import (
    reduce_cmd,
)
from rainshadow.nki.isa._issue import NkiInstruction, issue, other_operand
from rainshadow.sim.recorder import active_recorder


def tensor_reduce(
    dst: NkiTensor,
    op: Any,
    data: NkiTensor,
    axis: Any,
    negate: bool = False,
    keepdims: bool = False,
    name: str | None = None,
) -> NkiInstruction:
    """dst = op over the last free axes of data."""
    axes = wholes((axis,) if isinstance(axis, int | np.integer) else axis, "tensor_reduce: axis")
    return issue(TensorReduce(dst, alu_operator(op), data, _positive(axes, data), negate))


def _positive(axes: tuple[int, ...], data: NkiTensor) -> tuple[int, ...]:
    return tuple(sorted(axis + data.ndim if axis < 0 else axis for axis in axes))


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
) -> NkiInstruction:
    """dst[:, i] = (data0[:, i] op0 dst[:, i-1]) op1 data1[:, i]."""
    return issue(
        TensorTensorScan(
            dst, data0, data1, initial, alu_operator(op0), alu_operator(op1), reverse0, reverse1
        )
    )


def tensor_partition_reduce(
    dst: NkiTensor, op: Any, data: NkiTensor, name: str | None = None
) -> NkiInstruction:
    """dst = op over the partitions of data."""
    return issue(TensorPartitionReduce(dst, alu_operator(op), data))


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
) -> NkiInstruction:
    """dst = data op0 operand0; reduce_res = reduce_op over the free axes of dst."""
    first = alu_operator(op0)
    return issue(
        TensorScalarReduce(
            dst, data, first, other_operand("operand0", first, operand0), alu_operator(reduce_op),
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
) -> NkiInstruction:
    """dst[:, i] = op1(op0(src[:, i], imm0), dst[:, i-1])."""
    first = alu_operator(op0)
    return issue(
        TensorScalarCumulative(
            dst, src, first, alu_operator(op1), other_operand("imm0", first, imm0),
            active_recorder().vector_accumulator, imm1, reduce_cmd.name,
        )
    )  # fmt: skip


def bn_stats(dst: NkiTensor, data: NkiTensor, name: str | None = None) -> NkiInstruction:
    """dst = count, mean, variance * count of even and of odd elements."""
    return issue(BnStats(dst, data))


def bn_aggr(dst: NkiTensor, data: NkiTensor, name: str | None = None) -> NkiInstruction:
    """dst = mean, variance from bn_stats triples."""
    return issue(BnAggr(dst, data))
