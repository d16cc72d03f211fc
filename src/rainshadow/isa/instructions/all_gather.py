"""Joins the tensors of a group's ranks along one axis; every rank gets the whole.

Source of rules: AWS Neuron docs 2.32 nki.collectives.all_gather.
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
class AllGather(Collective):
    """dsts: srcs' shapes with axis `collective_dim` as many times as long as there are ranks."""

    opcode: ClassVar[str] = "all_gather"
    PARAMS: ClassVar[tuple[str, ...]] = (*Collective.PARAMS, "collective_dim")
    EXAMPLE: ClassVar[str] = (
        "ncc.all_gather(srcs=[mine], dsts=[whole], "
        "replica_group=ncc.ReplicaGroup([[0, 1]]), collective_dim=0)"
    )

    collective_dim: int

    def check(self, chip: Chip) -> None:
        self.check_operands(chip, sbuf=True)
        on_chip = self.srcs[0].space.on_chip
        self.check_dim(self.collective_dim, *((0, 1) if on_chip else (0,)))
        for index, (src, dst) in enumerate(zip(self.srcs, self.dsts, strict=True)):
            if on_chip and src.ndim != 2:
                raise NkiValidationError(
                    f"{self.opcode}: srcs[{index}] in SBUF has shape {src.shape}",
                    allowed="two axes in SBUF",
                )
            wanted = list(src.shape)
            wanted[self.collective_dim] *= self.group_size
            self.check_shape(f"dsts[{index}]", dst, wanted)

    def meaning(self) -> None:
        members = self.gathered()
        for index, dst in enumerate(self.dsts):
            parts = [arrays[index] for arrays in members]
            store(dst, np.concatenate(parts, axis=self.collective_dim))

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        received = total_bytes(signature, "dsts") * others_share(signature)
        return collective_work(signature, chip, received_bytes=received)
