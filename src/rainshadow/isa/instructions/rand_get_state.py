"""Stores the random number generators' states into a tile.

Source of rules: AWS Neuron docs 2.32 nki.isa.rand_get_state: 6 words per lane on GpSimdE
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
class RandGetState(Instruction):
    """dst: [P, 6 or 24] uint32 in SBUF, on v4 also in PSUM."""

    opcode = "rand_get_state"
    READS = ()
    WRITES = ("dst",)
    EXAMPLE = "nisa.rand_get_state(dst=state)"

    dst: AccessPattern
    generators: Generators
    engine: Engine = Engine.gpsimd

    def check(self, chip: Chip) -> None:
        rules.require_generation(self.opcode, chip, "gen3", "gen4")
        rules.require_tensor(self.opcode, dst=self.dst)
        allowed = (Engine.gpsimd, Engine.vector) if chip.generation == "gen4" else (Engine.gpsimd,)
        rules.require_engine(self.opcode, self.engine, *allowed)
        spaces = (Space.sbuf, Space.psum) if chip.generation == "gen4" else (Space.sbuf,)
        rules.require_space(self.opcode, "dst", self.dst, *spaces)
        rules.require_on_chip(self.opcode, dst=self.dst)
        rules.require_no_gpsimd_psum(self.opcode, self.engine, dst=self.dst)
        rules.require_dtype(self.opcode, "dst", self.dst, "uint32")
        words = self.generators.of(self.engine).words
        rules.require_elements(self.opcode, "dst", self.dst, words, words)

    def meaning(self) -> None:
        partitions = self.dst.shape[0]
        words = self.generators.of(self.engine).get(partitions)
        self.dst.array[...] = words.reshape(self.dst.shape)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        return unpublished_work(signature, chip, signature.dst.elements)
