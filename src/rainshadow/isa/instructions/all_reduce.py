"""Reduces tensors elementwise over the ranks of a group; every rank gets the result.

Source of rules: AWS Neuron docs 2.32 nki.collectives.all_reduce. The order of additions is not
published: the model adds in float32 in the group's order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rainshadow.isa.collective import (
    Collective,
    collective_work,
    others_share,
    reduced,
    store,
    total_bytes,
)
from rainshadow.isa.instruction import Signature, Work, instruction
from rainshadow.isa.operators import AluOperator
from rainshadow.machine import Chip


@instruction
@dataclass(slots=True, kw_only=True)
class AllReduce(Collective):
    """srcs, dsts: of equal shapes, in HBM or SBUF."""

    opcode: ClassVar[str] = "all_reduce"
    PARAMS: ClassVar[tuple[str, ...]] = (*Collective.PARAMS, "op")
    EXAMPLE: ClassVar[str] = (
        "ncc.all_reduce(srcs=[mine], dsts=[total], "
        "replica_group=ncc.ReplicaGroup([[0, 1, 2, 3]]), op=nl.add)"
    )

    op: AluOperator

    def check(self, chip: Chip) -> None:
        self.check_operands(chip, sbuf=True)
        self.check_reducer(self.op, self.srcs[0].dtype)
        for index, (src, dst) in enumerate(zip(self.srcs, self.dsts, strict=True)):
            self.check_shape(f"dsts[{index}]", dst, src.shape)

    def meaning(self) -> None:
        members = self.gathered()
        for index, dst in enumerate(self.dsts):
            store(dst, reduced([arrays[index] for arrays in members], self.op))

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        received = total_bytes(signature, "srcs") * others_share(signature)
        return collective_work(signature, chip, received_bytes=received, passes=2)
