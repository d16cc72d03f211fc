"""Sends a tensor from the first to the second rank of each given pair.

Source of rules: AWS Neuron docs 2.32 nki.collectives.collective_permute. A rank that no pair names
as target keeps its dst as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rainshadow.isa.collective import Collective, collective_work, store, total_bytes
from rainshadow.isa.instruction import Signature, Work, instruction
from rainshadow.machine import Chip


@instruction
@dataclass(slots=True, kw_only=True)
class CollectivePermute(Collective):
    """srcs, dsts: one tensor each, in HBM; source: the place of the rank to receive from, or -1."""

    opcode: ClassVar[str] = "collective_permute"
    PARAMS: ClassVar[tuple[str, ...]] = (*Collective.PARAMS, "receives")
    EXAMPLE: ClassVar[str] = (
        "ncc.collective_permute(srcs=[mine], dsts=[theirs], source_target_pairs=[(0, 1), (1, 0)])"
    )

    source: int
    receives: bool

    def check(self, chip: Chip) -> None:
        self.check_operands(chip, sbuf=False, most=1)
        self.check_shape("dsts[0]", self.dsts[0], self.srcs[0].shape)

    def meaning(self) -> None:
        members = self.gathered()
        if self.receives:
            store(self.dsts[0], members[self.source][0])

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        received = total_bytes(signature, "dsts") if signature.params["receives"] else 0
        return collective_work(signature, chip, received_bytes=received)
