"""dst = src with its first and last axes exchanged, by the DMA engines.

Source of rules: AWS Neuron docs 2.32 nki.isa.dma_transpose (permutations 10, 210, 3120); rate from
the Trainium2 architecture guide: up to 90 % of the DMA rate from HBM, 50 % within SBUF.
"""

from __future__ import annotations

from dataclasses import dataclass

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import core_of, dma_work, hbm_s
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.memory import Space
from rainshadow.machine import Chip

#: Axes of src -> their order in dst.
PERMUTATIONS = {2: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}
_DTYPE_BYTES = (2, 4)


@instruction
@dataclass(slots=True)
class DmaTranspose(Instruction):
    """src: 2 to 4 axes in HBM or SBUF, 2- or 4-byte; dst: the permuted shape, equal dtype."""

    opcode = "dma_transpose"
    READS = ("src",)
    PARAMS = ("trigger",)
    EXAMPLE = "nisa.dma_transpose(dst=x_t, src=x[0:128, 0:128])"

    dst: AccessPattern
    src: AccessPattern
    trigger: Engine = Engine.gpsimd
    engine: Engine = Engine.dma

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst, src=self.src)
        for name, view in (("dst", self.dst), ("src", self.src)):
            rules.require_space(
                self.opcode, name, view, Space.sbuf, Space.private_hbm, Space.shared_hbm
            )
        permutation = PERMUTATIONS.get(self.src.ndim)
        if permutation is None:
            raise NkiValidationError(
                f"{self.opcode}: src has {self.src.ndim} axes", allowed="2, 3 or 4 axes"
            )
        wanted = tuple(self.src.shape[axis] for axis in permutation)
        if self.dst.shape != wanted:
            raise NkiValidationError(
                f"{self.opcode}: dst is {self.dst.shape}, src {self.src.shape}",
                allowed=f"dst of shape {wanted}",
            )
        if self.dst.dtype != self.src.dtype or self.src.itemsize not in _DTYPE_BYTES:
            raise NkiValidationError(
                f"{self.opcode}: src is {self.src.dtype}, dst {self.dst.dtype}",
                allowed="equal dtypes of 2 or 4 bytes",
            )

    def meaning(self) -> None:
        self.dst.array[...] = self.src.array.transpose(PERMUTATIONS[self.src.ndim])

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """The bytes at the transpose rate: hardware moves 2-byte-element blocks, not rows."""
        dma = core_of(chip).dma
        src = signature["src"]
        from_hbm = src.space == "hbm"
        figure = dma.transpose_efficiency_hbm if from_hbm else dma.transpose_efficiency_sbuf
        plain = dma_work(chip, signature)
        rate = dma.engines.value * dma.bandwidth_per_engine.value * figure.value
        busy = max(src.total_bytes / rate, hbm_s(chip, signature))
        return Work(busy, 0.0, plain.issue_s)
