"""dst = sum of the sources by the DMA engines; with an index tile, rows are added in place.

Source of rules: AWS Neuron docs 2.32 nki.isa.dma_compute; rate from the Trainium3 architecture
guide: accumulation runs at half the DMA rate before v4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import core_of, dma_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.memory import Space
from rainshadow.machine import Chip

_MAX_SOURCES = 16


@instruction
@dataclass(slots=True)
class DmaCompute(Instruction):
    """dst, each of srcs: equal element counts, HBM or SBUF.

    With an index tile on one source: scatter (that source and dst are the same HBM rows) or
    gather (that source is HBM rows, the other is dst). Indices must differ from each other.
    """

    opcode = "dma_compute"
    READS = ("srcs",)
    INDIRECT = ("dst", "srcs")
    PARAMS = ("num_sources", "skip_out_of_bounds")
    EXAMPLE = "nisa.dma_compute(dst=total, srcs=[a, b], reduce_op=nl.add)"

    dst: AccessPattern
    srcs: tuple[AccessPattern, ...]
    num_sources: int
    skip_out_of_bounds: bool = False
    engine: Engine = Engine.dma

    def check(self, chip: Chip) -> None:
        if not 1 <= len(self.srcs) <= _MAX_SOURCES:
            raise NkiValidationError(
                f"{self.opcode}: {len(self.srcs)} sources", allowed=f"1 to {_MAX_SOURCES}"
            )
        for name, view in [
            ("dst", self.dst),
            *((f"srcs[{i}]", s) for i, s in enumerate(self.srcs)),
        ]:
            rules.require_tensor(self.opcode, **{name: view})
            rules.require_space(
                self.opcode, name, view, Space.sbuf, Space.private_hbm, Space.shared_hbm
            )
            if view.size != self.dst.size:
                raise NkiValidationError(
                    f"{self.opcode}: {name} has {view.size} elements, dst {self.dst.size}",
                    allowed="equal element counts",
                )
        indirect = sum(view.indirection is not None for view in self.srcs)
        if (indirect or self.dst.indirection is not None) and (indirect, len(self.srcs)) != (1, 2):
            raise NkiValidationError(
                f"{self.opcode}: {indirect} of {len(self.srcs)} sources picked by an index tile",
                allowed="with an index tile exactly 2 sources, and on one of them",
            )

        dynamic = any(values.is_dynamic(view) for view in (self.dst, *self.srcs))
        if self.skip_out_of_bounds and not dynamic:
            raise NkiValidationError(
                f"{self.opcode} of plain rows: oob_mode skip", allowed="oob_mode error"
            )

    def meaning(self) -> None:
        indirect = [view for view in self.srcs if view.indirection is not None]
        if not indirect:
            total = sum(values.read_f32(view).reshape(self.dst.shape) for view in self.srcs)
            values.write(self.dst, total)
            return
        skip = self.skip_out_of_bounds
        rows, keep = values.selected_rows(indirect[0], self.opcode, skip=skip)
        table = values.all_rows(indirect[0])
        other = next(view for view in self.srcs if view.indirection is None)
        data = values.read_f32(other).reshape((len(rows), *table.shape[1:])).copy()
        rows, data = rows[keep], data[keep] if self.dst.indirection is not None else data
        if self.dst.indirection is not None:
            if len(np.unique(rows)) != len(rows):
                raise NkiValidationError(
                    f"{self.opcode}: the index tile names a row twice",
                    allowed="different rows",
                    fix="add the rows of one index with a matmul first",
                )
            total = table[rows].astype(np.float32) + data
            table[rows] = values.cast(total, table.dtype)
        else:
            data[keep] += table[rows].astype(np.float32)
            values.write(self.dst, data)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """The DMA time of all sources at half rate (full rate on v4)."""
        efficiency = core_of(chip).dma.accumulate_efficiency.value
        count = signature.params["num_sources"]
        return dma_work(chip, signature, efficiency=efficiency, num_transfers=count)
