"""Gives part i of every rank's tensor to rank i of the group, in the order of the ranks.

Source of rules: AWS Neuron docs 2.32 nki.collectives.all_to_all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa.collective import (
    Collective,
    collective_work,
    others_share,
    store,
    total_bytes,
)
from rainshadow.isa.instruction import Signature, Work, instruction
from rainshadow.machine import Chip


@instruction
@dataclass(slots=True, kw_only=True)
class AllToAll(Collective):
    """srcs, dsts: of equal shapes in HBM; axis 0 is a multiple of the number of ranks."""

    opcode: ClassVar[str] = "all_to_all"
    PARAMS: ClassVar[tuple[str, ...]] = (*Collective.PARAMS, "collective_dim")
    EXAMPLE: ClassVar[str] = (
        "ncc.all_to_all(srcs=[mine], dsts=[swapped], "
        "replica_group=ncc.ReplicaGroup([[0, 1]]), collective_dim=0)"
    )

    collective_dim: int

    def check(self, chip: Chip) -> None:
        self.check_operands(chip, sbuf=False)
        self.check_dim(self.collective_dim, 0)
        for index, (src, dst) in enumerate(zip(self.srcs, self.dsts, strict=True)):
            self.check_shape(f"dsts[{index}]", dst, src.shape)
            if src.shape[0] % self.group_size:
                raise NkiValidationError(
                    f"{self.opcode}: axis 0 of srcs[{index}] is {src.shape[0]}",
                    allowed=f"a multiple of {self.group_size}, the ranks of the group",
                )

    def meaning(self) -> None:
        members = self.gathered()
        for index, dst in enumerate(self.dsts):
            rows = dst.shape[0] // self.group_size
            mine = slice(self.position * rows, (self.position + 1) * rows)
            store(dst, np.concatenate([arrays[index][mine] for arrays in members]))

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        received = total_bytes(signature, "srcs") * others_share(signature)
        return collective_work(signature, chip, received_bytes=received)
