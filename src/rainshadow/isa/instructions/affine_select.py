"""dst = on_true where an affine expression of the position compares true with 0, else a number.

Source of rules and cost: AWS Neuron docs 2.32 nki.isa.affine_select; cost formula from the same
page at tag v2.26.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import gpsimd_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.memory import Space
from rainshadow.isa.operators import AluOperator
from rainshadow.isa.strides import affine_values
from rainshadow.machine import Chip


@instruction
@dataclass(slots=True)
class AffineSelect(Instruction):
    """dst, on_true_tile: [P, N] in SBUF; predicate: cmp_op(affine value of the position, 0)."""

    opcode = "affine_select"
    READS = ("on_true_tile", "on_false_value")
    PARAMS = ("pattern", "channel_multiplier", "cmp_op")
    EXAMPLE = (
        "nisa.affine_select(dst=masked, pattern=[[-1, 128]], channel_multiplier=1, "
        "on_true_tile=scores, on_false_value=-1e30, cmp_op=nl.greater_equal)"
    )

    dst: AccessPattern
    pattern: tuple[tuple[int, int], ...]
    channel_multiplier: int
    on_true_tile: AccessPattern
    on_false_value: float
    cmp_op: AluOperator
    offset: int = 0
    engine: Engine = Engine.gpsimd

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst, on_true_tile=self.on_true_tile)
        for name, view in (("dst", self.dst), ("on_true_tile", self.on_true_tile)):
            rules.require_space(self.opcode, name, view, Space.sbuf)
        rules.require_on_chip(self.opcode, dst=self.dst, on_true_tile=self.on_true_tile)
        rules.require_same_partitions(self.opcode, dst=self.dst, on_true_tile=self.on_true_tile)
        rules.require_same_elements(self.opcode, dst=self.dst, on_true_tile=self.on_true_tile)
        rules.require_affine_pattern(self.opcode, self.pattern, self.dst)
        rules.require_number(self.opcode, "on_false_value", self.on_false_value)
        if self.cmp_op.kind != "compare":
            raise NkiValidationError(
                f"{self.opcode}: cmp_op {self.cmp_op.name}",
                allowed="equal, not_equal, greater, greater_equal, less, less_equal",
            )

    def meaning(self) -> None:
        grid = affine_values(
            self.dst.shape[0], self.pattern, self.offset, self.channel_multiplier
        ).reshape(self.dst.shape)
        keep = self.cmp_op.function(grid, 0).astype(bool)
        source = self.on_true_tile.array.reshape(self.dst.shape)
        picked = values.cast(source, self.dst.array.dtype)
        otherwise = values.cast(np.full(1, self.on_false_value, dtype=np.float32), picked.dtype)
        self.dst.array[...] = np.where(keep, picked, otherwise)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """150 + N cycles."""
        return gpsimd_work(chip, signature.dst.elements)
