"""dst = data1 op data2, element by element, on VectorE or GpSimdE.

Source of rules, numerics and cost: AWS Neuron docs 2.32 nki.isa.tensor_tensor; cost formula from
the same page at tag v2.26.1; v3 performance mode from the Trainium2 architecture guide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import core_of, gpsimd_work, in_psum, is_half_width, vector_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.operators import AluOperator
from rainshadow.machine import Chip

#: Integers that GpSimdE computes with as they are.
WORDS = ("int32", "uint32")


@instruction
@dataclass(slots=True)
class TensorTensor(Instruction):
    """dst, data1, data2: [P, free...] with equal element counts; op: an ALU operator."""

    opcode = "tensor_tensor"
    READS = ("data1", "data2")
    COLUMNS = ("dst", "data1")
    PARAMS = ("op",)
    EXAMPLE = "nisa.tensor_tensor(dst=total, data1=a, data2=b, op=nl.add)"

    dst: AccessPattern
    data1: AccessPattern
    data2: AccessPattern
    op: AluOperator
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        operands: dict[str, Any] = {"dst": self.dst, "data1": self.data1, "data2": self.data2}
        rules.require_tensor(self.opcode, **operands)
        rules.require_engine(self.opcode, self.engine, Engine.vector, Engine.gpsimd)
        rules.require_on_chip(self.opcode, **operands)
        rules.require_same_partitions(self.opcode, **operands)
        rules.require_same_elements(self.opcode, **operands)
        rules.require_not_both_psum(self.opcode, data1=self.data1, data2=self.data2)
        rules.require_no_gpsimd_psum(self.opcode, self.engine, **operands)
        rules.require_integers_for_bits(self.opcode, self.op, **operands)
        rules.require_binary(self.opcode, self.op)
        rules.require_operator_of_chip(self.opcode, chip, self.op)
        if self.op.name == "power":
            rules.require_engine(f"{self.opcode} by power", self.engine, Engine.gpsimd)

    def meaning(self) -> None:
        shape = self.dst.shape
        if self.op.kind == "bitvec" or self._is_native():
            left, right = self.data1.array, self.data2.array
        else:
            left, right = values.read_f32(self.data1), values.read_f32(self.data2)
        values.write(self.dst, self.op.function(left.reshape(shape), right.reshape(shape)))

    def _is_native(self) -> bool:
        """GpSimdE computes 32-bit integers as integers."""
        views = (self.dst, self.data1, self.data2)
        return self.engine is Engine.gpsimd and all(view.dtype in WORDS for view in views)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """N cycles with an operand in PSUM or a bf16/fp16 fast mode, else 2N.

        The factor of the fast mode is v3's performance mode for SBUF operands; on v2 the formula
        of the docs gives N for contiguous bf16 add, subtract and multiply.
        """
        elements = signature.dst.elements
        data1, data2, dst = signature["data1"], signature["data2"], signature.dst
        if signature.engine == "gpsimd":
            return gpsimd_work(chip, elements)
        if in_psum(data1, data2, dst):
            return vector_work(signature, chip, elements)
        if is_half_width(data1, data2, dst):
            return vector_work(
                signature, chip, 2 * elements / (2 * core_of(chip).vector.perf_mode_factor_2x.value)
            )
        return vector_work(signature, chip, 2 * elements)
