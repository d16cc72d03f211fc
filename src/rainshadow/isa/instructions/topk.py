"""The K largest of n elements in 16 partitions, and where they were, on GpSimdE.

Source of rules, numerics and cost: AWS Neuron docs 2.32 nki.isa.topk: 4 n + K cycles. Every
partition of a group of 16 gets the group's result; which of equal values come first is not
published: the lowest indices are kept (docs/numerics.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import gpsimd_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.memory import Space
from rainshadow.machine import Chip

#: Partitions of one GpSimdE core, over which the elements are dealt one by one.
_GROUP = 16
_FEWEST, _END, _LARGEST_K = 8, 65536, 32767
_CYCLES_PER_ELEMENT = 4


@instruction
@dataclass(slots=True)
class Topk(Instruction):
    """val_dst: [P, K] bfloat16; idx_dst: [P, K] uint32; src: [P, columns] bfloat16; all in SBUF."""

    opcode = "topk"
    READS = ("src",)
    WRITES = ("val_dst", "idx_dst")
    PARAMS = ("n",)
    EXAMPLE = "nisa.topk(val_dst=values, idx_dst=indices, src=scores, n=42)"

    val_dst: AccessPattern
    idx_dst: AccessPattern
    src: AccessPattern
    n: int
    engine: Engine = Engine.gpsimd

    def check(self, chip: Chip) -> None:
        operands = {"val_dst": self.val_dst, "idx_dst": self.idx_dst, "src": self.src}
        rules.require_tensor(self.opcode, **operands)
        for name, view in operands.items():
            rules.require_space(self.opcode, name, view, Space.sbuf)
            wanted = "uint32" if name == "idx_dst" else "bfloat16"
            rules.require_dtype(self.opcode, name, view, wanted)
        rules.require_same_partitions(self.opcode, **operands)
        rules.require_same_elements(self.opcode, val_dst=self.val_dst, idx_dst=self.idx_dst)
        most = min(self.n, _LARGEST_K)
        rules.require_elements(self.opcode, "val_dst", self.val_dst, 1, most)
        if self.src.shape[0] % _GROUP:
            raise NkiValidationError(
                f"{self.opcode}: {self.src.shape[0]} partitions", allowed=f"a multiple of {_GROUP}"
            )
        room = min(self.src.elements * _GROUP, _END - 1)
        if not _FEWEST <= self.n <= room:
            raise NkiValidationError(
                f"{self.opcode}: n {self.n} with {self.src.elements} elements per partition",
                allowed=f"{_FEWEST} to {room}",
            )

    def meaning(self) -> None:
        k = self.val_dst.elements
        source = self.src.array.reshape(-1, _GROUP, self.src.elements)
        found, places = [], []
        for group in source:
            flat = group.T.reshape(-1)[: self.n].astype(np.float32)
            order = np.argsort(-flat, kind="stable")[:k][::-1]
            found.append(flat[order])
            places.append(order)
        for dst, rows in ((self.val_dst, found), (self.idx_dst, places)):
            dst.array[...] = np.repeat(np.stack(rows), _GROUP, axis=0).reshape(dst.shape)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        k = signature["val_dst"].elements
        return gpsimd_work(chip, _CYCLES_PER_ELEMENT * signature.params["n"] + k)
