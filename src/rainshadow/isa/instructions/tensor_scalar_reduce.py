"""dst = data op0 operand0, and the reduction of dst along its free axes, on VectorE.

Source of rules, numerics and cost: AWS Neuron docs 2.32 nki.isa.tensor_scalar_reduce; cost formula
from the same page at tag v2.26.1: max(64, N) + 64 cycles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.accumulator import Accumulator
from rainshadow.isa.costs import core_of, vector_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.operators import AluOperator
from rainshadow.machine import Chip

_REDUCTIONS = ("add", "multiply", "maximum", "minimum")


@instruction
@dataclass(slots=True)
class TensorScalarReduce(Instruction):
    """dst, data: [P, free...]; operand0: number or [P, 1]; reduce_res: [P, 1] or None."""

    opcode = "tensor_scalar_reduce"
    READS = ("data", "operand0", "reduce_init")
    COLUMNS = ("dst", "data")
    WRITES = ("dst", "reduce_res")
    PARAMS = ("op0", "reduce_op", "reduce_cmd")
    EXAMPLE = (
        "nisa.tensor_scalar_reduce(dst=y, data=x, op0=nl.multiply, operand0=2.0, "
        "reduce_op=nl.add, reduce_res=row_sum)"
    )

    dst: AccessPattern
    data: AccessPattern
    op0: AluOperator
    operand0: Any
    reduce_op: AluOperator
    accumulator: Accumulator
    reduce_res: AccessPattern | None = None
    reverse0: bool = False
    reduce_cmd: str = "reset_reduce"
    reduce_init: Any = None
    negate: bool = False
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst, data=self.data)
        rules.require_on_chip(self.opcode, dst=self.dst, data=self.data)
        rules.require_same_partitions(self.opcode, dst=self.dst, data=self.data)
        rules.require_same_elements(self.opcode, dst=self.dst, data=self.data)
        partitions = self.data.shape[0]
        rules.require_scalar_or_column(self.opcode, "operand0", self.operand0, partitions)
        if self.reduce_res is not None:
            rules.require_scalar_or_column(self.opcode, "reduce_res", self.reduce_res, partitions)
        rules.require_no_operand_of_unary(self.opcode, "operand0", self.op0, self.operand0)
        rules.require_dtype(self.opcode, "operand0", self.operand0, "float32")
        rules.require_operator_of_chip(self.opcode, chip, self.op0)
        rules.require_dtype(self.opcode, "reduce_init", self.reduce_init, "float32")
        rules.require_reduce_cmd(
            self.opcode, self.reduce_cmd, "reset_reduce", "reduce", "load_reduce"
        )
        if self.op0.kind == "bitvec" or self.reduce_op.name not in _REDUCTIONS:
            raise NkiValidationError(
                f"{self.opcode}: op0 {self.op0.name}, reduce_op {self.reduce_op.name}",
                allowed=f"an arithmetic op0; reduce_op one of {', '.join(_REDUCTIONS)}",
            )
        if self.reduce_init is not None:
            rules.require_scalar_or_column(self.opcode, "reduce_init", self.reduce_init, partitions)
        if (self.reduce_init is not None) != (self.reduce_cmd == "load_reduce"):
            raise NkiValidationError(
                f"{self.opcode}: reduce_init with reduce_cmd {self.reduce_cmd}",
                allowed="reduce_init with load_reduce, and only with it",
            )

    def meaning(self) -> None:
        data = values.read_f32(self.data)
        other = values.column_f32(self.operand0, data.ndim)
        pair = (other, data) if self.reverse0 else (data, other)
        result = self.op0.function(*pair)
        values.write(self.dst, result)
        initial = None if self.reduce_init is None else values.read_f32(self.reduce_init)
        self.accumulator.start(self.reduce_cmd, self.reduce_op.name, data.shape[0], initial)
        total = self.accumulator.accumulate(self.reduce_op.name, result)
        if self.reduce_res is not None:
            values.write(self.reduce_res, -total if self.negate else total)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        vector = core_of(chip).vector
        interval = vector.min_initiation_cycles.value
        return vector_work(signature, chip, max(interval, signature["data"].elements) + interval)
