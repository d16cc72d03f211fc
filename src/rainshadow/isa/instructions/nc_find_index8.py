"""dst = positions of 8 values in each partition of data, on VectorE; all ones where missing.

Source of rules and numerics: AWS Neuron docs 2.32 nki.isa.nc_find_index8 (equal values take their
positions in ascending order); cost (N cycles) from the same page at tag v2.26.1.
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

_FOUND = 8
_MOST_ELEMENTS = 16_384


@instruction
@dataclass(slots=True)
class NcFindIndex8(Instruction):
    """dst: [P, 8] uint16 or uint32; data: [P, free...] of 8 to 16,384 elements; vals: [P, 8]."""

    opcode = "nc_find_index8"
    READS = ("data", "vals")
    EXAMPLE = "nisa.nc_find_index8(dst=positions, data=scores, vals=largest)"

    dst: AccessPattern
    data: AccessPattern
    vals: AccessPattern
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        operands = {"dst": self.dst, "data": self.data, "vals": self.vals}
        rules.require_tensor(self.opcode, **operands)
        rules.require_on_chip(self.opcode, **operands)
        rules.require_same_partitions(self.opcode, **operands)
        rules.require_elements(self.opcode, "data", self.data, _FOUND, _MOST_ELEMENTS)
        for name, view in (("dst", self.dst), ("vals", self.vals)):
            rules.require_elements(self.opcode, name, view, _FOUND, _FOUND)
        rules.require_most_axes(self.opcode, "dst", self.dst, 2)
        for name, view in (("data", self.data), ("vals", self.vals)):
            rules.require_most_axes(self.opcode, name, view, 3)
        if self.dst.dtype not in ("uint16", "uint32"):
            raise NkiValidationError(
                f"{self.opcode}: dst is {self.dst.dtype}", allowed="uint16 or uint32"
            )

    def meaning(self) -> None:
        data = values.read_f32(self.data).reshape(self.data.shape[0], -1)
        wanted = values.read_f32(self.vals).reshape(-1, _FOUND)
        missing = np.iinfo(self.dst.array.dtype).max
        self.dst.array[...] = positions(data, wanted, missing).reshape(self.dst.shape)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """N cycles."""
        return vector_work(signature, chip, signature["data"].elements)


def positions(data: values.Array, wanted: values.Array, missing: int) -> values.Array:
    """[P, 8]: the k-th of equal wanted values gets the k-th position that holds it."""
    result = np.full(wanted.shape, missing, dtype=np.int64)
    for partition in range(len(data)):
        taken: dict[float, int] = {}
        for slot, value in enumerate(wanted[partition].tolist()):
            found = np.flatnonzero(data[partition] == np.float32(value))
            number = taken.get(value, 0)
            taken[value] = number + 1
            if number < len(found):
                result[partition, slot] = found[number]
    return result
