"""dst = reduction of data over its last free axes, on VectorE.

Source of rules, numerics and cost: AWS Neuron docs 2.32 nki.isa.tensor_reduce; cost formula from
the same page at tag v2.26.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import is_half_width, vector_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.operators import AluOperator
from rainshadow.machine import Chip

#: ALU operator -> NumPy reduction over an axis tuple.
REDUCTIONS: dict[str, Any] = {
    "add": np.add.reduce,
    "multiply": np.multiply.reduce,
    "maximum": np.maximum.reduce,
    "minimum": np.minimum.reduce,
    "subtract": np.subtract.reduce,
    "bitwise_and": np.bitwise_and.reduce,
    "bitwise_or": np.bitwise_or.reduce,
    "bitwise_xor": np.bitwise_xor.reduce,
    "logical_and": lambda a, axis: np.all(a != 0, axis=axis).astype(np.float32),
    "logical_xor": lambda a, axis: (np.sum(a != 0, axis=axis) % 2).astype(np.float32),
    "logical_or": lambda a, axis: np.any(a != 0, axis=axis).astype(np.float32),
}


@instruction
@dataclass(slots=True)
class TensorReduce(Instruction):
    """dst: [P, kept...] or with size-1 axes; data: [P, free...]; axis: the last free axes."""

    opcode = "tensor_reduce"
    READS = ("data",)
    COLUMNS = ("dst", "data")
    PARAMS = ("op", "axis", "negate")
    EXAMPLE = "nisa.tensor_reduce(dst=row_max, op=nl.maximum, data=scores, axis=1)"

    dst: AccessPattern
    op: AluOperator
    data: AccessPattern
    axis: tuple[int, ...]
    negate: bool = False
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst, data=self.data)
        rules.require_on_chip(self.opcode, dst=self.dst, data=self.data)
        rules.require_same_partitions(self.opcode, dst=self.dst, data=self.data)
        if self.op.name not in REDUCTIONS:
            raise NkiValidationError(
                f"{self.opcode}: op {self.op.name}", allowed=", ".join(sorted(REDUCTIONS))
            )
        rules.require_integers_for_bits(self.opcode, self.op, dst=self.dst, data=self.data)
        if self.negate and self.op.kind == "bitvec":
            raise NkiValidationError(
                f"{self.opcode}: negate with {self.op.name}", allowed="negate with arithmetic"
            )
        ndim = self.data.ndim
        if tuple(self.axis) != tuple(range(ndim - len(self.axis), ndim)) or 0 in self.axis:
            raise NkiValidationError(
                f"{self.opcode}: axis {self.axis} of a tensor of shape {self.data.shape}",
                allowed="the last free axes, ending at the final one, never axis 0",
                fix="permute the view so that the reduced axes come last",
            )
        kept = 1
        for extent in self.data.shape[1 : ndim - len(self.axis)]:
            kept *= extent
        if self.dst.elements != kept:
            raise NkiValidationError(
                f"{self.opcode}: dst has {self.dst.elements} elements per partition",
                allowed=f"{kept} for data {self.data.shape} reduced over {self.axis}",
            )

    def meaning(self) -> None:
        bitvec = self.op.kind == "bitvec"
        data = self.data.array if bitvec else values.read_f32(self.data)
        result = REDUCTIONS[self.op.name](data, axis=self.axis)
        values.write(self.dst, -result if self.negate else result)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """N cycles; N/2 for add and maximum with bf16/fp16 input and output."""
        elements = signature["data"].elements
        halved = is_half_width(signature["data"], signature.dst) and signature.params["op"] in (
            "add",
            "maximum",
        )
        return vector_work(signature, chip, elements / 2 if halved else elements)
