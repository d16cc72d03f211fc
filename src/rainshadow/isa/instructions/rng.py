"""dst = random bits, 32 per element of which the lowest are kept, on VectorE or GpSimdE.

Source of rules and numerics: AWS Neuron docs 2.32 nki.isa.rng; the streams: isa/random.py. No cost
is published: an assumption with a range, in the machine data.
"""

from __future__ import annotations

from dataclasses import dataclass

from rainshadow import dtypes
from rainshadow.isa import rules
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import unpublished_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.random import Generators
from rainshadow.machine import Chip

_INTEGERS = ("int8", "int16", "int32", "uint8", "uint16", "uint32")


@instruction
@dataclass(slots=True)
class Rng(Instruction):
    """dst: [P, free...] of integers, in SBUF or PSUM."""

    opcode = "rng"
    READS = ()
    EXAMPLE = "nisa.rng(dst=bits)"

    dst: AccessPattern
    generators: Generators
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst)
        allowed = (Engine.vector,) if chip.generation == "gen2" else (Engine.vector, Engine.gpsimd)
        rules.require_engine(self.opcode, self.engine, *allowed)
        rules.require_on_chip(self.opcode, dst=self.dst)
        rules.require_no_gpsimd_psum(self.opcode, self.engine, dst=self.dst)
        rules.require_dtype(self.opcode, "dst", self.dst, *_INTEGERS)

    def meaning(self) -> None:
        words = self.generators.of(self.engine).draw(self.dst.shape[0], self.dst.elements)
        kept = words.astype(f"u{self.dst.itemsize}").view(dtypes.numpy_dtype(self.dst.dtype))
        self.dst.array[...] = kept.reshape(self.dst.shape)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        return unpublished_work(signature, chip, signature.dst.elements)
