"""dst = first position and end of the segment of each element, on GpSimdE.

Source of rules and numerics: AWS Neuron docs 2.32 nki.isa.sequence_bounds and its example. No cost
is published: an assumption with a range, in the machine data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import unpublished_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.memory import Space
from rainshadow.machine import Chip

_DTYPES = ("float32", "int32")


@instruction
@dataclass(slots=True)
class SequenceBounds(Instruction):
    """dst: [1, 2, n], starts then ends; segment_ids: [1, n], 0 for padding; float32 or int32."""

    opcode = "sequence_bounds"
    READS = ("segment_ids",)
    EXAMPLE = "nisa.sequence_bounds(dst=bounds, segment_ids=ids)"

    dst: AccessPattern
    segment_ids: AccessPattern
    engine: Engine = Engine.gpsimd

    def check(self, chip: Chip) -> None:
        operands = {"dst": self.dst, "segment_ids": self.segment_ids}
        rules.require_tensor(self.opcode, **operands)
        for name, view in operands.items():
            rules.require_space(self.opcode, name, view, Space.sbuf)
            rules.require_dtype(self.opcode, name, view, *_DTYPES)
        n = self.segment_ids.elements
        shapes = (self.segment_ids.shape[0], self.dst.shape[0], self.dst.elements)
        if shapes != (1, 1, 2 * n):
            raise NkiValidationError(
                f"{self.opcode}: segment_ids {self.segment_ids.shape}, dst {self.dst.shape}",
                allowed="one partition, and dst of shape (1, 2, n) for n segment_ids",
            )

    def meaning(self) -> None:
        ids = self.segment_ids.array.reshape(-1)
        n = len(ids)
        changes = np.flatnonzero(ids[1:] != ids[:-1]) + 1
        starts = np.concatenate([[0], changes])
        lengths = np.diff(np.append(starts, n))
        bounds = np.stack([np.repeat(starts, lengths), np.repeat(starts + lengths, lengths)])
        bounds[:, ids == 0] = [[n], [-1]]
        self.dst.array[...] = bounds.reshape(self.dst.shape)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        return unpublished_work(signature, chip, signature["segment_ids"].elements)
