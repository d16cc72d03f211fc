"""How a function of `nki.isa` becomes an instruction of the running kernel."""

from __future__ import annotations

from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction
from rainshadow.nki.constants import dge_mode
from rainshadow.sim.recorder import active_recorder


def issue(instr: Instruction) -> None:
    """Hand an instruction to the running kernel's recorder."""
    active_recorder().issue(instr)


def engine_or(chosen: Engine, otherwise: Engine) -> Engine:
    """The engine that the kernel names, or this one."""
    return otherwise if chosen is Engine.unknown else chosen


def trigger_of(chosen: Engine, mode: dge_mode) -> Engine:
    """The engine that starts a DMA: hardware descriptors come from SyncE unless named."""
    if chosen is not Engine.unknown:
        return chosen
    return Engine.sync if mode is dge_mode.hwdge else Engine.gpsimd
