"""dst[i] = src[mask[i]] within each quadrant of 32 partitions, on VectorE; 255 leaves dst[i].

Source of rules and numerics: AWS Neuron docs 2.32 nki.isa.nc_stream_shuffle; cost (max(64, N)
cycles) from the same page at tag v2.26.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import vector_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.machine import Chip

_QUADRANT = 32
_KEEP = 255


@instruction
@dataclass(slots=True)
class NcStreamShuffle(Instruction):
    """dst, src: [P, free...] of one dtype in SBUF or PSUM; shuffle_mask: 32 partition numbers."""

    opcode = "nc_stream_shuffle"
    READS = ("src",)
    PARAMS = ("shuffle_mask",)
    EXAMPLE = "nisa.nc_stream_shuffle(dst=spread, src=row, shuffle_mask=[0] * 32)"

    dst: AccessPattern
    src: AccessPattern
    shuffle_mask: tuple[int, ...]
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst, src=self.src)
        rules.require_on_chip(self.opcode, dst=self.dst, src=self.src)
        rules.require_same_elements(self.opcode, dst=self.dst, src=self.src)
        if self.dst.dtype != self.src.dtype:
            raise NkiValidationError(
                f"{self.opcode}: dst is {self.dst.dtype}, src {self.src.dtype}",
                allowed="one dtype: the bits are moved as they are",
            )
        allowed = (*range(_QUADRANT), _KEEP)
        mask = self.shuffle_mask
        if len(mask) != _QUADRANT or any(entry not in allowed for entry in mask):
            raise NkiValidationError(
                f"{self.opcode}: shuffle_mask {list(mask)}",
                allowed=f"{_QUADRANT} entries of 0..{_QUADRANT - 1}, or {_KEEP} to keep",
            )

    def meaning(self) -> None:
        source, target = self.src.array, self.dst.array
        before = source.copy().reshape(source.shape[0], -1)
        result = target.reshape(target.shape[0], -1).copy()
        for partition in range(result.shape[0]):
            quadrant, place = divmod(partition, _QUADRANT)
            entry = self.shuffle_mask[place]
            wanted = quadrant * _QUADRANT + entry
            if entry != _KEEP and wanted < len(before):
                result[partition] = before[wanted]
        np.copyto(target, result.reshape(target.shape))

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """max(64, N) cycles."""
        return vector_work(signature, chip, signature["src"].elements)
