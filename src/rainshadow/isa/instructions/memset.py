"""dst = value, on VectorE or GpSimdE.

Source of rules and cost: AWS Neuron docs 2.32 nki.isa.memset; cost formula from the same page at
tag v2.26.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import engine_work, is_half_width
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.machine import Chip


@instruction
@dataclass(slots=True)
class Memset(Instruction):
    """dst: [P, free...] in SBUF or PSUM; value: a number."""

    opcode = "memset"
    READS = ()
    PARAMS = ("value",)
    VALUES = ("value",)
    EXAMPLE = "nisa.memset(dst=accumulator, value=0.0)"

    dst: AccessPattern
    value: float
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst)
        rules.require_engine(self.opcode, self.engine, Engine.vector, Engine.gpsimd)
        rules.require_on_chip(self.opcode, dst=self.dst)
        rules.require_no_gpsimd_psum(self.opcode, self.engine, dst=self.dst)
        rules.require_number(self.opcode, "value", self.value)
        rules.require_representable(self.opcode, "value", self.value, self.dst)
        if str(self.dst.dtype).endswith("_x4") and self.value != 0:
            raise NkiValidationError(
                f"{self.opcode}: value {self.value} into {self.dst.dtype}", allowed="0"
            )

    def meaning(self) -> None:
        self.dst.array[...] = self.value

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """max(64, N) cycles; N/2 for zeros in 16-bit dtypes."""
        elements = signature.dst.elements
        halved = signature.params["value"] == 0 and is_half_width(signature.dst)
        return engine_work(signature, chip, elements / 2 if halved else elements)
