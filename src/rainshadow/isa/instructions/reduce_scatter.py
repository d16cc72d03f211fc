"""Reduces tensors elementwise over the ranks of a group; each rank gets one part of the result.

Source of rules: AWS Neuron docs 2.32 nki.collectives.reduce_scatter. The order of additions is not
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
class ReduceScatter(Collective):
    """srcs: dsts' shapes with axis 0 as many times as long as there are ranks."""

    opcode: ClassVar[str] = "reduce_scatter"
    PARAMS: ClassVar[tuple[str, ...]] = (*Collective.PARAMS, "op", "collective_dim")
    EXAMPLE: ClassVar[str] = (
        "ncc.reduce_scatter(srcs=[mine], dsts=[part], "
        "replica_group=ncc.ReplicaGroup([[0, 1]]), collective_dim=0, op=nl.add)"
    )

    op: AluOperator
    collective_dim: int

    def check(self, chip: Chip) -> None:
        self.check_operands(chip, sbuf=True)
        self.check_reducer(self.op, self.srcs[0].dtype)
        self.check_dim(self.collective_dim, 0)
        for index, (src, dst) in enumerate(zip(self.srcs, self.dsts, strict=True)):
            wanted = (dst.shape[0] * self.group_size, *dst.shape[1:])
            self.check_shape(f"srcs[{index}]", src, wanted)

    def meaning(self) -> None:
        members = self.gathered()
        for index, dst in enumerate(self.dsts):
            rows = dst.shape[0]
            mine = slice(self.position * rows, (self.position + 1) * rows)
            store(dst, reduced([arrays[index][mine] for arrays in members], self.op))

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        received = total_bytes(signature, "srcs") * others_share(signature)
        return collective_work(signature, chip, received_bytes=received)
