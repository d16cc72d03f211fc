"""dst = data with the first occurrence of each of 8 values replaced by imm, on VectorE.

Source of rules and numerics: AWS Neuron docs 2.32 nki.isa.nc_match_replace8 (values are processed
from the last to the first); cost from the same page at tag v2.26.1, which prints min(64, N): the
model takes max(64, N), as every other instruction of the engine has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

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
class NcMatchReplace8(Instruction):
    """dst, data: [P, free...]; vals: [P, 8]; imm: number; dst_idx: [P, 8] or None."""

    opcode = "nc_match_replace8"
    PARAMS = ("imm",)
    VALUES = ("imm",)
    READS = ("data", "vals")
    WRITES = ("dst", "dst_idx")
    EXAMPLE = "nisa.nc_match_replace8(dst=rest, data=scores, vals=largest, imm=-1e30)"

    dst: AccessPattern
    data: AccessPattern
    vals: AccessPattern
    imm: Any
    dst_idx: AccessPattern | None = None
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        operands = {"dst": self.dst, "data": self.data, "vals": self.vals}
        rules.require_tensor(self.opcode, **operands)
        rules.require_on_chip(self.opcode, **operands, dst_idx=self.dst_idx)
        rules.require_same_partitions(self.opcode, **operands, dst_idx=self.dst_idx)
        rules.require_same_elements(self.opcode, dst=self.dst, data=self.data)
        rules.require_elements(self.opcode, "data", self.data, _FOUND, _MOST_ELEMENTS)
        rules.require_elements(self.opcode, "vals", self.vals, _FOUND, _FOUND)
        if self.dst_idx is not None:
            rules.require_elements(self.opcode, "dst_idx", self.dst_idx, _FOUND, _FOUND)
        rules.require_number(self.opcode, "imm", self.imm)

    def meaning(self) -> None:
        data = values.read_f32(self.data).reshape(self.data.shape[0], -1)
        wanted = values.read_f32(self.vals).reshape(-1, _FOUND)
        result, places = data.copy(), np.full(wanted.shape, -1, dtype=np.int64)
        for partition in range(len(data)):
            free = np.ones(data.shape[1], dtype=bool)
            for slot in reversed(range(_FOUND)):
                found = np.flatnonzero((data[partition] == wanted[partition, slot]) & free)
                if len(found):
                    free[found[0]] = False
                    result[partition, found[0]] = self.imm
                    places[partition, slot] = found[0]
        values.write(self.dst, result)
        if self.dst_idx is not None:
            target = self.dst_idx.array
            target[...] = places.astype(target.dtype).reshape(target.shape)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """max(64, N) cycles."""
        return vector_work(signature, chip, signature["data"].elements)
