"""Knows how a row is copied to all partitions: a matmul with ones, whose result stays in PSUM.

`nl.broadcast_to` is one instruction of TensorE to AWS's tutorials. VectorE and ScalarE read PSUM
as well as SBUF, so the first instruction that uses the result reads it there; one that can't, and
all later ones, get a copy in SBUF, made when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import ACCESSORS, Instruction
from rainshadow.isa.memory import Buffer, Space
from rainshadow.sim.recorder import Recorder

_READ_PSUM = (Engine.vector, Engine.scalar)


@dataclass(slots=True)
class _Spread:
    """A row in PSUM. used: an instruction has read it.  copy: in SBUF, once there is one."""

    whole: AccessPattern
    used: bool = False
    copy: AccessPattern | None = None


@dataclass(slots=True)
class _OfKernel:
    """Tiles of ones by (partitions, dtype), and the rows in PSUM that the kernel still holds."""

    ones: dict[Any, AccessPattern] = field(default_factory=dict)
    spreads: WeakKeyDictionary[Buffer, _Spread] = field(default_factory=WeakKeyDictionary)


_KERNELS: WeakKeyDictionary[Recorder, _OfKernel] = WeakKeyDictionary()


def ones_of(
    recorder: Recorder, partitions: int, dtype: str, fill: Callable[[AccessPattern], Any]
) -> AccessPattern:
    """A [1, partitions] tile of ones, filled once a kernel."""
    known = _KERNELS.setdefault(recorder, _OfKernel()).ones
    tile = known.get((partitions, dtype))
    if tile is None:
        tile = recorder.allocate((1, partitions), dtype, Space.sbuf)
        fill(tile)
        known[partitions, dtype] = tile
    return tile


def keep_in_psum(recorder: Recorder, whole: AccessPattern) -> AccessPattern:
    """A float32 tile of PSUM that instructions may take for one of SBUF."""
    _KERNELS.setdefault(recorder, _OfKernel()).spreads[whole.buffer_] = _Spread(whole)
    return whole


def settle(recorder: Recorder, instr: Instruction, copy: Callable[..., Any]) -> None:
    """Give an instruction that names rows in PSUM copies of them, unless it may read them there.

    copy(dst, src): issues the copy.
    """
    kernel = _KERNELS.get(recorder)
    if kernel is None or not kernel.spreads:
        return
    cls = type(instr)
    for name in (*cls.WRITES, *cls.READS):
        view = getattr(instr, name)
        if type(view) is not AccessPattern:
            continue
        spread = kernel.spreads.get(view.buffer_)
        if spread is None:
            continue
        if not spread.used and name in cls.READS and _takes(recorder, instr):
            spread.used = True
            continue
        if spread.copy is None:
            whole = spread.whole
            spread.copy = recorder.allocate(whole.shape, whole.dtype, Space.sbuf)
            copy(spread.copy, whole)
        setattr(instr, name, _same_window(view, spread.copy.buffer_))


def _takes(recorder: Recorder, instr: Instruction) -> bool:
    """Whether its engine reads PSUM and its rules allow all operands where they lie."""
    if instr.engine not in _READ_PSUM or not ACCESSORS[type(instr)].writes(instr):
        return False
    try:
        instr.check(recorder.chip)
    except NkiValidationError:
        return False
    return True


def _same_window(view: AccessPattern, buffer: Buffer) -> AccessPattern:
    return AccessPattern(
        buffer, view.dtype, view.shape, view.strides, view.offset, view.indirection
    )
