"""dst = on_true where the column index lies between two bounds, else the lowest float32.

Source of rules, numerics and cost: AWS Neuron docs 2.32 nki.isa.range_select; cost formula from
the same page at tag v2.26.1. From NeuronCore-v3 on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow import dtypes
from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.accumulator import Accumulator
from rainshadow.isa.costs import vector_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.operators import AluOperator
from rainshadow.machine import Chip

FP32_MIN = float(np.finfo(np.float32).min)
_COMPARISONS = ("equal", "less", "less_equal", "greater", "greater_equal")
#: Indices are compared in float32, exact up to here.
_LARGEST_INDEX = 2**24

_COMMANDS = ("idle", "reset", "reduce", "reset_reduce")


@instruction
@dataclass(slots=True)
class RangeSelect(Instruction):
    """dst, on_true_tile: [P, N]; bound0, bound1: float32 [P, 1]; reduce_res: [P, 1] maximum."""

    opcode = "range_select"
    READS = ("on_true_tile", "bound0", "bound1")
    WRITES = ("dst", "reduce_res")
    PARAMS = ("comp_op0", "comp_op1", "reduce_cmd", "range_start", "on_false_value")
    VALUES = ("range_start", "on_false_value")
    EXAMPLE = (
        "nisa.range_select(dst=masked, on_true_tile=scores, comp_op0=nl.greater_equal, "
        "comp_op1=nl.less, bound0=first, bound1=end, reduce_res=row_max)"
    )

    dst: AccessPattern
    on_true_tile: AccessPattern
    comp_op0: AluOperator
    comp_op1: AluOperator
    bound0: AccessPattern
    bound1: AccessPattern
    accumulator: Accumulator
    reduce_res: AccessPattern | None = None
    reduce_cmd: str = "reset_reduce"
    range_start: int = 0
    on_false_value: float = FP32_MIN
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        operands: dict[str, Any] = {"dst": self.dst, "on_true_tile": self.on_true_tile}
        rules.require_generation(self.opcode, chip, "gen3", "gen4")
        rules.require_tensor(self.opcode, bound0=self.bound0, bound1=self.bound1, **operands)
        rules.require_on_chip(self.opcode, **operands)
        rules.require_same_partitions(self.opcode, **operands)
        rules.require_same_elements(self.opcode, **operands)
        for name, bound in (("bound0", self.bound0), ("bound1", self.bound1)):
            rules.require_scalar_or_column(self.opcode, name, bound, self.dst.shape[0])
            if bound.dtype != "float32":
                raise NkiValidationError(
                    f"{self.opcode}: {name} is {bound.dtype}", allowed="float32"
                )
        if dtypes.numpy_dtype(self.on_true_tile.dtype).kind in "iub":
            raise NkiValidationError(
                f"{self.opcode}: on_true_tile is {self.on_true_tile.dtype}", allowed="floats"
            )
        if self.reduce_res is not None:
            rules.require_column(self.opcode, "reduce_res", self.reduce_res, self.dst.shape[0])
        rules.require_reduce_cmd(self.opcode, self.reduce_cmd, *_COMMANDS)
        for operator in (self.comp_op0, self.comp_op1):
            if operator.name not in _COMPARISONS:
                raise NkiValidationError(
                    f"{self.opcode}: comparison {operator.name}", allowed=", ".join(_COMPARISONS)
                )
        if np.float32(self.on_false_value) != np.float32(FP32_MIN):
            raise NkiValidationError(
                f"{self.opcode}: on_false_value {self.on_false_value}", allowed=f"{FP32_MIN}"
            )
        if not isinstance(self.range_start, int | np.integer):
            raise NkiValidationError(
                f"{self.opcode}: range_start {self.range_start}", allowed="an integer"
            )
        if self.range_start + self.dst.elements > _LARGEST_INDEX:
            raise NkiValidationError(
                f"{self.opcode}: indices up to {self.range_start + self.dst.elements}",
                allowed=f"up to {_LARGEST_INDEX}",
            )

    def meaning(self) -> None:
        partitions = self.dst.shape[0]
        data = values.read_f32(self.on_true_tile).reshape(partitions, -1)
        index = np.arange(data.shape[1], dtype=np.float32)[None, :] + self.range_start
        keep = self.comp_op0.function(index, values.column_f32(self.bound0, 2)).astype(bool)
        keep &= self.comp_op1.function(index, values.column_f32(self.bound1, 2)).astype(bool)
        result = np.where(keep, data, np.float32(self.on_false_value))
        values.write(self.dst, result)
        if self.reduce_cmd != "idle":
            self.accumulator.start(self.reduce_cmd, "maximum", partitions)
        if self.reduce_cmd in ("reduce", "reset_reduce"):
            self.accumulator.accumulate("maximum", result)
        if self.reduce_res is not None:
            values.write(self.reduce_res, self.accumulator.values[:partitions])

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """max(64, N) cycles."""
        return vector_work(signature, chip, signature.dst.elements)
