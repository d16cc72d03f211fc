"""dst = 1 / data, on VectorE.

Source of rules and cost: AWS Neuron docs 2.32 nki.isa.reciprocal; cost formula from the same page
at tag v2.26.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import vector_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.machine import Chip

#: The docs' cost: 8 cycles per element.
_CYCLES_PER_ELEMENT = 8


@instruction
@dataclass(slots=True)
class Reciprocal(Instruction):
    """dst, data: [P, free...] in SBUF or PSUM."""

    opcode = "reciprocal"
    READS = ("data",)
    EXAMPLE = "nisa.reciprocal(dst=inverse, data=row_sum)"

    dst: AccessPattern
    data: AccessPattern
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst, data=self.data)
        rules.require_on_chip(self.opcode, dst=self.dst, data=self.data)
        rules.require_same_partitions(self.opcode, dst=self.dst, data=self.data)
        rules.require_same_elements(self.opcode, dst=self.dst, data=self.data)

    def meaning(self) -> None:
        values.write(self.dst, np.reciprocal(values.read_f32(self.data)))

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """max(64, 8N) cycles."""
        return vector_work(signature, chip, _CYCLES_PER_ELEMENT * signature["data"].elements)
