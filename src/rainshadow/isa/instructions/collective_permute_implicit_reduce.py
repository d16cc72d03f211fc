"""Sends op(srcs0, srcs1) of each channel to the next rank of the ring that the group forms.

Source of rules: AWS Neuron docs 2.32 nki.collectives.collective_permute_implicit_reduce. Which rank
is next is not published: the model takes the group's order, on every channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rainshadow.isa.access import AccessPattern
from rainshadow.isa.collective import (
    Collective,
    collective_work,
    reduced,
    store,
    total_bytes,
)
from rainshadow.isa.instruction import Signature, Work, instruction
from rainshadow.isa.operators import AluOperator
from rainshadow.machine import Chip


@instruction
@dataclass(slots=True, kw_only=True)
class CollectivePermuteImplicitReduce(Collective):
    """srcs, srcs1, dsts: a tensor for each channel, in HBM or SBUF."""

    opcode: ClassVar[str] = "collective_permute_implicit_reduce"
    READS: ClassVar[tuple[str, ...]] = ("srcs", "srcs1")
    PARAMS: ClassVar[tuple[str, ...]] = (*Collective.PARAMS, "op", "channel_ids")
    EXAMPLE: ClassVar[str] = (
        "ncc.collective_permute_implicit_reduce(srcs0_by_channel=[[mine]], "
        "srcs1_by_channel=[[arrived]], dsts_by_channel=[[theirs]], "
        "replica_group=ncc.ReplicaGroup([[0, 1]]), op=nl.add)"
    )

    srcs1: tuple[AccessPattern, ...]
    op: AluOperator
    channel_ids: tuple[int, ...]

    def check(self, chip: Chip) -> None:
        self.check_channels(chip, self.channel_ids, self.srcs1)
        self.check_reducer(self.op, self.srcs[0].dtype)
        for index, (src, dst) in enumerate(zip(self.srcs, self.dsts, strict=True)):
            self.check_shape(f"dsts of channel {index}", dst, src.shape)
            self.check_shape(f"srcs1 of channel {index}", self.srcs1[index], src.shape)

    def meaning(self) -> None:
        pairs = list(zip(self.srcs, self.srcs1, strict=True))
        members = self.gather(lambda: [reduced([a.array, b.array], self.op) for a, b in pairs])
        for dst, arrived in zip(self.dsts, members[self.position - 1], strict=True):
            store(dst, arrived)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        return collective_work(signature, chip, received_bytes=total_bytes(signature, "dsts"))
