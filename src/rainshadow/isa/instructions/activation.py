"""dst = op(data * scale + bias) on ScalarE, optionally with a sum along the free axes.

Source of rules, numerics and cost: AWS Neuron docs 2.32 nki.isa.activation; cost formula from the
same page at tag v2.26.1; table load and latency from published trn2 profiles (machine data).
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
from rainshadow.isa.operators import ACTIVATION_FUNCTIONS, ActivationFunction
from rainshadow.machine import Chip

_COMMANDS = ("idle", "reset", "reduce", "reset_reduce")


@instruction
@dataclass(slots=True)
class Activation(Instruction):
    """dst, data: [P, free...]; scale: number or [P, 1]; bias: number, [P, 1] or None.

    reduce_cmd: what happens to the engine's registers, one per partition: reset, reduce (add the
    sum over the free axes of the float32 results), reset_reduce or idle.
    reduce_res: [P, 1], gets the registers.
    """

    opcode = "activation"
    READS = ("data", "bias", "scale")
    COLUMNS = ("dst", "data")
    WRITES = ("dst", "reduce_res")
    PARAMS = ("op", "reduce_cmd")
    EXAMPLE = "nisa.activation(dst=p, op=nl.exp, data=scores, bias=minus_max, scale=0.125)"

    dst: AccessPattern
    op: ActivationFunction
    data: AccessPattern
    accumulator: Accumulator
    bias: Any = None
    scale: Any = 1.0
    reduce_res: AccessPattern | None = None
    reduce_cmd: str = "idle"
    engine: Engine = Engine.scalar

    def check(self, chip: Chip) -> None:
        rules.require_tensor(self.opcode, dst=self.dst, data=self.data)
        rules.require_on_chip(self.opcode, dst=self.dst, data=self.data)
        rules.require_same_partitions(self.opcode, dst=self.dst, data=self.data)
        rules.require_same_elements(self.opcode, dst=self.dst, data=self.data)
        partitions = self.data.shape[0]
        rules.require_scalar_or_column(self.opcode, "scale", self.scale, partitions)
        if self.bias is not None:
            rules.require_scalar_or_column(self.opcode, "bias", self.bias, partitions)
        if self.reduce_res is not None:
            rules.require_scalar_or_column(self.opcode, "reduce_res", self.reduce_res, partitions)
        rules.require_reduce_cmd(self.opcode, self.reduce_cmd, *_COMMANDS)
        rules.require_dtype(self.opcode, "scale", self.scale, "float32")
        self._check_bias(chip)

    def _check_bias(self, chip: Chip) -> None:
        """No tfloat32; on NeuronCore-v2 a column, and none with reciprocal."""
        if rules.is_tensor(self.bias) and self.bias.dtype == "tfloat32":
            raise NkiValidationError(f"{self.opcode}: bias is tfloat32", allowed="other dtypes")
        if chip.generation != "gen2" or self.bias is None:
            return
        if self.op.name == "reciprocal" or not rules.is_tensor(self.bias):
            raise NkiValidationError(
                f"{self.opcode} of {self.op.name} on {chip.title}: a bias that is "
                f"{'a tensor' if rules.is_tensor(self.bias) else 'a number'}",
                allowed="a tensor [P, 1], and none with reciprocal, on NeuronCore-v2",
            )

    def meaning(self) -> None:
        data = values.read_f32(self.data)
        inner = data * values.column_f32(self.scale, data.ndim)
        if self.bias is not None:
            inner = inner + values.column_f32(self.bias, data.ndim)
        result = activated(self.op, inner)
        values.write(self.dst, result)
        self.reduce(result)

    def reduce(self, result: values.Array) -> None:
        """What the registers and reduce_res hold after `result`."""
        partitions = result.shape[0]
        if self.reduce_cmd != "idle":
            self.accumulator.start(self.reduce_cmd, "add", partitions)
        if self.reduce_cmd in ("reduce", "reset_reduce"):
            self.accumulator.accumulate("add", result)
        if self.reduce_res is not None:
            values.write(self.reduce_res, self.accumulator.values[:partitions])

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        """max(64, N) cycles; reading the accumulator of a reduction adds about 64."""
        cycles = float(signature["data"].elements)
        scalar = core_of(chip).scalar
        if signature.get("reduce_res") is not None:
            cycles = max(cycles, scalar.min_initiation_cycles.value)
            cycles += scalar.read_accumulator_cycles.value
        return scalar_work(chip, cycles, ACTIVATION_FUNCTIONS[signature.params["op"]].table)
