"""dst[:, i] = op1(op0(src[:, i], imm0), dst[:, i-1]): a running reduction, on VectorE.

Source of rules and numerics: AWS Neuron docs 2.32 nki.isa.tensor_scalar_cumulative. No cost is
published: the model takes 2N cycles, the published cost of VectorE's other recurrence
(tensor_tensor_scan).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.accumulator import IDENTITY, Accumulator
from rainshadow.isa.costs import vector_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.operators import AluOperator
from rainshadow.machine import Chip

_REFUSED_DTYPES = ("int32", "uint32")


@instruction
@dataclass(slots=True)
class TensorScalarCumulative(Instruction):
    """dst, src: [P, N]; imm0, imm1: number or [P, 1]; imm1 only with load_reduce."""

    opcode = "tensor_scalar_cumulative"
    READS = ("src", "imm0", "imm1")
    COLUMNS = ("dst", "src")
    PARAMS = ("op0", "op1", "reduce_cmd")
    EXAMPLE = (
        "nisa.tensor_scalar_cumulative(dst=prefix, src=x, op0=nl.multiply, op1=nl.add, imm0=1.0)"
    )

    dst: AccessPattern
    src: AccessPattern
    op0: AluOperator
    op1: AluOperator
    imm0: Any
    accumulator: Accumulator
    imm1: Any = None
    reduce_cmd: str = "reset_reduce"
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst, src=self.src)
        rules.require_on_chip(self.opcode, dst=self.dst, src=self.src)
        rules.require_same_partitions(self.opcode, dst=self.dst, src=self.src)
        rules.require_same_elements(self.opcode, dst=self.dst, src=self.src)
        rules.require_scalar_or_column(self.opcode, "imm0", self.imm0, self.src.shape[0])
        rules.require_float32_operand(self.opcode, "imm0", self.op0, self.imm0)
        rules.require_float32_operand(self.opcode, "imm1", self.op0, self.imm1)
        rules.require_no_operand_of_unary(self.opcode, "imm0", self.op0, self.imm0)
        rules.require_reduce_cmd(
            self.opcode, self.reduce_cmd, "reset_reduce", "reduce", "load_reduce"
        )
        if (self.imm1 is not None) != (self.reduce_cmd == "load_reduce"):
            raise NkiValidationError(
                f"{self.opcode}: imm1 with reduce_cmd {self.reduce_cmd}"
                if self.imm1 is not None
                else f"{self.opcode}: load_reduce without imm1",
                allowed="imm1 with load_reduce, and only with it",
            )
        if self.imm1 is not None:
            rules.require_scalar_or_column(self.opcode, "imm1", self.imm1, self.src.shape[0])
        for name, view in (("dst", self.dst), ("src", self.src)):
            if view.dtype in _REFUSED_DTYPES:
                raise NkiValidationError(
                    f"{self.opcode}: {name} is {view.dtype}",
                    allowed="floating-point and 8- or 16-bit integer dtypes",
                )
        if self.op0.kind != "arithmetic" or self.op1.name not in IDENTITY:
            raise NkiValidationError(
                f"{self.opcode}: op0 {self.op0.name}, op1 {self.op1.name}",
                allowed=f"an arithmetic op0; op1 one of {', '.join(sorted(IDENTITY))}",
            )

    def meaning(self) -> None:
        partitions = self.src.shape[0]
        data = values.read_f32(self.src).reshape(partitions, -1)
        scaled = self.op0.function(data, values.column_f32(self.imm0, 2))
        initial = None if self.imm1 is None else values.read_f32(self.imm1)
        state = self.accumulator.start(self.reduce_cmd, self.op1.name, partitions, initial).copy()
        result = np.empty_like(scaled)
        for i in range(scaled.shape[1]):
            state = self.op1.function(scaled[:, i], state)
            result[:, i] = state
        self.accumulator.values[:partitions] = state
        values.write(self.dst, result)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        return vector_work(signature, chip, 2 * signature["src"].elements)
