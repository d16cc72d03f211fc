"""Gathers along the free axis, 16 partitions by one list of indices, on GpSimdE's eight cores.

Source of rules and cost: AWS Neuron docs nki.isa.local_gather (2.32, and tag v2.26.1 for the cost:
150 cycles and, per index, e / C cycles with C = ((28 + 4e) / 4e) / min(4 / size, e)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rainshadow import dtypes
from rainshadow.errors import NkiValidationError, OutOfBoundsError
from rainshadow.isa import rules
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import gpsimd_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.memory import Space
from rainshadow.machine import Chip

_PARTITIONS_PER_CORE = 16
_MOST_INDICES = 4096
_RUNS = (1, 2, 4, 8, 16, 32)


@instruction
@dataclass(slots=True)
class LocalGather(Instruction):
    """dst: [P, indices * run]; src_buffer: [P, N]; index: [P, K] uint16; P a multiple of 16."""

    opcode = "local_gather"
    READS = ("src_buffer", "index")
    PARAMS = ("num_elem_per_idx", "num_valid_indices")
    VALUES = ("num_elem_per_idx", "num_valid_indices")
    EXAMPLE = "nisa.local_gather(dst=picked, src_buffer=table, index=positions)"

    dst: AccessPattern
    src_buffer: AccessPattern
    index: AccessPattern
    num_elem_per_idx: int = 1
    num_valid_indices: int | None = None
    engine: Engine = Engine.gpsimd

    def check(self, chip: Chip) -> None:
        operands = {"dst": self.dst, "src_buffer": self.src_buffer, "index": self.index}
        rules.require_tensor(self.opcode, **operands)
        for name, view in operands.items():
            rules.require_space(self.opcode, name, view, Space.sbuf)
        rules.require_same_partitions(self.opcode, **operands)
        partitions = self.index.shape[0]
        if partitions % _PARTITIONS_PER_CORE:
            raise NkiValidationError(
                f"{self.opcode}: {partitions} partitions",
                allowed=f"a multiple of {_PARTITIONS_PER_CORE}",
            )
        if self.dst.dtype != self.src_buffer.dtype or self.index.dtype != "uint16":
            raise NkiValidationError(
                f"{self.opcode}: dst {self.dst.dtype}, src_buffer {self.src_buffer.dtype}, index "
                f"{self.index.dtype}",
                allowed="dst and src_buffer of one dtype, index uint16",
            )
        most = self.index.elements * _PARTITIONS_PER_CORE
        if self.num_valid_indices is not None and not 1 <= self.num_valid_indices <= most:
            raise NkiValidationError(
                f"{self.opcode}: num_valid_indices {self.num_valid_indices}",
                allowed=f"1 to {most}, the indices of 16 partitions",
            )
        if self.num_elem_per_idx not in _RUNS or self._count() > _MOST_INDICES:
            raise NkiValidationError(
                f"{self.opcode}: {self._count()} indices of {self.num_elem_per_idx} elements",
                allowed=f"at most {_MOST_INDICES} indices a core, of {_RUNS} elements",
            )
        wanted = self._count() * self.num_elem_per_idx
        rules.require_elements(self.opcode, "dst", self.dst, wanted, wanted)

    def _count(self) -> int:
        return self.num_valid_indices or self.index.elements * _PARTITIONS_PER_CORE

    def meaning(self) -> None:
        partitions, run = self.index.shape[0], self.num_elem_per_idx
        source = self.src_buffer.array.reshape(partitions, -1)
        index = self.index.array.reshape(partitions, -1).astype(np.int64)
        result = np.empty((partitions, self._count() * run), dtype=source.dtype)
        for first in range(0, partitions, _PARTITIONS_PER_CORE):
            group = slice(first, first + _PARTITIONS_PER_CORE)
            starts = index[group].T.reshape(-1)[: self._count()]
            columns = (starts[:, None] + np.arange(run)).reshape(-1)
            if columns.max() >= source.shape[1]:
                raise OutOfBoundsError(
                    f"{self.opcode}: index {columns.max()}", allowed=f"0..{source.shape[1] - 1}"
                )
            result[group] = source[group][:, columns]
        self.dst.array[...] = result.reshape(self.dst.shape)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """150 cycles, and e / C for each index."""
        run = signature.params["num_elem_per_idx"]
        size = dtypes.itemsize(signature["src_buffer"].dtype)
        rate = ((28 + 4 * run) / (4 * run)) / min(4 / size, run)
        indices = signature.params["num_valid_indices"]
        count = indices or signature["index"].elements * _PARTITIONS_PER_CORE
        return gpsimd_work(chip, count * run / rate)
