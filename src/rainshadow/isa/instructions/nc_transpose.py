"""dst = data.T: up to 128x128 through TensorE into PSUM, or 32x32 blocks on VectorE.

Source of rules and cost: AWS Neuron docs 2.32 nki.isa.nc_transpose; cost formula from the same
page at tag v2.26.1. Bit exact from NeuronCore-v3 on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import core_of, tensor_work, vector_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.memory import Space
from rainshadow.machine import Chip

_VECTOR_BLOCK = 32


@instruction
@dataclass(slots=True)
class NcTranspose(Instruction):
    """dst: [F, P]; data: [P, F]; equal dtypes.

    by_matmul: TensorE multiplies with the identity, as the first generation of NKI has it, and
    casts to dst's dtype.  spreads: so does NeuronCore-v2, and spreads NaN and infinities.
    """

    opcode = "nc_transpose"
    READS = ("data",)
    PARAMS = ("by_matmul",)
    EXAMPLE = "nisa.nc_transpose(dst=transposed_psum, data=tile)"

    dst: AccessPattern
    data: AccessPattern
    engine: Engine = Engine.tensor
    by_matmul: bool = False
    spreads: bool = False

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst, data=self.data)
        rules.require_engine(self.opcode, self.engine, Engine.tensor, Engine.vector)
        rules.require_on_chip(self.opcode, dst=self.dst, data=self.data)
        limit = _VECTOR_BLOCK
        if self.engine is Engine.tensor:
            rules.require_space(self.opcode, "dst", self.dst, Space.psum)
            rules.require_space(self.opcode, "data", self.data, Space.sbuf)
            limit = int(core_of(chip).tensor.rows.value)
        if self.data.shape[0] > limit or self.data.elements > limit:
            raise NkiValidationError(
                f"{self.opcode} on {self.engine.name}: data is {self.data.shape}",
                allowed=f"at most {limit} partitions and {limit} elements per partition",
                fix="transpose in blocks",
            )
        if (self.dst.shape[0], self.dst.elements) != (self.data.elements, self.data.shape[0]):
            raise NkiValidationError(
                f"{self.opcode}: dst is {self.dst.shape}, data {self.data.shape}",
                allowed=f"dst of shape ({self.data.elements}, {self.data.shape[0]})",
            )
        if self.dst.dtype != self.data.dtype and not self.by_matmul:
            raise NkiValidationError(
                f"{self.opcode}: dst is {self.dst.dtype}, data {self.data.dtype}",
                allowed="equal dtypes",
                fix=f"allocate dst as {self.data.dtype}",
            )

    def meaning(self) -> None:
        flat = self.data.array.reshape(self.data.shape[0], -1)
        if self.spreads and self.engine is Engine.tensor and flat.dtype.kind in "fV":
            wide = flat.astype(np.float32)
            values.write(self.dst, wide.T @ np.eye(len(wide), dtype=np.float32))
        elif self.by_matmul:
            values.write(self.dst, flat.T.astype(np.float32))
        else:
            self.dst.array[...] = flat.T.reshape(self.dst.shape)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """TensorE: max(P, min(64, F)) cycles; VectorE: max(64, N)."""
        data = signature["data"]
        if signature.engine == "vector":
            return vector_work(signature, chip, data.elements)
        tensor = core_of(chip).tensor
        cycles = max(data.partitions, min(tensor.min_initiation_cycles.value, data.elements))
        return tensor_work(chip, cycles, data.elements)
