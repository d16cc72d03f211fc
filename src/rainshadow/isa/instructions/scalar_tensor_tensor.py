"""dst = (data op0 operand0) op1 operand1, operand0 a number or [P, 1], operand1 a tensor.

Source of rules, numerics and cost: AWS Neuron docs 2.32 nki.isa.scalar_tensor_tensor; cost
formula from the same page at tag v2.26.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import in_psum, is_half_width, vector_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.operators import AluOperator
from rainshadow.machine import Chip


@instruction
@dataclass(slots=True)
class ScalarTensorTensor(Instruction):
    """dst, data, operand1: [P, free...]; operand0: number or [P, 1]."""

    opcode = "scalar_tensor_tensor"
    READS = ("data", "operand0", "operand1")
    PARAMS = ("op0", "op1", "reverse0", "reverse1")
    EXAMPLE = (
        "nisa.scalar_tensor_tensor(dst=y, data=x, op0=nl.subtract, operand0=mean, "
        "op1=nl.multiply, operand1=weight)"
    )

    dst: AccessPattern
    data: AccessPattern
    op0: AluOperator
    operand0: Any
    op1: AluOperator
    operand1: AccessPattern
    reverse0: bool = False
    reverse1: bool = False
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        operands: dict[str, Any] = {
            "dst": self.dst,
            "data": self.data,
            "operand1": self.operand1,
        }
        rules.require_tensor(self.opcode, **operands)
        rules.require_engine(self.opcode, self.engine, Engine.vector)
        rules.require_on_chip(self.opcode, **operands)
        rules.require_same_partitions(self.opcode, **operands)
        rules.require_same_elements(self.opcode, **operands)
        rules.require_not_both_psum(self.opcode, data=self.data, operand1=self.operand1)
        rules.require_arithmetic(self.opcode, self.op0, self.op1)
        rules.require_binary(self.opcode, self.op1)
        rules.require_scalar_or_column(self.opcode, "operand0", self.operand0, self.data.shape[0])
        rules.require_no_operand_of_unary(self.opcode, "operand0", self.op0, self.operand0)

    def meaning(self) -> None:
        data = values.read_f32(self.data)
        first = values.column_f32(self.operand0, data.ndim)
        second = values.read_f32(self.operand1).reshape(data.shape)
        result = self.op0.function(first, data) if self.reverse0 else self.op0.function(data, first)
        result = (
            self.op1.function(second, result)
            if self.reverse1
            else self.op1.function(result, second)
        )
        values.write(self.dst, result)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """N cycles if all are bf16/fp16 with N even, or one is in PSUM; else 2N.

        The docs print 2N for a PSUM operand; a published trn2 profile (rmsnorm_quant, 0.66 us
        for N = 512) shows N.
        """
        elements = signature.dst.elements
        operands = (signature["data"], signature["operand1"], signature.dst)
        fast = (is_half_width(*operands) and elements % 2 == 0) or in_psum(*operands)
        return vector_work(signature, chip, elements if fast else 2 * elements)
