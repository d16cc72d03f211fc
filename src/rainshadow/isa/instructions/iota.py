"""dst[p, i] = offset + p * channel_multiplier + pattern(i), on GpSimdE.

Source of rules and cost: AWS Neuron docs 2.32 nki.isa.iota; cost formula from the same page at
tag v2.26.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import gpsimd_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.memory import Space
from rainshadow.isa.strides import affine_values
from rainshadow.machine import Chip


@instruction
@dataclass(slots=True)
class Iota(Instruction):
    """dst: [P, N] in SBUF; pattern: up to 4 (step, count) pairs whose counts multiply to N."""

    opcode = "iota"
    READS = ()
    PARAMS = ("pattern", "channel_multiplier")
    EXAMPLE = "nisa.iota(dst=column, pattern=[[1, 512]], offset=0, channel_multiplier=0)"

    dst: AccessPattern
    pattern: tuple[tuple[int, int], ...]
    offset: int = 0
    channel_multiplier: int = 0
    engine: Engine = Engine.gpsimd

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst)
        rules.require_space(self.opcode, "dst", self.dst, Space.sbuf)
        rules.require_on_chip(self.opcode, dst=self.dst)
        rules.require_affine_pattern(self.opcode, self.pattern, self.dst)

    def meaning(self) -> None:
        grid = affine_values(self.dst.shape[0], self.pattern, self.offset, self.channel_multiplier)
        grid = grid.astype(np.int32)  # 32-bit arithmetic
        if np.dtype(self.dst.array.dtype).kind in "iu":
            self.dst.array[...] = grid.reshape(self.dst.shape).astype(self.dst.array.dtype)
        else:
            values.write(self.dst, grid.astype(np.float32))

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """150 + N cycles."""
        return gpsimd_work(chip, signature.dst.elements)
