"""dst = mean and variance from (count, mean, variance * count) triples of bn_stats, on VectorE.

Source of rules, numerics and cost: AWS Neuron docs 2.32 nki.isa.bn_aggr; cost formula from the
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

_TRIPLE = 3
#: The docs' cost: 13 cycles per triple.
_CYCLES_PER_TRIPLE = 13


@instruction
@dataclass(slots=True)
class BnAggr(Instruction):
    """dst: [P, 2]; data: [P, 3 k]."""

    opcode = "bn_aggr"
    READS = ("data",)
    EXAMPLE = "nisa.bn_aggr(dst=mean_and_variance, data=statistics)"

    dst: AccessPattern
    data: AccessPattern
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst, data=self.data)
        rules.require_on_chip(self.opcode, dst=self.dst, data=self.data)
        rules.require_same_partitions(self.opcode, dst=self.dst, data=self.data)
        if self.data.elements % _TRIPLE or self.dst.elements != 2:
            raise NkiValidationError(
                f"{self.opcode}: data has {self.data.elements} elements per partition, "
                f"dst {self.dst.elements}",
                allowed="data a multiple of 3, dst 2",
            )

    def meaning(self) -> None:
        triples = values.read_f32(self.data).reshape(self.data.shape[0], -1, _TRIPLE)
        count, mean, spread = triples[..., 0], triples[..., 1], triples[..., 2]
        total = count.sum(axis=1)
        average = (count * mean).sum(axis=1) / total
        between = (count * np.square(mean - average[:, None])).sum(axis=1)
        variance = (spread.sum(axis=1) + between) / total
        values.write(self.dst, np.stack([average, variance], axis=1))

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """max(64, 13 N / 3) cycles."""
        return vector_work(
            signature, chip, _CYCLES_PER_TRIPLE * signature["data"].elements / _TRIPLE
        )
