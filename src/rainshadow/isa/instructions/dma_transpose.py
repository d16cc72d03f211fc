"""dst = src with its first and last axes exchanged, by the DMA engines.

Source of rules: AWS Neuron docs 2.32 nki.isa.dma_transpose (permutations 10, 210, 3120; the
constraints of an indirect src); rate from the Trainium2 architecture guide: up to 90 % of the DMA
rate from HBM, 50 % within SBUF.
"""

from __future__ import annotations

from dataclasses import dataclass

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import core_of, dma_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.memory import Space
from rainshadow.machine import Chip

#: Axes of src -> their order in dst.
PERMUTATIONS = {2: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}
_DTYPE_BYTES = (2, 4)
_INDEX_ROWS = range(16, 129, 16)
_GATHERED_FREE_MAX = 128
_BLOCKS = (1, 2, 4, 8, 16)
_HBM = (Space.private_hbm, Space.shared_hbm)


@instruction
@dataclass(slots=True)
class DmaTranspose(Instruction):
    """src: 2 to 4 axes in HBM or SBUF, 2- or 4-byte; dst: the permuted shape, equal dtype.

    src may be rows of HBM that a uint32 index tile [P, N] picks, column after column of the tile.
    trigger, skip_out_of_bounds, dge, priority: as in `DmaCopy`.
    """

    opcode = "dma_transpose"
    READS = ("src",)
    INDIRECT = ("src",)
    PARAMS = ("trigger", "skip_out_of_bounds", "dge", "priority")
    EXAMPLE = "nisa.dma_transpose(dst=x_t, src=x[0:128, 0:128])"

    dst: AccessPattern
    src: AccessPattern
    trigger: Engine = Engine.gpsimd
    skip_out_of_bounds: bool = False
    dge: str = "unknown"
    priority: int | None = None
    engine: Engine = Engine.dma

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst, src=self.src)
        rules.require_space(self.opcode, "dst", self.dst, Space.sbuf)
        rules.require_space(
            self.opcode, "src", self.src, Space.sbuf, Space.private_hbm, Space.shared_hbm
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
        rules.require_priority(self.opcode, self.priority, chip)
        if self.src.indirection is not None:
            rules.require_software_descriptors(self.opcode, self.dge, self.src)
            self._check_indirect(chip, self.src.indirection.index)
        elif self.dge == "hwdge":
            rules.require_descriptors(self.opcode, chip, self.dge, self.trigger)
            self._check_hardware()
        elif self.dge == "swdge" or (self.skip_out_of_bounds and not values.is_dynamic(self.src)):
            raise NkiValidationError(
                f"{self.opcode} of plain rows: dge_mode {self.dge}, skip {self.skip_out_of_bounds}",
                allowed="any other dge_mode; oob_mode skip of dynamic rows only",
            )

    def _check_hardware(self) -> None:
        shape = self.src.shape
        blocks = shape[0] in _BLOCKS and shape[0] * shape[-2] % _BLOCKS[-1] == 0
        if (shape[0] == _BLOCKS[-1] if len(shape) == 2 else blocks) and (
            shape[-1] <= _GATHERED_FREE_MAX and self.src.itemsize == 2
        ):
            return
        raise NkiValidationError(
            f"{self.opcode} by hwdge of {self.src.dtype}{list(shape)}",
            allowed="2-byte elements, at most 128 on the last axis; 2 axes: 16 rows; more: "
            "1, 2, 4, 8 or 16, which times the last but one axis is a multiple of 16",
            fix="leave dge_mode to the compiler",
        )

    def _check_indirect(self, chip: Chip, index: AccessPattern) -> None:
        src = self.src
        rules.require_generation(f"{self.opcode} of indirect rows", chip, "gen3", "gen4")
        rules.require_space(self.opcode, "src picked by an index tile", src, *_HBM)
        rules.require_space(self.opcode, "the index tile", index, Space.sbuf)
        columns = index.elements
        faults = {
            f"src of {src.itemsize}-byte elements": (src.itemsize == 2, "2-byte elements"),
            f"src of shape {src.shape}": (
                src.shape[-1] <= _GATHERED_FREE_MAX
                and src.shape[0] % 16 == 0
                and (src.ndim < 4 or 1 in src.shape[1:3]),
                f"a multiple of 16 rows, at most {_GATHERED_FREE_MAX} elements on the last axis, "
                "and with 4 axes one of the middle two of size 1",
            ),
            f"an index tile of {index.dtype}": (index.dtype == "uint32", "uint32"),
            f"an index tile of shape {index.shape} for {src.shape[0]} rows": (
                index.shape[0] in _INDEX_ROWS
                and index.shape[0] * columns >= src.shape[0]
                and (columns == 1 or index.shape[0] == _INDEX_ROWS[-1]),
                "16 to 128 partitions, a multiple of 16 (128 with more than one column), and an "
                "index for every row",
            ),
        }
        for fault, (is_legal, allowed) in faults.items():
            if not is_legal:
                raise NkiValidationError(f"{self.opcode}: {fault}", allowed=allowed)

    def meaning(self) -> None:
        order = PERMUTATIONS[self.src.ndim]
        if self.src.indirection is None:
            self.dst.array[...] = self.src.array.transpose(order)
            return
        skip = self.skip_out_of_bounds
        rows, keep = values.selected_rows(self.src, self.opcode, skip=skip, by_column=True)
        rows, keep = rows[: self.src.shape[0]], keep[: self.src.shape[0]]
        self.dst.array[..., keep] = values.all_rows(self.src)[rows[keep]].transpose(order)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """The bytes at the transpose rate: hardware moves 2-byte-element blocks, not rows."""
        dma = core_of(chip).dma
        src = signature["src"]
        from_hbm = src.space == "hbm"
        figure = dma.transpose_efficiency_hbm if from_hbm else dma.transpose_efficiency_sbuf
        plain = dma_work(chip, signature)
        rate = dma.engines.value * dma.bandwidth_per_engine.value * figure.value
        return Work(src.total_bytes / rate, issue_s=plain.issue_s, hbm_s=plain.hbm_s)
