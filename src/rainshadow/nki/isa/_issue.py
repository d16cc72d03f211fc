"""How a function of `nki.isa` becomes an instruction of the running kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction
from rainshadow.isa.instructions.tensor_copy import TensorCopy
from rainshadow.isa.integers import shown
from rainshadow.isa.operators import AluOperator
from rainshadow.nki import spread
from rainshadow.nki.constants import dge_mode
from rainshadow.sim.recorder import Recorder, active_recorder


class NkiInstruction:
    """An instruction that a kernel has issued. handle: the recorder and the row in its trace."""

    __slots__ = ("handle",)

    def __init__(self, handle: tuple[Recorder, int]) -> None:
        self.handle = handle

    def call(self, name: str | None) -> None:
        """Name it, for `with_schedule`; the last one of a name has it."""
        if name is not None:
            if not isinstance(name, str):
                raise NkiValidationError(f"name is {shown(name)}", allowed="a string")
            recorder, row = self.handle
            recorder.named_rows[name] = row

    def depends_on(self, *producers: NkiInstruction) -> NkiInstruction:
        """This instruction starts when every producer is done. Returns self.

        Errors: `NkiValidationError` for a producer of another kernel, or issued later.
        """
        recorder, row = self.handle
        for producer in producers:
            known: Any = getattr(producer, "handle", None)
            if known is None or known[0] is not recorder or known[1] >= row:
                raise NkiValidationError(
                    f"depends_on({producer!r})",
                    allowed="instructions that this kernel has issued earlier",
                )
            recorder.depend(row, known[1])
        return self


def issue(instr: Instruction) -> NkiInstruction:
    """Hand an instruction to the running kernel's recorder."""
    recorder = active_recorder()
    spread.settle(recorder, instr, _copy)
    recorder.issue(instr)
    return NkiInstruction((recorder, recorder.instruction_count - 1))


def _copy(dst: AccessPattern, src: AccessPattern) -> None:
    active_recorder().issue(TensorCopy(dst, src, Engine.vector))


def nothing_issued() -> NkiInstruction:
    """The handle of a call that had nothing to do: nobody waits for it."""
    return NkiInstruction((active_recorder(), -1))


def engine_or(chosen: Engine, otherwise: Engine) -> Engine:
    """The engine that the kernel names, or this one."""
    return otherwise if chosen is Engine.unknown else chosen


def other_operand(name: str, op: AluOperator | None, operand: Any) -> Any:
    """What stands beside a unary operator's tensor: nothing, written as 0.

    Errors: `NkiValidationError` for another number; it is looked at in every call, since rules are
    checked once for calls that differ in the values of their numbers only.
    """
    if op is None or not op.unary:
        return operand
    if operand is None:
        return 0.0
    if isinstance(operand, int | float | np.generic) and operand != 0:
        raise NkiValidationError(
            f"{name} {shown(operand)} beside {op.name}, which takes one operand",
            allowed="None or 0",
        )
    return operand


def descriptors_of(mode: Any) -> dge_mode:
    """The mode that a kernel names, or gives the number of."""
    return dge_mode(mode)


def trigger_of(chosen: Engine, mode: dge_mode) -> Engine:
    """The engine that starts a DMA: hardware descriptors come from SyncE unless named."""
    if chosen is not Engine.unknown:
        return chosen
    return Engine.sync if mode is dge_mode.hwdge else Engine.gpsimd
