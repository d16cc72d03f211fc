"""dst[M, N] (+)= stationary[K, M].T @ moving[K, N] on TensorE, accumulated in PSUM.

Source of rules and numerics: AWS Neuron docs 2.32 nki.isa.nc_matmul and the NeuronCore guides;
cost formula from the same page at tag v2.26.1: max(min(64, M), N) cycles, 4 passes for float32.
LoadStationary runs in the background of the previous matmul, and costs time where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rainshadow.errors import NkiValidationError
from rainshadow.isa import columns, rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import core_of, tensor_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.memory import Space
from rainshadow.machine import Chip

#: double_row contracts pairs of fp8 elements in one pass.
_PAIR = 2
_FP8 = ("float8_e4m3", "float8_e4m3fn", "float8_e5m2")


@instruction
@dataclass(slots=True)
class NcMatmul(Instruction):
    """dst: [M, N] float32 in PSUM; stationary: [K, M]; moving: [K, N], both in SBUF.

    accumulate: add to dst instead of overwriting it, or PARTLY: where `started`, of dst's shape, is
    true.  keeps_bits: NaN and infinities stay where a transpose puts them, as from v3 on.
    """

    opcode = "nc_matmul"
    READS = ("stationary", "moving")
    COLUMNS = ("dst", "stationary", "moving")
    PARAMS = ("accumulate", "is_transpose", "perf_mode", "tile_position", "tile_size")
    EXAMPLE = "nisa.nc_matmul(dst=acc, stationary=lhs_t[:, m], moving=rhs, accumulate=k > 0)"

    dst: AccessPattern
    stationary: AccessPattern
    moving: AccessPattern
    accumulate: bool | str = False
    is_transpose: bool = False
    perf_mode: str = "none"
    tile_position: tuple[int, ...] = ()
    tile_size: tuple[int, ...] = ()
    keeps_bits: bool = False
    started: Any = None
    engine: Engine = Engine.tensor

    def check(self, chip: Chip) -> None:
        operands: dict[str, Any] = {"stationary": self.stationary, "moving": self.moving}
        rules.require_tensor(self.opcode, dst=self.dst, **operands)
        rules.require_space(self.opcode, "dst", self.dst, Space.psum)
        for name, view in operands.items():
            rules.require_space(self.opcode, name, view, Space.sbuf)
        rules.require_on_chip(self.opcode, dst=self.dst, **operands)
        rules.require_same_partitions(self.opcode, **operands)
        rows, width = self._free_sizes()
        tensor = core_of(chip).tensor
        if rows > tensor.stationary_free_max.value:
            raise NkiValidationError(
                f"{self.opcode}: stationary free size {rows}",
                allowed=f"at most {int(tensor.stationary_free_max.value)}",
                fix="tile that axis",
            )
        most = int(tensor.moving_free_max.value)
        rules.require_psum_room(self.opcode, chip, self.dst, width, most)
        if (self.dst.shape[0], self.dst.elements) != (rows, width):
            raise NkiValidationError(
                f"{self.opcode}: dst is {self.dst.shape}, stationary {self.stationary.shape}, "
                f"moving {self.moving.shape}",
                allowed=f"dst of shape ({rows}, {width})",
            )
        rules.require_matmul_dtypes(self.opcode, chip, self.stationary, self.moving)
        rules.require_matmul_dst(
            self.opcode, chip, self.dst, *operands.values(), is_transpose=self.is_transpose
        )
        columns.require_plain_or_narrow(self, self.is_transpose)
        rules.require_array_tile(
            self.opcode, chip, self.tile_position, self.tile_size, self.stationary
        )
        if self.perf_mode != "none":
            rules.require_generation(f"{self.opcode} with a perf_mode", chip, "gen3", "gen4")
            whole = not self.tile_size or self.tile_size[1] == int(tensor.columns.value)
            if not whole or self.is_transpose:
                raise NkiValidationError(
                    f"{self.opcode}: perf_mode double_row, tile_size {self.tile_size}, "
                    f"is_transpose {self.is_transpose}",
                    allowed="double_row with whole columns, and no transpose",
                )

    def _free_sizes(self) -> tuple[int, int]:
        """Free sizes of stationary and moving that are not contracted."""
        views = (self.stationary, self.moving)
        if self.perf_mode == "none":
            return views[0].elements, views[1].elements
        if any(view.dtype not in _FP8 or view.shape[1:2] != (_PAIR,) for view in views):
            raise NkiValidationError(
                f"{self.opcode} with perf_mode double_row: stationary {views[0].dtype}"
                f"{list(views[0].shape)}, moving {views[1].dtype}{list(views[1].shape)}",
                allowed=f"{', '.join(_FP8)} of shape [K, {_PAIR}, free]",
                fix="split the contraction into the partitions and a first free axis of 2",
            )
        return views[0].elements // _PAIR, views[1].elements // _PAIR

    def meaning(self) -> None:
        # double_row contracts over the partitions and the first free axis.
        contracted = self.stationary.shape[0] * (1 if self.perf_mode == "none" else _PAIR)
        left = values.read_f32(self.stationary).reshape(contracted, -1)
        right = values.read_f32(self.moving).reshape(contracted, -1)
        result = values.permuted(left, right) if self.keeps_bits else left.T @ right
        values.write(self.dst, values.added(self, result) if self.accumulate else result)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """max(min(64, M), N) cycles; float32 takes 4 passes, double_row none for its pairs."""
        tensor = core_of(chip).tensor
        pair = 1 if signature.params["perf_mode"] == "none" else _PAIR
        rows = signature["stationary"].elements // pair
        columns = signature["moving"].elements / pair
        cycles = max(min(tensor.min_initiation_cycles.value, rows), columns)
        dtype = signature["moving"].dtype
        passes = 1.0
        if dtype == "float32" and not signature.params["is_transpose"]:
            passes = tensor.fp32_passes.value
        return tensor_work(chip, passes * cycles, passes * rows, signature.params)

    @staticmethod
    def flops(signature: Signature) -> int:
        if signature.params["is_transpose"]:
            return 0
        stationary, moving = signature["stationary"], signature["moving"]
        pair = 1 if signature.params["perf_mode"] == "none" else _PAIR
        return 2 * stationary.partitions * stationary.elements * (moving.elements // pair)
