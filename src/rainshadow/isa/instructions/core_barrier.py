"""Waits until the cores of a logical core have all come here, on one engine.

Source of rules: AWS Neuron docs 2.32 nki.isa.core_barrier, which names shared HBM; AWS's
nki-library also synchronises on a tile of SBUF (core/moe/moe_cte/bwmm_shard_on_I.py). No time is
published: the model takes a semaphore to the other core and one back, from when the last one comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import core_of
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.memory import Space
from rainshadow.machine import Chip


@instruction
@dataclass(slots=True)
class CoreBarrier(Instruction):
    """data: the tensor that the cores wrote; arrive() waits for the others."""

    opcode = "core_barrier"
    READS = ("data",)
    WRITES = ("data",)
    PARAMS = ("cores",)
    MEETS = True
    EXAMPLE = "nisa.core_barrier(data=shared, cores=(0, 1))"

    data: AccessPattern
    arrive: Any
    cores: tuple[int, ...]
    engine: Engine = Engine.gpsimd

    def check(self, chip: Chip) -> None:
        rules.require_generation(self.opcode, chip, "gen3", "gen4")
        rules.require_tensor(self.opcode, data=self.data)
        rules.require_space(self.opcode, "data", self.data, Space.shared_hbm, Space.sbuf)
        if tuple(self.cores) != (0, 1):
            raise NkiValidationError(f"{self.opcode}: cores {self.cores}", allowed="(0, 1)")

    def meet(self) -> None:
        self.arrive()

    def meaning(self) -> None:
        self.arrive()

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        return Work(2 * core_of(chip).semaphore_latency.value)
