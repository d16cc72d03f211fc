"""dst = src, with a dtype cast where they differ, on VectorE, ScalarE or GpSimdE.

Source of rules, numerics and cost: AWS Neuron docs 2.32 nki.isa.tensor_copy; cost formula from
the same page at tag v2.26.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import copy_rate, engine_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.machine import Chip


@instruction
@dataclass(slots=True)
class TensorCopy(Instruction):
    """dst, src: [P, free...] in SBUF or PSUM with equal element counts."""

    opcode = "tensor_copy"
    READS = ("src",)
    COLUMNS = ("dst", "src")
    EXAMPLE = "nisa.tensor_copy(dst=result_sbuf, src=result_psum)"

    dst: AccessPattern
    src: AccessPattern
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst, src=self.src)
        allowed = [Engine.vector, Engine.gpsimd]
        if chip.generation != "gen2":
            allowed.append(Engine.scalar)
        rules.require_engine(self.opcode, self.engine, *allowed)
        rules.require_on_chip(self.opcode, dst=self.dst, src=self.src)
        rules.require_same_partitions(self.opcode, dst=self.dst, src=self.src)
        rules.require_same_elements(self.opcode, dst=self.dst, src=self.src)
        rules.require_no_gpsimd_psum(self.opcode, self.engine, dst=self.dst, src=self.src)

    def meaning(self) -> None:
        if self.dst.dtype == self.src.dtype:
            self.dst.array[...] = self.src.array.reshape(self.dst.shape)
        else:
            values.write(self.dst, values.read_f32(self.src))

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """max(64, N) cycles; fewer in v3's performance mode."""
        src = signature["src"]
        return engine_work(signature, chip, src.elements / copy_rate(signature, chip, src))
