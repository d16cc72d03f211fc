"""dst = exp(src - max_value) on VectorE of NeuronCore-v4, optionally with its sum.

Source of rules and numerics: AWS Neuron docs 2.32 nki.isa.exponential; rate from the Trainium 3
guide: 4 elements per lane and cycle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.accumulator import Accumulator
from rainshadow.isa.costs import core_of, vector_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.machine import Chip

_FLOATS = ("float8_e4m3", "float8_e5m2", "float16", "bfloat16", "float32")
_INTEGERS = ("int8", "int16", "int32", "uint8", "uint16")
_COMMANDS = ("idle", "reset_reduce", "reduce", "load_reduce")
_MAX_AXES = 4


@instruction
@dataclass(slots=True)
class Exponential(Instruction):
    """dst, src: [P, free...]; max_value: number or float32 [P, 1]; reduce_res: [P, 1].

    reduce_init: what load_reduce loads, a number or float32 [P, 1].
    """

    opcode = "exponential"
    READS = ("src", "max_value", "reduce_init")
    COLUMNS = ("dst", "src")
    VALUES = ("reduce_init",)
    WRITES = ("dst", "reduce_res")
    PARAMS = ("reduce_cmd",)
    EXAMPLE = "nisa.exponential(dst=p, src=scores, max_value=row_max)"

    dst: AccessPattern
    src: AccessPattern
    max_value: Any
    accumulator: Accumulator
    reduce_res: AccessPattern | None = None
    reduce_cmd: str = "idle"
    reduce_init: Any = 0.0
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        rules.require_generation(self.opcode, chip, "gen4")
        rules.require_tensor(self.opcode, dst=self.dst, src=self.src)
        rules.require_on_chip(self.opcode, dst=self.dst, src=self.src, reduce_res=self.reduce_res)
        rules.require_same_partitions(self.opcode, dst=self.dst, src=self.src)
        rules.require_same_elements(self.opcode, dst=self.dst, src=self.src)
        rules.require_dtype(self.opcode, "src", self.src, *_FLOATS, *_INTEGERS, "uint32")
        rules.require_dtype(self.opcode, "dst", self.dst, *_FLOATS, *_INTEGERS, "tfloat32")
        for name, view in (("dst", self.dst), ("src", self.src)):
            if view.ndim > _MAX_AXES:
                raise NkiValidationError(
                    f"{self.opcode}: {name} has {view.ndim} axes", allowed=f"up to {_MAX_AXES}"
                )
        for name, value in (("max_value", self.max_value), ("reduce_init", self.reduce_init)):
            rules.require_scalar_or_column(self.opcode, name, value, self.src.shape[0])
            rules.require_dtype(self.opcode, name, value, "float32")
        if self.reduce_res is not None:
            rules.require_column(self.opcode, "reduce_res", self.reduce_res, self.src.shape[0])
            rules.require_dtype(self.opcode, "reduce_res", self.reduce_res, *_FLOATS, "tfloat32")
        self._check_command()

    def _check_command(self) -> None:
        if self.reduce_cmd not in _COMMANDS:
            raise NkiValidationError(
                f"{self.opcode}: reduce_cmd {self.reduce_cmd}", allowed=", ".join(_COMMANDS)
            )
        given = rules.is_tensor(self.reduce_init) or self.reduce_init != 0
        if given and self.reduce_cmd != "load_reduce":
            raise NkiValidationError(
                f"{self.opcode}: reduce_init with reduce_cmd {self.reduce_cmd}",
                allowed="reduce_init with load_reduce only",
            )

    def meaning(self) -> None:
        data = values.read_f32(self.src)
        result = np.exp(data - values.column_f32(self.max_value, data.ndim))
        values.write(self.dst, result)
        if self.reduce_cmd == "idle":
            return
        initial = values.read_f32(self.reduce_init)
        self.accumulator.start(self.reduce_cmd, "add", data.shape[0], initial)
        total = self.accumulator.accumulate("add", result)
        if self.reduce_res is not None:
            values.write(self.reduce_res, total)

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        return vector_work(
            signature, chip, signature["src"].elements / core_of(chip).vector.quad_rate.value
        )
