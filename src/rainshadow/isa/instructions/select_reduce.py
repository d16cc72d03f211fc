"""dst = on_true where predicate, else on_false; optionally the row maximum, on VectorE.

Source of rules and numerics: AWS Neuron docs 2.32 nki.isa.select_reduce. No cost is published: the
model takes that of tensor_copy_predicated, N with a PSUM operand and 2N in SBUF.
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
from rainshadow.isa.costs import in_psum, vector_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.machine import Chip

_PREDICATE_DTYPES = ("int8", "uint8", "int16", "uint16")
_REFUSED_DTYPES = ("tfloat32", "int32", "uint32")


@instruction
@dataclass(slots=True)
class SelectReduce(Instruction):
    """dst, predicate, on_true: [P, free...]; on_false: number or [P, 1]; reduce_res: [P, 1]."""

    opcode = "select_reduce"
    READS = ("predicate", "on_true", "on_false")
    WRITES = ("dst", "reduce_res")
    PARAMS = ("reduce_cmd", "reverse_pred")
    EXAMPLE = "nisa.select_reduce(dst=y, predicate=mask, on_true=x, on_false=0.0)"

    dst: AccessPattern
    predicate: AccessPattern
    on_true: AccessPattern
    on_false: Any
    accumulator: Accumulator
    reduce_res: AccessPattern | None = None
    reduce_cmd: str = "idle"
    reverse_pred: bool = False
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        operands: dict[str, Any] = {
            "dst": self.dst,
            "predicate": self.predicate,
            "on_true": self.on_true,
        }
        rules.require_tensor(self.opcode, **operands)
        rules.require_on_chip(self.opcode, **operands)
        rules.require_same_partitions(self.opcode, **operands)
        rules.require_same_elements(self.opcode, **operands)
        rules.require_not_both_psum(self.opcode, on_true=self.on_true, predicate=self.predicate)
        rules.require_scalar_or_column(self.opcode, "on_false", self.on_false, self.dst.shape[0])
        rules.require_reduce_cmd(self.opcode, self.reduce_cmd, "reset_reduce", "reduce", "idle")
        if self.reduce_res is not None:
            rules.require_column(self.opcode, "reduce_res", self.reduce_res, self.dst.shape[0])
            if dtypes.numpy_dtype(self.reduce_res.dtype).kind in "iub":
                raise NkiValidationError(
                    f"{self.opcode}: reduce_res is {self.reduce_res.dtype}", allowed="floats"
                )
        if self.predicate.dtype not in _PREDICATE_DTYPES:
            raise NkiValidationError(
                f"{self.opcode}: predicate is {self.predicate.dtype}",
                allowed=", ".join(_PREDICATE_DTYPES),
            )
        if self.on_true.dtype in _REFUSED_DTYPES:
            raise NkiValidationError(
                f"{self.opcode}: on_true is {self.on_true.dtype}",
                allowed=f"any dtype but {', '.join(_REFUSED_DTYPES)}",
            )

    def meaning(self) -> None:
        shape = self.dst.shape
        chosen = (self.predicate.array != 0).reshape(shape) ^ bool(self.reverse_pred)
        on_true = values.read_f32(self.on_true).reshape(shape)
        result = np.where(chosen, on_true, values.column_f32(self.on_false, len(shape)))
        values.write(self.dst, result)
        if self.reduce_cmd != "idle":
            self.accumulator.start(self.reduce_cmd, "maximum", shape[0])
            total = self.accumulator.accumulate("maximum", result)
            if self.reduce_res is not None:
                values.write(self.reduce_res, total)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        elements = signature.dst.elements
        mixed = in_psum(signature.dst, signature["on_true"], signature["predicate"])
        return vector_work(signature, chip, elements if mixed else 2 * elements)
