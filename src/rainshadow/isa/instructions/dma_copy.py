"""dst = src by DMA, between HBM and SBUF or within either; an index tile may pick rows.

Source of rules: AWS Neuron docs 2.32 nki.isa.dma_copy; no cost is published per instruction, see
`isa.costs.dma_work`. Casts go through float32.
"""

from __future__ import annotations

from dataclasses import dataclass

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import dma_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.memory import Space
from rainshadow.machine import Chip


@instruction
@dataclass(slots=True)
class DmaCopy(Instruction):
    """dst, src: equal element counts, in HBM or SBUF; either may be an indirect view.

    trigger: the engine that starts the DMA; skip_out_of_bounds: rows whose index is past the
    end are left out instead of raising.  dge: who makes the descriptors, a name of nki's dge_mode.
    """

    opcode = "dma_copy"
    READS = ("src",)
    INDIRECT = ("dst", "src")
    PARAMS = ("trigger", "skip_out_of_bounds", "dge", "priority")
    EXAMPLE = "nisa.dma_copy(dst=tile, src=x[0:128, 0:512])"

    dst: AccessPattern
    src: AccessPattern
    trigger: Engine = Engine.gpsimd
    skip_out_of_bounds: bool = False
    dge: str = "unknown"
    priority: int | None = None
    engine: Engine = Engine.dma

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst, src=self.src)
        rules.require_engine(self.opcode, self.trigger, *Engine)
        for name, view in (("dst", self.dst), ("src", self.src)):
            rules.require_space(
                self.opcode, name, view, Space.sbuf, Space.private_hbm, Space.shared_hbm
            )
        if self.dst.size != self.src.size:
            raise NkiValidationError(
                f"{self.opcode}: dst {self.dst.shape} has {self.dst.size} elements, "
                f"src {self.src.shape} has {self.src.size}",
                allowed="equal element counts",
            )
        if self.dst.indirection is not None and self.src.indirection is not None:
            raise NkiValidationError(
                f"{self.opcode}: dst and src are both indirect", allowed="one indirect operand"
            )
        rules.require_descriptors(self.opcode, chip, self.dge, self.trigger)
        if self.dge == "hwdge" and self.dst.dtype != self.src.dtype:
            raise NkiValidationError(
                f"{self.opcode} with dge_mode hwdge: dst is {self.dst.dtype}, src {self.src.dtype}",
                allowed="one dtype: hardware descriptors move bytes",
                fix="use view(dtype), or another dge_mode to convert",
            )
        rules.require_software_descriptors(self.opcode, self.dge, self.dst, self.src)
        rules.require_priority(self.opcode, self.priority, chip)

    def meaning(self) -> None:
        if self.src.indirection is not None:
            self._gather()
        elif self.dst.indirection is not None:
            self._scatter()
        elif self.dst.dtype == self.src.dtype:
            self.dst.array[...] = self.src.array.reshape(self.dst.shape)
        else:
            values.write(self.dst, values.read_f32(self.src))

    def _gather(self) -> None:
        rows, keep = values.selected_rows(self.src, self.opcode, skip=self.skip_out_of_bounds)
        target = self.dst.array
        picked = values.all_rows(self.src)[rows[keep]]
        target[keep] = values.cast(picked.reshape((-1, *target.shape[1:])), target.dtype)

    def _scatter(self) -> None:
        rows, keep = values.selected_rows(self.dst, self.opcode, skip=self.skip_out_of_bounds)
        target = values.all_rows(self.dst)
        data = self.src.array.reshape((len(rows), *target.shape[1:]))
        target[rows[keep]] = values.cast(data[keep], target.dtype)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        return dma_work(chip, signature)
