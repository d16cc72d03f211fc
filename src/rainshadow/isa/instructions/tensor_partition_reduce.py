"""dst[0, :] = reduction of data over its partitions, on GpSimdE.

Source of rules: AWS Neuron docs 2.32 nki.isa.tensor_partition_reduce. No cost is published: the
model takes GpSimdE's start-up and one element per partition and cycle, as for its other
instructions; partitions are combined in a tree, one level per doubling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import gpsimd_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.operators import AluOperator
from rainshadow.machine import Chip

_OPERATORS = ("add", "average", "maximum", "bitwise_or", "bitwise_and")


@instruction
@dataclass(slots=True)
class TensorPartitionReduce(Instruction):
    """dst: [1, N]; data: [P, N] in SBUF."""

    opcode = "tensor_partition_reduce"
    READS = ("data",)
    PARAMS = ("op",)
    EXAMPLE = "nisa.tensor_partition_reduce(dst=column_sum, op=nl.add, data=tile)"

    dst: AccessPattern
    op: AluOperator
    data: AccessPattern
    engine: Engine = Engine.gpsimd

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst, data=self.data)
        rules.require_on_chip(self.opcode, dst=self.dst, data=self.data)
        rules.require_no_gpsimd_psum(self.opcode, self.engine, dst=self.dst, data=self.data)
        rules.require_same_elements(self.opcode, dst=self.dst, data=self.data)
        if self.dst.shape[0] != 1:
            raise NkiValidationError(
                f"{self.opcode}: dst has {self.dst.shape[0]} partitions", allowed="1 partition"
            )
        if self.op.name not in _OPERATORS:
            raise NkiValidationError(
                f"{self.opcode}: op {self.op.name}", allowed=", ".join(_OPERATORS)
            )
        rules.require_integers_for_bits(self.opcode, self.op, dst=self.dst, data=self.data)

    def meaning(self) -> None:
        bitvec = self.op.kind == "bitvec"
        data = self.data.array if bitvec else values.read_f32(self.data)
        if self.op.name == "average":
            result = data.mean(axis=0, keepdims=True)
        else:
            result = self.op.function.reduce(data, axis=0, keepdims=True)  # type: ignore[attr-defined]
        values.write(self.dst, result)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        data = signature["data"]
        levels = max(1, math.ceil(math.log2(max(2, data.partitions))))
        return gpsimd_work(chip, data.elements * levels)
