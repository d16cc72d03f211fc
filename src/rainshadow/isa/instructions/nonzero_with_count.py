"""dst = positions of the nonzero elements of src, padding, and their count, on GpSimdE.

Source of rules and numerics: AWS Neuron docs 2.32 nki.isa.nonzero_with_count: only partitions 0,
16, 32... are read and written. No cost is published: the model takes GpSimdE's start-up and one
element per cycle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import gpsimd_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.memory import Space
from rainshadow.machine import Chip

#: Partitions that one of GpSimdE's eight cores is connected to; it works on the first of them.
_PARTITIONS_PER_CORE = 16


@instruction
@dataclass(slots=True)
class NonzeroWithCount(Instruction):
    """dst: [P, T + 1] int32; src: [P, T] float32 or int32; both in SBUF."""

    opcode = "nonzero_with_count"
    READS = ("src",)
    PARAMS = ("index_offset", "padding_val")
    EXAMPLE = "nisa.nonzero_with_count(dst=positions, src=mask)"

    dst: AccessPattern
    src: AccessPattern
    index_offset: int = 0
    padding_val: int = -1
    engine: Engine = Engine.gpsimd

    def check(self, chip: Chip) -> None:
        rules.require_generation(self.opcode, chip, "gen3", "gen4")
        rules.require_tensor(self.opcode, dst=self.dst, src=self.src)
        for name, view in (("dst", self.dst), ("src", self.src)):
            rules.require_space(self.opcode, name, view, Space.sbuf)
        rules.require_same_partitions(self.opcode, dst=self.dst, src=self.src)
        rules.require_elements(
            self.opcode, "dst", self.dst, self.src.elements + 1, self.src.elements + 1
        )
        if self.src.dtype not in ("float32", "int32") or self.dst.dtype != "int32":
            raise NkiValidationError(
                f"{self.opcode}: src {self.src.dtype}, dst {self.dst.dtype}",
                allowed="src float32 or int32, dst int32",
            )

        for name, value in (("index_offset", self.index_offset), ("padding_val", self.padding_val)):
            if not -(2**31) <= value < 2**31:
                raise NkiValidationError(f"{self.opcode}: {name} {value}", allowed="an int32")

    def meaning(self) -> None:
        source = self.src.array.reshape(self.src.shape[0], -1)
        result = self.dst.array.reshape(self.dst.shape[0], -1).copy()
        for partition in range(0, len(source), _PARTITIONS_PER_CORE):
            found = np.flatnonzero(source[partition]) + self.index_offset
            result[partition, :-1] = self.padding_val
            result[partition, : len(found)] = found
            result[partition, -1] = len(found)
        self.dst.array[...] = result.reshape(self.dst.shape)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        return gpsimd_work(chip, signature["src"].elements)
