"""Exchanges tiles between the two cores of a logical core, SBUF to SBUF.

Source of rules: AWS Neuron docs 2.32 nki.isa.sendrecv. No time is published: the model takes a DMA
of the tile, which is there when both cores' DMAs are done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow import dtypes
from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import dma_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.memory import Space
from rainshadow.machine import Chip

#: Bytes per partition that GpSimdE's own DMA takes, by element size.
_GPSIMD_BYTES = {4: 1024, 2: 512, 1: 256}


@instruction
@dataclass(slots=True)
class Sendrecv(Instruction):
    """dst, src: tiles of one shape and dtype in SBUF; exchange(kind, data) gives the other's."""

    opcode = "sendrecv"
    READS = ("src",)
    PARAMS = ("dma_engine", "trigger", "ranks")
    MEETS = True
    EXAMPLE = (
        "nisa.sendrecv(src=mine, dst=theirs, send_to_rank=1 - nl.program_id(), "
        "recv_from_rank=1 - nl.program_id(), pipe_id=0)"
    )

    dst: AccessPattern
    src: AccessPattern
    exchange: Any
    ranks: tuple[int, int]
    dma_engine: str = "dma"
    trigger: str = "gpsimd"
    engine: Engine = Engine.dma

    def check(self, chip: Chip) -> None:
        rules.require_generation(self.opcode, chip, "gen3", "gen4")
        rules.require_tensor(self.opcode, dst=self.dst, src=self.src)
        for name, view in (("dst", self.dst), ("src", self.src)):
            rules.require_space(self.opcode, name, view, Space.sbuf)
        rules.require_same_partitions(self.opcode, dst=self.dst, src=self.src)
        rules.require_same_elements(self.opcode, dst=self.dst, src=self.src)
        if self.dst.dtype != self.src.dtype:
            raise NkiValidationError(
                f"{self.opcode}: dst is {self.dst.dtype}, src {self.src.dtype}",
                allowed="one dtype: the bits are moved as they are",
            )
        if any(rank not in (0, 1) for rank in self.ranks):
            raise NkiValidationError(f"{self.opcode}: ranks {self.ranks}", allowed="0 or 1")
        item = dtypes.itemsize(self.src.dtype)
        limit = _GPSIMD_BYTES.get(item, _GPSIMD_BYTES[4])
        if self.dma_engine == "gpsimd_dma" and self.src.elements * item > limit:
            raise NkiValidationError(
                f"{self.opcode} by gpsimd_dma: {self.src.elements * item} bytes per partition",
                allowed=f"{limit} bytes for {self.src.dtype}",
                fix="use dma_engine=nisa.dma_engine.dma",
            )

    def meet(self) -> None:
        self._exchange(None)

    def _exchange(self, data: Any) -> Any:
        return self.exchange(((self.src.shape[0], self.src.elements), self.src.dtype), data)

    def meaning(self) -> None:
        self.dst.array[...] = self._exchange(np.array(self.src.array)).reshape(self.dst.shape)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        return dma_work(chip, signature)
