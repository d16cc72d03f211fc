"""dst[:, i] = (data0[:, i] op0 dst[:, i-1]) op1 data1[:, i], along the free axis, on VectorE.

Source of rules, numerics and cost: AWS Neuron docs 2.32 nki.isa.tensor_tensor_scan; cost formula
from the same page at tag v2.26.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import vector_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.operators import AluOperator
from rainshadow.machine import Chip


@instruction
@dataclass(slots=True)
class TensorTensorScan(Instruction):
    """dst, data0, data1: [P, N]; initial: number or [P, 1]; float32 recurrence."""

    opcode = "tensor_tensor_scan"
    READS = ("data0", "data1", "initial")
    PARAMS = ("op0", "op1", "reverse0", "reverse1")
    EXAMPLE = (
        "nisa.tensor_tensor_scan(dst=h, data0=decay, data1=x, initial=0.0, "
        "op0=nl.multiply, op1=nl.add)"
    )

    dst: AccessPattern
    data0: AccessPattern
    data1: AccessPattern
    initial: Any
    op0: AluOperator
    op1: AluOperator
    reverse0: bool = False
    reverse1: bool = False
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        operands: dict[str, Any] = {"dst": self.dst, "data0": self.data0, "data1": self.data1}
        rules.require_tensor(self.opcode, **operands)
        rules.require_on_chip(self.opcode, **operands)
        rules.require_same_partitions(self.opcode, **operands)
        rules.require_same_elements(self.opcode, **operands)
        rules.require_not_both_psum(self.opcode, data0=self.data0, data1=self.data1)
        rules.require_arithmetic(self.opcode, self.op0, self.op1)
        rules.require_binary(self.opcode, self.op0, self.op1)
        rules.require_scalar_or_column(self.opcode, "initial", self.initial, self.dst.shape[0])

    def meaning(self) -> None:
        partitions = self.dst.shape[0]
        left = values.read_f32(self.data0).reshape(partitions, -1)
        right = values.read_f32(self.data1).reshape(partitions, -1)
        state = np.broadcast_to(values.column_f32(self.initial, 2), (partitions, 1))[:, 0]
        result = np.empty(left.shape, dtype=np.float32)
        first, second = self.op0.function, self.op1.function
        for i in range(left.shape[1]):
            a, b = left[:, i], right[:, i]
            state = first(state, a) if self.reverse0 else first(a, state)
            state = second(b, state) if self.reverse1 else second(state, b)
            result[:, i] = state
        values.write(self.dst, result)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """max(64, 2N) cycles."""
        return vector_work(signature, chip, 2 * signature.dst.elements)
