"""dst = (data op0 operand0) op1 operand1, with a number or one value per partition.

Source of rules, numerics and cost: AWS Neuron docs 2.32 nki.isa.tensor_scalar; cost formula from
the same page at tag v2.26.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import copy_rate, engine_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.operators import AluOperator
from rainshadow.machine import Chip

#: What ScalarE computes before NeuronCore-v4.
_AFFINE = (("multiply", "add"), ("multiply", None), ("add", None))


@instruction
@dataclass(slots=True)
class TensorScalar(Instruction):
    """dst, data: [P, free...]; operands: numbers or [P, 1]; reverse swaps an operator's sides."""

    opcode = "tensor_scalar"
    READS = ("data", "operand0", "operand1")
    COLUMNS = ("dst", "data")
    PARAMS = ("op0", "reverse0", "op1", "reverse1")
    EXAMPLE = "nisa.tensor_scalar(dst=y, data=x, op0=nl.multiply, operand0=scale)"

    dst: AccessPattern
    data: AccessPattern
    op0: AluOperator
    operand0: Any
    reverse0: bool = False
    op1: AluOperator | None = None
    operand1: Any = None
    reverse1: bool = False
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst, data=self.data)
        rules.require_engine(self.opcode, self.engine, Engine.vector, Engine.scalar, Engine.gpsimd)
        rules.require_on_chip(self.opcode, dst=self.dst, data=self.data)
        rules.require_same_partitions(self.opcode, dst=self.dst, data=self.data)
        rules.require_same_elements(self.opcode, dst=self.dst, data=self.data)
        rules.require_no_gpsimd_psum(self.opcode, self.engine, dst=self.dst, data=self.data)
        rules.require_integers_for_bits(self.opcode, self.op0, dst=self.dst, data=self.data)
        rules.require_operator_of_chip(self.opcode, chip, self.op0, self.op1)
        self._check_step("operand0", self.op0, self.operand0)
        if self.op1 is None and self.operand1 is not None:
            raise NkiValidationError(
                f"{self.opcode}: operand1 without op1", allowed="both, or neither"
            )
        self._check_engine(chip)
        if self.op1 is not None:
            self._check_step("operand1", self.op1, self.operand1)
            if (self.op0.kind == "bitvec") != (self.op1.kind == "bitvec"):
                raise NkiValidationError(
                    f"{self.opcode}: op0 {self.op0.name} and op1 {self.op1.name}",
                    allowed="two bitvec operators, or none",
                )

    def _check_step(self, name: str, op: AluOperator, operand: Any) -> None:
        partitions = self.data.shape[0]
        rules.require_scalar_or_column(self.opcode, name, operand, partitions)
        rules.require_float32_operand(self.opcode, name, op, operand)
        rules.require_no_operand_of_unary(self.opcode, name, op, operand)

    def _check_engine(self, chip: Chip) -> None:
        """Bits on VectorE; GpSimdE has rsqrt only; ScalarE of v2 and v3 scale and bias."""
        pair = (self.op0.name, None if self.op1 is None else self.op1.name)
        if self.op0.kind == "bitvec":
            rules.require_engine(f"{self.opcode} on bits", self.engine, Engine.vector)
        is_affine = chip.generation == "gen4" or pair in _AFFINE
        if (self.engine is Engine.gpsimd and "rsqrt" not in pair) or (
            self.engine is Engine.scalar and not is_affine
        ):
            raise NkiValidationError(
                f"{self.opcode} on {self.engine.name}: op0 {pair[0]}, op1 {pair[1]}",
                allowed="rsqrt on gpsimd; multiply and add, multiply, or add on scalar",
                fix="leave the engine to the compiler, or name nisa.engine.vector",
            )

    def meaning(self) -> None:
        bitvec = self.op0.kind == "bitvec"
        result = self.data.array if bitvec else values.read_f32(self.data)
        steps = ((self.op0, self.operand0, self.reverse0), (self.op1, self.operand1, self.reverse1))
        for op, operand, reverse in steps:
            if op is None:
                continue
            if bitvec:
                other = _bits(operand, result)
            else:
                other = values.column_f32(operand, result.ndim)
            result = op.function(other, result) if reverse else op.function(result, other)
        values.write(self.dst, result)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """max(64, N) cycles for one or two operators; fewer in v3's performance mode."""
        data = signature["data"]
        return engine_work(signature, chip, data.elements / copy_rate(signature, chip, data))


def _bits(operand: Any, like: Any) -> Any:
    """An integer operand in the data's own dtype, shaped to broadcast along the free axes."""
    if isinstance(operand, AccessPattern):
        array = operand.array
        return array.reshape((array.shape[0],) + (1,) * (like.ndim - 1)).astype(like.dtype)
    return np.asarray(operand).astype(like.dtype)
