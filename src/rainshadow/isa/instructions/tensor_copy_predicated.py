"""dst = src where predicate is not 0; other elements of dst stay, on VectorE.

Source of rules and cost: AWS Neuron docs 2.32 nki.isa.tensor_copy_predicated; cost formula from
the same page at tag v2.26.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import in_psum, vector_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.machine import Chip

_PREDICATE_DTYPES = ("uint8", "uint16", "uint32")


@instruction
@dataclass(slots=True)
class TensorCopyPredicated(Instruction):
    """dst, predicate: [P, free...]; src: the same, or a number."""

    opcode = "tensor_copy_predicated"
    READS = ("src", "predicate", "dst")
    COLUMNS = ("dst", "predicate")
    PARAMS = ("reverse_pred",)
    EXAMPLE = "nisa.tensor_copy_predicated(dst=y, src=x, predicate=mask)"

    dst: AccessPattern
    src: Any
    predicate: AccessPattern
    reverse_pred: bool = False
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        operands: dict[str, Any] = {"dst": self.dst, "predicate": self.predicate}
        rules.require_tensor(self.opcode, **operands)
        if isinstance(self.src, AccessPattern):
            operands["src"] = self.src
            if self.src.dtype != self.dst.dtype:
                raise NkiValidationError(
                    f"{self.opcode}: src is {self.src.dtype}, dst {self.dst.dtype}",
                    allowed="equal dtypes",
                )
        else:
            rules.require_number(self.opcode, "src", self.src)
        rules.require_on_chip(self.opcode, **operands)
        rules.require_same_partitions(self.opcode, **operands)
        rules.require_same_elements(self.opcode, **operands)
        rules.require_not_both_psum(self.opcode, src=self.src, predicate=self.predicate)
        if self.predicate.dtype not in _PREDICATE_DTYPES:
            raise NkiValidationError(
                f"{self.opcode}: predicate is {self.predicate.dtype}",
                allowed=", ".join(_PREDICATE_DTYPES),
                fix="write the comparison into a uint8 tile",
            )

    def meaning(self) -> None:
        target = self.dst.array
        chosen = (self.predicate.array != 0).reshape(target.shape) ^ bool(self.reverse_pred)
        source = self.src
        if isinstance(source, AccessPattern):
            source = source.array.reshape(target.shape)
        else:
            rules.require_representable(self.opcode, "src", source, self.dst)
        np.copyto(target, source, where=chosen, casting="unsafe")

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """N cycles if SBUF and PSUM operands are mixed, 2N if all are in SBUF."""
        elements = signature.dst.elements
        mixed = in_psum(signature.dst, signature.get("src"), signature["predicate"])
        return vector_work(signature, chip, elements if mixed else 2 * elements)
