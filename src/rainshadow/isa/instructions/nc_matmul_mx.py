"""dst[M, N] (+)= stationary.T @ moving of MXFP8 or MXFP4 operands, on TensorE of NeuronCore-v4.

Source of rules and numerics: AWS Neuron docs 2.32 nki.isa.nc_matmul_mx and the Trainium 3 guide:
four elements of every partition are contracted at the rate of one, so the cost is nc_matmul's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa import columns, mx, rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import core_of, tensor_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.memory import Space
from rainshadow.machine import Chip


@instruction
@dataclass(slots=True)
class NcMatmulMx(Instruction):
    """dst: [M, N] in PSUM; stationary: [K, M], moving: [K, N] of packed dtypes, in SBUF.

    stationary_scale, moving_scale: as nki.isa.quantize_mx writes them.  accumulate, started: as of
    `NcMatmul`.
    """

    opcode = "nc_matmul_mx"
    READS = ("stationary", "moving", "stationary_scale", "moving_scale")
    COLUMNS = ("dst", "stationary", "moving", "stationary_scale", "moving_scale")
    PARAMS = ("accumulate", "tile_position", "tile_size")
    EXAMPLE = (
        "nisa.nc_matmul_mx(dst=acc, stationary=w, moving=x, stationary_scale=ws, moving_scale=xs)"
    )

    dst: AccessPattern
    stationary: AccessPattern
    moving: AccessPattern
    stationary_scale: AccessPattern
    moving_scale: AccessPattern
    accumulate: bool | str = False
    tile_position: tuple[int, ...] = ()
    tile_size: tuple[int, ...] = ()
    started: Any = None
    engine: Engine = Engine.tensor

    def check(self, chip: Chip) -> None:
        operands: dict[str, Any] = {name: getattr(self, name) for name in self.READS}
        rules.require_generation(self.opcode, chip, "gen4")
        rules.require_tensor(self.opcode, dst=self.dst, **operands)
        rules.require_space(self.opcode, "dst", self.dst, Space.psum)
        rules.require_dtype(self.opcode, "dst", self.dst, "float32", "bfloat16")
        for name, view in operands.items():
            rules.require_space(self.opcode, name, view, Space.sbuf)
        for name in ("stationary", "moving"):
            view, scale = operands[name], operands[f"{name}_scale"]
            rules.require_on_chip(self.opcode, **{name: view})
            columns.require_same_columns(self, name, f"{name}_scale")
            rules.require_dtype(self.opcode, name, view, *mx.FORMATS)
            rules.require_dtype(self.opcode, f"{name}_scale", scale, *mx.SCALE_DTYPES)
            rules.require_scale_rows(self.opcode, f"{name}_scale", scale, view)
            rules.require_same_elements(self.opcode, **{name: view, f"{name}_scale": scale})
        rules.require_same_partitions(self.opcode, stationary=self.stationary, moving=self.moving)
        self._check_sizes(chip)
        rules.require_array_tile(
            self.opcode, chip, self.tile_position, self.tile_size, self.stationary, rows_only=True
        )

    def _check_sizes(self, chip: Chip) -> None:
        contracted, rows = self.stationary.shape[0], self.stationary.elements
        columns = self.moving.elements
        core = core_of(chip)
        most = int(core.psum.bytes_per_partition.value) // self.dst.itemsize
        if contracted % mx.QUADRANT or rows % 2 or rows > core.tensor.stationary_free_max.value:
            raise NkiValidationError(
                f"{self.opcode}: stationary {self.stationary.shape}",
                allowed=f"partitions a multiple of {mx.QUADRANT}, an even free size up to "
                f"{int(core.tensor.stationary_free_max.value)}",
            )
        if columns > most or (self.dst.shape[0], self.dst.elements) != (rows, columns):
            raise NkiValidationError(
                f"{self.opcode}: dst is {self.dst.shape}, moving {self.moving.shape}",
                allowed=f"dst of shape ({rows}, {columns}), with at most {most} columns",
            )

    def meaning(self) -> None:
        left = _dequantized(self.stationary, self.stationary_scale)
        result = left.T @ _dequantized(self.moving, self.moving_scale)
        values.write(self.dst, values.added(self, result) if self.accumulate else result)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        tensor = core_of(chip).tensor
        rows, columns = signature["stationary"].elements, signature["moving"].elements
        cycles = max(min(tensor.min_initiation_cycles.value, rows), columns)
        return tensor_work(chip, cycles, rows, signature.params)

    @staticmethod
    def flops(signature: Signature) -> int:
        stationary, moving = signature["stationary"], signature["moving"]
        return 2 * mx.PACKED * stationary.partitions * stationary.elements * moving.elements


def _dequantized(view: AccessPattern, scale: AccessPattern) -> Any:
    """[4 K, free] float32: the elements of a partition's words one after another."""
    partitions = view.shape[0]
    elements = mx.unpack(view.array.reshape(partitions, -1), view.dtype)
    rows = np.ascontiguousarray(scale.array[mx.scale_rows(partitions)]).view(np.uint8)
    factors = np.repeat(mx.factors(rows.reshape(len(rows), -1)), mx.GROUP, axis=0)
    scaled = elements * factors[:, :, None]
    return scaled.transpose(0, 2, 1).reshape(partitions * mx.PACKED, -1)
