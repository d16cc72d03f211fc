"""Gives one chunk of every rank's flat buffer, of a size known only at run time, to all ranks.

Source of rules: AWS Neuron docs 2.32 nki.collectives.all_gather_v, with its present
limitations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.collective import (
    Collective,
    chunk_of,
    collective_work,
    others_share,
    place_chunk,
    total_bytes,
)
from rainshadow.isa.instruction import Signature, Work, instruction
from rainshadow.machine import Chip


@instruction
@dataclass(slots=True, kw_only=True)
class AllGatherV(Collective):
    """metadata: uint32 [3, ranks]: send count, send displacement, received counts (written)."""

    opcode: ClassVar[str] = "all_gather_v"
    READS: ClassVar[tuple[str, ...]] = ("srcs", "metadata")
    WRITES: ClassVar[tuple[str, ...]] = ("dsts", "metadata")
    PARAMS: ClassVar[tuple[str, ...]] = (*Collective.PARAMS, "recv_counts_known", "has_rdispls")
    EXAMPLE: ClassVar[str] = (
        "ncc.all_gather_v(srcs=[mine], dsts=[slots], "
        "replica_group=ncc.ReplicaGroup([[0, 1, 2, 3]]), metadata_tensor=counts)"
    )

    metadata: AccessPattern
    recv_counts_known: bool
    has_rdispls: bool

    def check(self, chip: Chip) -> None:
        self.check_operands(chip, sbuf=False, most=1)
        self.check_metadata(self.metadata, rows=3)
        if self.has_rdispls:
            raise NkiValidationError(f"{self.opcode}: has_rdispls=True", allowed="False, so far")
        if self.lnc != 2:
            raise NkiValidationError(
                f"{self.opcode} with LNC {self.lnc}", allowed="LNC 2", fix="launch with kernel[2]"
            )
        if self.group_size != 4:
            raise NkiValidationError(
                f"{self.opcode} among {self.group_size} ranks", allowed="4 ranks in each list"
            )

    def meaning(self) -> None:
        src, mine = self.srcs[0], self.metadata
        members = self.gather(lambda: chunk_of(self.opcode, src, mine, 0))
        slot = self.dsts[0].size // self.group_size
        for sender, chunk in enumerate(members):
            place_chunk(self.opcode, self.dsts[0], sender * slot, chunk)
        if not self.recv_counts_known:
            counts = np.array([len(chunk) for chunk in members], dtype=np.uint32)
            mine.array.reshape(3, self.group_size)[2] = counts

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """As if every slot were full: the counts are data."""
        received = total_bytes(signature, "dsts") * others_share(signature)
        return collective_work(signature, chip, received_bytes=received)
