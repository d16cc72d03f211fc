"""dst[p, i] = data[p, indices[p, i]], free axes flattened, on GpSimdE.

Source of rules: AWS Neuron docs 2.32 nki.isa.nc_n_gather. No cost is published: the model takes
GpSimdE's start-up once for every 512 elements gathered, the groups that the page names, and one
element per partition and cycle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rainshadow.errors import NkiValidationError, OutOfBoundsError
from rainshadow.isa import rules
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import core_of, gpsimd_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.memory import Space
from rainshadow.machine import Chip

_GROUP = 512


@instruction
@dataclass(slots=True)
class NcNGather(Instruction):
    """dst, indices: [P, free...] of one size, indices uint32; data: [P, free...]; all in SBUF."""

    opcode = "nc_n_gather"
    READS = ("data", "indices")
    EXAMPLE = "nisa.nc_n_gather(dst=picked, data=table, indices=positions)"

    dst: AccessPattern
    data: AccessPattern
    indices: AccessPattern
    engine: Engine = Engine.gpsimd

    def check(self, chip: Chip) -> None:
        operands = {"dst": self.dst, "data": self.data, "indices": self.indices}
        rules.require_tensor(self.opcode, **operands)
        for name, view in operands.items():
            rules.require_space(self.opcode, name, view, Space.sbuf)
        rules.require_same_partitions(self.opcode, **operands)
        rules.require_same_elements(self.opcode, dst=self.dst, indices=self.indices)
        if self.dst.dtype != self.data.dtype or self.indices.dtype != "uint32":
            raise NkiValidationError(
                f"{self.opcode}: dst {self.dst.dtype}, data {self.data.dtype}, "
                f"indices {self.indices.dtype}",
                allowed="dst and data of one dtype, indices uint32",
            )

    def meaning(self) -> None:
        data = self.data.array.reshape(self.data.shape[0], -1)
        indices = self.indices.array.reshape(data.shape[0], -1).astype(np.int64)
        if indices.size and indices.max() >= data.shape[1]:
            raise OutOfBoundsError(
                f"{self.opcode}: index {indices.max()}", allowed=f"0..{data.shape[1] - 1}"
            )
        result = np.take_along_axis(data, indices, axis=1)
        self.dst.array[...] = result.reshape(self.dst.shape)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        elements = signature["indices"].elements
        groups = math.ceil(elements / _GROUP)
        start = core_of(chip).gpsimd.start_cycles.value
        return gpsimd_work(chip, elements + (groups - 1) * start)
