"""Functions that compute each element on its own."""

from __future__ import annotations

from operator import index as whole
from typing import Any

from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern as NkiTensor
from rainshadow.isa.engine import Engine
from rainshadow.isa.instructions.activate2 import Activate2
from rainshadow.isa.instructions.activation import Activation
from rainshadow.isa.instructions.affine_select import AffineSelect
from rainshadow.isa.instructions.exponential import Exponential
from rainshadow.isa.instructions.iota import Iota
from rainshadow.isa.instructions.memset import Memset
from rainshadow.isa.instructions.range_select import FP32_MIN, RangeSelect
from rainshadow.isa.instructions.reciprocal import Reciprocal
from rainshadow.isa.instructions.scalar_tensor_tensor import ScalarTensorTensor
from rainshadow.isa.instructions.select_reduce import SelectReduce
from rainshadow.isa.instructions.tensor_copy import TensorCopy
from rainshadow.isa.instructions.tensor_copy_predicated import TensorCopyPredicated
from rainshadow.isa.instructions.tensor_scalar import TensorScalar
from rainshadow.isa.instructions.tensor_tensor import WORDS, TensorTensor
from rainshadow.isa.integers import whole as integer
from rainshadow.isa.memory import Space
from rainshadow.isa.operators import activation_function, alu_operator
from rainshadow.nki.constants import (
    reduce_cmd,
)
from rainshadow.nki.isa._issue import NkiInstruction, engine_or, issue, other_operand
from rainshadow.sim.recorder import active_recorder


def tensor_copy(
    dst: NkiTensor, src: NkiTensor, engine: Engine = Engine.unknown, name: str | None = None
) -> NkiInstruction:
    """dst = src on VectorE unless another engine is named."""
    return issue(TensorCopy(dst, src, engine_or(engine, Engine.vector)))


def memset(
    dst: NkiTensor, value: Any, engine: Engine = Engine.unknown, name: str | None = None
) -> NkiInstruction:
    """dst = value."""
    return issue(Memset(dst, value, engine_or(engine, Engine.vector)))


def tensor_tensor(
    dst: NkiTensor,
    data1: NkiTensor,
    data2: NkiTensor,
    op: Any,
    engine: Engine = Engine.unknown,
    name: str | None = None,
) -> NkiInstruction:
    """dst = data1 op data2; power, and integers of 32 bits in SBUF, on GpSimdE unless named."""
    operator = alu_operator(op)
    usual = Engine.vector
    words = all(view.dtype in WORDS and view.space is Space.sbuf for view in (dst, data1, data2))
    if operator.name == "power" or (words and operator.kind != "bitvec"):
        usual = Engine.gpsimd
    return issue(TensorTensor(dst, data1, data2, operator, engine_or(engine, usual)))


def tensor_scalar(
    dst: NkiTensor,
    data: NkiTensor,
    op0: Any,
    operand0: Any,
    reverse0: bool = False,
    op1: Any = None,
    operand1: Any = None,
    reverse1: bool = False,
    engine: Engine = Engine.unknown,
    name: str | None = None,
) -> NkiInstruction:
    """dst = (data op0 operand0) op1 operand1."""
    first, second = alu_operator(op0), None if op1 is None else alu_operator(op1)
    return issue(
        TensorScalar(
            dst, data, first, other_operand("operand0", first, operand0), reverse0, second,
            other_operand("operand1", second, operand1), reverse1, engine_or(engine, Engine.vector),
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
) -> NkiInstruction:
    """dst = (data op0 operand0) op1 operand1, operand1 a tensor."""
    first, second = alu_operator(op0), alu_operator(op1)
    operand0 = other_operand("operand0", first, operand0)
    return issue(
        ScalarTensorTensor(dst, data, first, operand0, second, operand1, reverse0, reverse1)
    )


def reciprocal(dst: NkiTensor, data: NkiTensor, name: str | None = None) -> NkiInstruction:
    """dst = 1 / data."""
    return issue(Reciprocal(dst, data))


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
) -> NkiInstruction:
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
    return issue(
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
) -> NkiInstruction:
    """activation with its sum along the free axes."""
    return activation(dst, op, data, bias, scale, reduce_op, reduce_res, reduce_cmd.reset_reduce)


