"""dst = op((data op0 imm0) op1 imm1) on ScalarE of NeuronCore-v4, optionally with a reduction.

Source of rules and numerics: AWS Neuron docs 2.32 nki.isa.activate2. No cost is published: taken as
nki.isa.activation's, whose pipeline it extends (Trainium 3 guide).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.accumulator import Accumulator
from rainshadow.isa.costs import core_of, scalar_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.numerics import activated
from rainshadow.isa.operators import ACTIVATION_FUNCTIONS, ActivationFunction, AluOperator
from rainshadow.machine import Chip

_PAIRS = (
    ("multiply", "add"),
    ("multiply", "subtract"),
    ("multiply", "bypass"),
    ("add", "bypass"),
    ("subtract", "bypass"),
    ("bypass", "bypass"),
)
_COMMANDS = ("idle", "reset", "reduce", "reset_reduce")
_REDUCTIONS = ("add", "maximum", "minimum", "abs_max", "abs_min")


@instruction
@dataclass(slots=True)
class Activate2(Instruction):
    """dst, data: [P, free...]; imm0, imm1, relu_param: number or [P, 1]; reduce_res: [P, 1]."""

    opcode = "activate2"
    READS = ("data", "imm0", "imm1", "relu_param")
    COLUMNS = ("dst", "data")
    WRITES = ("dst", "reduce_res")
    PARAMS = ("op", "op0", "op1", "reduce_op", "reduce_cmd")
    EXAMPLE = (
        "nisa.activate2(dst=y, op=nl.gelu, data=x, imm0=2.0, imm1=0.5, op0=nl.multiply, op1=nl.add)"
    )

    dst: AccessPattern
    op: ActivationFunction
    data: AccessPattern
    imm0: Any
    imm1: Any
    op0: AluOperator
    op1: AluOperator
    accumulator: Accumulator
    relu_param: Any = 0.0
    reverse0: bool = False
    reverse1: bool = False
    reduce_op: AluOperator | None = None
    reduce_res: AccessPattern | None = None
    reduce_cmd: str = "idle"
    engine: Engine = Engine.scalar

    def check(self, chip: Chip) -> None:
        rules.require_generation(self.opcode, chip, "gen4")
        rules.require_tensor(self.opcode, dst=self.dst, data=self.data)
        rules.require_on_chip(self.opcode, dst=self.dst, data=self.data, reduce_res=self.reduce_res)
        rules.require_same_partitions(self.opcode, dst=self.dst, data=self.data)
        rules.require_same_elements(self.opcode, dst=self.dst, data=self.data)
        partitions = self.data.shape[0]
        for name in ("imm0", "imm1", "relu_param"):
            rules.require_scalar_or_column(self.opcode, name, getattr(self, name), partitions)
        if rules.is_tensor(self.imm0):
            rules.require_dtype(self.opcode, "imm1", self.imm1, self.imm0.dtype)
        if self.reduce_res is not None:
            rules.require_column(self.opcode, "reduce_res", self.reduce_res, partitions)
        self._check_operators()

    def _check_operators(self) -> None:
        if (self.op0.name, self.op1.name) not in _PAIRS:
            raise NkiValidationError(
                f"{self.opcode}: op0 {self.op0.name}, op1 {self.op1.name}",
                allowed="; ".join(f"{first} and {second}" for first, second in _PAIRS),
            )
        for reverse, op in (("reverse0", self.op0), ("reverse1", self.op1)):
            if getattr(self, reverse) and op.name == "bypass":
                raise NkiValidationError(
                    f"{self.opcode}: {reverse} with bypass", allowed=f"{reverse} with an operator"
                )
        reduces = self.reduce_cmd in ("reduce", "reset_reduce")
        name = None if self.reduce_op is None else self.reduce_op.name
        if self.reduce_cmd not in _COMMANDS or (reduces and name not in _REDUCTIONS):
            raise NkiValidationError(
                f"{self.opcode}: reduce_cmd {self.reduce_cmd}, reduce_op {name}",
                allowed=f"{', '.join(_COMMANDS)}; reductions by {', '.join(_REDUCTIONS)}",
            )

    def meaning(self) -> None:
        result = values.read_f32(self.data)
        for op, operand, reverse in (
            (self.op0, self.imm0, self.reverse0),
            (self.op1, self.imm1, self.reverse1),
        ):
            if op.name != "bypass":
                other = values.column_f32(operand, result.ndim)
                result = op.function(*((other, result) if reverse else (result, other)))
        slope = (values.column_f32(self.relu_param, result.ndim),) if self.op.takes_slope else ()
        result = activated(self.op, result, *slope)
        values.write(self.dst, result)
        name = "add" if self.reduce_op is None else self.reduce_op.name
        if self.reduce_cmd != "idle":
            self.accumulator.start(self.reduce_cmd, name, result.shape[0])
        if self.reduce_cmd in ("reduce", "reset_reduce"):
            self.accumulator.accumulate(name, result)
        if self.reduce_res is not None:
            values.write(self.reduce_res, self.accumulator.values[: result.shape[0]])

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        cycles = float(signature["data"].elements)
        scalar = core_of(chip).scalar
        if signature.get("reduce_res") is not None:
            cycles = max(cycles, scalar.min_initiation_cycles.value)
            cycles += scalar.read_accumulator_cycles.value
        return scalar_work(chip, cycles, ACTIVATION_FUNCTIONS[signature.params["op"]].table)
