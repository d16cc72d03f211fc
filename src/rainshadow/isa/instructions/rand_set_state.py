"""Loads the random number generators' states from a tile.

Source of rules: AWS Neuron docs 2.32 nki.isa.rand_set_state: 6 words per lane on GpSimdE
(v3 on), 24 on VectorE (v4 on). No cost is published: an assumption with a range (machine data).
"""

from __future__ import annotations

from dataclasses import dataclass

from rainshadow.isa import rules
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import unpublished_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.memory import Space
from rainshadow.isa.random import Generators
from rainshadow.machine import Chip


@instruction
@dataclass(slots=True)
class RandSetState(Instruction):
    """src_seeds: [P, 6 or 24] uint32 in SBUF."""

    opcode = "rand_set_state"
    READS = ("src_seeds",)
    WRITES = ()
    EXAMPLE = "nisa.rand_set_state(src_seeds=state)"

    src_seeds: AccessPattern
    generators: Generators
    engine: Engine = Engine.gpsimd

    def check(self, chip: Chip) -> None:
        rules.require_generation(self.opcode, chip, "gen3", "gen4")
        rules.require_tensor(self.opcode, src_seeds=self.src_seeds)
        allowed = (Engine.gpsimd, Engine.vector) if chip.generation == "gen4" else (Engine.gpsimd,)
        rules.require_engine(self.opcode, self.engine, *allowed)
        rules.require_space(self.opcode, "src_seeds", self.src_seeds, Space.sbuf)
        rules.require_on_chip(self.opcode, src_seeds=self.src_seeds)
        rules.require_dtype(self.opcode, "src_seeds", self.src_seeds, "uint32")
        words = self.generators.of(self.engine).words
        rules.require_elements(self.opcode, "src_seeds", self.src_seeds, words, words)

    def meaning(self) -> None:
        partitions = self.src_seeds.shape[0]
        self.generators.of(self.engine).set(self.src_seeds.array.reshape(partitions, -1))

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        return unpublished_work(signature, chip, signature["src_seeds"].elements)
