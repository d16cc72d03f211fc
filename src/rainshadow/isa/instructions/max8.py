"""dst = the 8 largest values of each partition, largest first, on VectorE.

Source of rules and numerics: AWS Neuron docs 2.32 nki.isa.max8; cost (N cycles) from the same page
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

_FOUND = 8
_MOST_ELEMENTS = 16_384


@instruction
@dataclass(slots=True)
class Max8(Instruction):
    """dst: [P, 8]; src: [P, free...] of 8 to 16,384 elements per partition."""

    opcode = "max8"
    READS = ("src",)
    EXAMPLE = "nisa.max8(dst=largest, src=scores)"

    dst: AccessPattern
    src: AccessPattern
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst, src=self.src)
        rules.require_on_chip(self.opcode, dst=self.dst, src=self.src)
        rules.require_same_partitions(self.opcode, dst=self.dst, src=self.src)
        rules.require_elements(self.opcode, "src", self.src, _FOUND, _MOST_ELEMENTS)
        rules.require_elements(self.opcode, "dst", self.dst, _FOUND, _FOUND)
        rules.require_most_axes(self.opcode, "src", self.src, 3)
        rules.require_most_axes(self.opcode, "dst", self.dst, 2)

    def meaning(self) -> None:
        data = values.read_f32(self.src).reshape(self.src.shape[0], -1)
        largest = -np.sort(-data, axis=1)[:, :_FOUND]
        values.write(self.dst, largest)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """N cycles."""
        return vector_work(signature, chip, signature["src"].elements)
