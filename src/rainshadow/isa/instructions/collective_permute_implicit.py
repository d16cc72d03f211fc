"""Sends each channel's tensor to the next rank of the ring that the group forms.

Source of rules: AWS Neuron docs 2.32 nki.collectives.collective_permute_implicit. Which rank is
next is not published: the model takes the group's order, on every channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rainshadow.isa.collective import Collective, collective_work, store, total_bytes
from rainshadow.isa.instruction import Signature, Work, instruction
from rainshadow.machine import Chip


@instruction
@dataclass(slots=True, kw_only=True)
class CollectivePermuteImplicit(Collective):
    """srcs, dsts: a tensor for each channel, in HBM or SBUF."""

    opcode: ClassVar[str] = "collective_permute_implicit"
    PARAMS: ClassVar[tuple[str, ...]] = (*Collective.PARAMS, "channel_ids")
    EXAMPLE: ClassVar[str] = (
        "ncc.collective_permute_implicit(srcs_by_channel=[[mine]], dsts_by_channel=[[theirs]], "
        "replica_group=ncc.ReplicaGroup([[0, 1]]))"
    )

    channel_ids: tuple[int, ...]

    def check(self, chip: Chip) -> None:
        self.check_channels(chip, self.channel_ids)
        for index, (src, dst) in enumerate(zip(self.srcs, self.dsts, strict=True)):
            self.check_shape(f"dsts of channel {index}", dst, src.shape)

    def meaning(self) -> None:
        previous = self.gathered()[self.position - 1]
        for dst, arrived in zip(self.dsts, previous, strict=True):
            store(dst, arrived)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        return collective_work(signature, chip, received_bytes=total_bytes(signature, "dsts"))