def activate2(
    dst: NkiTensor,
    op: Any,
    data: NkiTensor,
    imm0: Any,
    imm1: Any,
    op0: Any,
    op1: Any,
    relu_param: Any = 0.0,
    reverse0: bool = False,
    reverse1: bool = False,
    reduce_op: Any = None,
    reduce_res: NkiTensor | None = None,
    reduce_cmd: reduce_cmd = reduce_cmd.idle,
    name: str | None = None,
) -> NkiInstruction:
    """dst = op((data op0 imm0) op1 imm1); reduce_res = what reduce_cmd has gathered."""
    registers = active_recorder().scalar_accumulator
    registers.used = registers.used or reduce_cmd.name != "idle"
    return issue(
        Activate2(
            dst, activation_function(op), data, imm0, imm1, alu_operator(op0), alu_operator(op1),
            registers, relu_param, reverse0, reverse1,
            None if reduce_op is None else alu_operator(reduce_op), reduce_res, reduce_cmd.name,
        )
    )  # fmt: skip


def exponential(
    dst: NkiTensor,
    src: NkiTensor,
    max_value: Any = 0.0,
    reduce_res: NkiTensor | None = None,
    reduce_cmd: reduce_cmd = reduce_cmd.idle,
    reduce_init: Any = 0.0,
    name: str | None = None,
) -> NkiInstruction:
    """dst = exp(src - max_value); reduce_res = the sums that reduce_cmd has gathered."""
    return issue(
        Exponential(
            dst, src, max_value, active_recorder().vector_accumulator, reduce_res,
            reduce_cmd.name, reduce_init,
        )
    )  # fmt: skip


def iota(
    dst: NkiTensor,
    pattern: Any,
    offset: int = 0,
    channel_multiplier: int = 0,
    name: str | None = None,
) -> NkiInstruction:
    """dst[p, i] = offset + p * channel_multiplier + pattern(i)."""
    start, step = _int32("offset", offset), _int32("channel_multiplier", channel_multiplier)
    return issue(Iota(dst, _pattern(pattern), start, step))


def _int32(name: str, value: Any) -> int:
    number = integer(value, name)
    if not -(2**31) <= number < 2**31:
        raise NkiValidationError(f"{name} {number}", allowed="an int32")
    return number


def _pattern(pattern: Any) -> tuple[tuple[int, int], ...]:
    return tuple((whole(step), whole(count)) for step, count in pattern)


def affine_select(
    dst: NkiTensor,
    pattern: Any,
    channel_multiplier: int,
    on_true_tile: NkiTensor,
    on_false_value: float,
    cmp_op: Any = "equal",
    offset: int = 0,
    name: str | None = None,
) -> NkiInstruction:
    """dst = on_true_tile where cmp_op(offset + p * channel_multiplier + pattern, 0)."""
    return issue(
        AffineSelect(
            dst, _pattern(pattern), _int32("channel_multiplier", channel_multiplier),
            on_true_tile, on_false_value, alu_operator(cmp_op), _int32("offset", offset),
        )
    )  # fmt: skip


def tensor_copy_predicated(
    dst: NkiTensor,
    src: Any,
    predicate: NkiTensor,
    reverse_pred: bool = False,
    name: str | None = None,
) -> NkiInstruction:
    """dst = src where predicate."""
    return issue(TensorCopyPredicated(dst, src, predicate, reverse_pred))


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
) -> NkiInstruction:
    """dst = on_true where predicate, else on_false; reduce_res = row maximum."""
    if alu_operator(reduce_op).name != "maximum":
        raise NkiValidationError("select_reduce: reduce_op", allowed="nl.maximum")
    return issue(
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
) -> NkiInstruction:
    """dst = on_true_tile where both comparisons of the column index hold, else FP32_MIN."""
    if alu_operator(reduce_op).name != "maximum":
        raise NkiValidationError("range_select: reduce_op", allowed="nl.maximum")
    return issue(
        RangeSelect(
            dst, on_true_tile, alu_operator(comp_op0), alu_operator(comp_op1), bound0, bound1,
            active_recorder().vector_accumulator, reduce_res, reduce_cmd.name, range_start,
            on_false_value,
        )
    )  # fmt: skip
