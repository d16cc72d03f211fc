"""Sends every rank of the group a chunk of its own, of a size known only at run time.

Source of rules: AWS Neuron docs 2.32 nki.collectives.all_to_all_v. Which groups a fabric can
join is not checked: the simulation has no fabric.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rainshadow.isa import rules
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
class AllToAllV(Collective):
    """metadata: uint32 [3 or 4, ranks]: counts and displacements sent, counts received (written),
    and where each sender's chunk goes.
    """

    opcode: ClassVar[str] = "all_to_all_v"
    READS: ClassVar[tuple[str, ...]] = ("srcs", "metadata")
    WRITES: ClassVar[tuple[str, ...]] = ("dsts", "metadata")
    PARAMS: ClassVar[tuple[str, ...]] = (*Collective.PARAMS, "recv_counts_known", "has_rdispls")
    EXAMPLE: ClassVar[str] = (
        "ncc.all_to_all_v(srcs=[mine], dsts=[slots], "
        "replica_group=ncc.ReplicaGroup([[0, 1]]), metadata_tensor=counts)"
    )

    metadata: AccessPattern
    recv_counts_known: bool
    has_rdispls: bool

    def check(self, chip: Chip) -> None:
        self.check_operands(chip, sbuf=False, most=1)
        self.check_metadata(self.metadata, rows=4 if self.has_rdispls else 3)
        if self.has_rdispls:
            rules.require_generation(f"{self.opcode} with has_rdispls", chip, "gen4")

    def meaning(self) -> None:
        ranks, src, mine = range(self.group_size), self.srcs[0], self.metadata
        members = self.gather(lambda: [chunk_of(self.opcode, src, mine, to) for to in ranks])
        table = mine.array.reshape(-1, self.group_size)
        slot = self.dsts[0].size // self.group_size
        for sender, chunks in enumerate(members):
            start = int(table[3][sender]) if self.has_rdispls else sender * slot
            place_chunk(self.opcode, self.dsts[0], start, chunks[self.position])
        if not self.recv_counts_known:
            counts = [len(chunks[self.position]) for chunks in members]
            table[2] = np.array(counts, dtype=np.uint32)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """As if dst were filled: the counts are data."""
        received = total_bytes(signature, "dsts") * others_share(signature)
        return collective_work(signature, chip, received_bytes=received)
