"""dst = uniform random numbers between two bounds, on VectorE of NeuronCore-v4.

Source of rules and numerics: AWS Neuron docs 2.32 nki.isa.rand2; rate from the Trainium 3 guide: 4
words per lane and cycle. How a word becomes a float is not published: see isa/random.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import core_of, vector_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.random import Generators, uniform
from rainshadow.machine import Chip

_DTYPES = (
    "float8_e4m3", "float8_e5m2", "float16", "bfloat16", "float32", "tfloat32",
    "int8", "int16", "int32", "uint8", "uint16", "uint32",
)  # fmt: skip


@instruction
@dataclass(slots=True)
class Rand2(Instruction):
    """dst: [P, free...]; min, max: number or float32 [P, 1]."""

    opcode = "rand2"
    READS = ("min", "max")
    VALUES = ("min", "max")
    EXAMPLE = "nisa.rand2(dst=noise, min=-1.0, max=1.0)"

    dst: AccessPattern
    min: Any
    max: Any
    generators: Generators
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        rules.require_generation(self.opcode, chip, "gen4")
        rules.require_tensor(self.opcode, dst=self.dst)
        rules.require_on_chip(self.opcode, dst=self.dst)
        rules.require_dtype(self.opcode, "dst", self.dst, *_DTYPES)
        for name, bound in (("min", self.min), ("max", self.max)):
            rules.require_scalar_or_column(self.opcode, name, bound, self.dst.shape[0])
            rules.require_dtype(self.opcode, name, bound, "float32")
        numbers = not rules.is_tensor(self.min) and not rules.is_tensor(self.max)
        if numbers and not self.min < self.max:
            raise NkiValidationError(
                f"{self.opcode}: min {self.min}, max {self.max}", allowed="min below max"
            )

    def meaning(self) -> None:
        words = self.generators.vector.draw(self.dst.shape[0], self.dst.elements)
        low, high = values.column_f32(self.min, 2), values.column_f32(self.max, 2)
        values.write(self.dst, low + uniform(words) * (high - low).astype(np.float32))

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        return vector_work(
            signature, chip, signature.dst.elements / core_of(chip).vector.quad_rate.value
        )
