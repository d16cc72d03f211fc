"""dst = data with elements replaced by zeros at random, on VectorE.

Source of rules and cost: AWS Neuron docs 2.32 nki.isa.dropout; cost formula from the same page at
tag v2.26.1: max(64, N) cycles. The stream is VectorE's (isa/random.py); which comparison decides is
not published: an element is kept where a uniform number is not below the probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow import dtypes
from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import vector_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.random import Generators, uniform
from rainshadow.machine import Chip


@instruction
@dataclass(slots=True)
class Dropout(Instruction):
    """dst, data: [P, free...] of one dtype; prob: number or [P, 1]."""

    opcode = "dropout"
    READS = ("data", "prob")
    VALUES = ("prob",)
    EXAMPLE = "nisa.dropout(dst=y, data=x, prob=0.1)"

    dst: AccessPattern
    data: AccessPattern
    prob: Any
    generators: Generators
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst, data=self.data)
        rules.require_on_chip(self.opcode, dst=self.dst, data=self.data)
        rules.require_same_partitions(self.opcode, dst=self.dst, data=self.data)
        rules.require_same_elements(self.opcode, dst=self.dst, data=self.data)
        rules.require_dtype(self.opcode, "dst", self.dst, self.data.dtype)
        rules.require_scalar_or_column(self.opcode, "prob", self.prob, self.data.shape[0])
        integers = dtypes.numpy_dtype(self.data.dtype).kind in "iu"
        if rules.is_tensor(self.prob):
            kind = dtypes.numpy_dtype(self.prob.dtype).kind
            if kind in "iub" or (integers and self.prob.dtype != "float32"):
                raise NkiValidationError(
                    f"{self.opcode}: prob is {self.prob.dtype}, data {self.data.dtype}",
                    allowed="float32 with integer data, any float with floats",
                )
        elif not 0 <= self.prob <= 1:
            raise NkiValidationError(f"{self.opcode}: prob {self.prob}", allowed="0 to 1")

    def meaning(self) -> None:
        words = self.generators.vector.draw(self.data.shape[0], self.data.elements)
        kept = uniform(words) >= values.column_f32(self.prob, 2)
        data = self.data.array.reshape(kept.shape)
        self.dst.array[...] = np.where(kept, data, data.dtype.type(0)).reshape(self.dst.shape)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        return vector_work(signature, chip, signature["data"].elements)
