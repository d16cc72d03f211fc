"""dst = count, mean and variance * count of the even and of the odd elements, on VectorE.

Source of rules, numerics and cost: AWS Neuron docs 2.32 nki.isa.bn_stats; cost formula from the
same page at tag v2.26.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import vector_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.machine import Chip

_STATISTICS = 6
#: nl.tile_size.bn_stats_fmax
_LARGEST_FREE_SIZE = 512


@instruction
@dataclass(slots=True)
class BnStats(Instruction):
    """dst: [P, 6]; data: [P, N], N up to 512."""

    opcode = "bn_stats"
    READS = ("data",)
    EXAMPLE = "nisa.bn_stats(dst=statistics, data=tile)"

    dst: AccessPattern
    data: AccessPattern
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst, data=self.data)
        rules.require_on_chip(self.opcode, dst=self.dst, data=self.data)
        rules.require_same_partitions(self.opcode, dst=self.dst, data=self.data)
        if self.data.elements > _LARGEST_FREE_SIZE or self.dst.elements != _STATISTICS:
            raise NkiValidationError(
                f"{self.opcode}: data has {self.data.elements} elements per partition, "
                f"dst {self.dst.elements}",
                allowed=f"data up to {_LARGEST_FREE_SIZE}, dst {_STATISTICS}",
            )

    def meaning(self) -> None:
        data = values.read_f32(self.data).reshape(self.data.shape[0], -1)
        result = np.zeros((data.shape[0], _STATISTICS), dtype=np.float32)
        for parity in range(2):
            part = data[:, parity::2]
            if part.shape[1]:
                first = 3 * parity
                result[:, first] = part.shape[1]
                result[:, first + 1] = part.mean(axis=1)
                result[:, first + 2] = part.var(axis=1) * part.shape[1]
        values.write(self.dst, result)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """max(64, N) cycles."""
        return vector_work(signature, chip, signature["data"].elements)
