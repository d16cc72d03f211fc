"""Seeds VectorE's random number generator from a 32-bit value.

Source of rules: AWS Neuron docs 2.32 nki.isa.set_rng_seed; how the lanes' states follow from the
seed is not published: isa/random.py. No cost is published: an assumption with a range, in the
machine data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import unpublished_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.random import Generators
from rainshadow.machine import Chip

_SEED_BYTES = 4


@instruction
@dataclass(slots=True)
class SetRngSeed(Instruction):
    """src_seeds: [1, 1] of a 32-bit dtype in SBUF or PSUM."""

    opcode = "set_rng_seed"
    READS = ("src_seeds",)
    WRITES = ()
    EXAMPLE = "nisa.set_rng_seed(src_seeds=seed)"

    src_seeds: AccessPattern
    generators: Generators
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, src_seeds=self.src_seeds)
        rules.require_on_chip(self.opcode, src_seeds=self.src_seeds)
        if self.src_seeds.size != 1 or self.src_seeds.itemsize != _SEED_BYTES:
            raise NkiValidationError(
                f"{self.opcode}: src_seeds is {self.src_seeds.dtype}{list(self.src_seeds.shape)}",
                allowed="a tensor [1, 1] of a 32-bit dtype",
            )

    def meaning(self) -> None:
        word = np.ascontiguousarray(self.src_seeds.array).view(np.uint32)
        self.generators.vector.seed(int(word.reshape(-1)[0]))

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        return unpublished_work(signature, chip, signature["src_seeds"].elements)
