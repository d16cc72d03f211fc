"""Executes a kernel again on other data in HBM, without running the kernel's Python.

For kernels whose control flow does not depend on data, as the compiler's are. Tiles lie at the
addresses that placement gave them, in one SBUF and PSUM shared by all kernels, as on the chip.
Checks are not repeated: the launch that was recorded has passed them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np

from rainshadow.errors import NkiValidationError, SourceLine
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.instruction import Instruction
from rainshadow.isa.memory import Buffer, Space
from rainshadow.machine import NeuronCore
from rainshadow.sim.host_threads import one_thread

Array = np.ndarray[Any, np.dtype[Any]]

#: An instruction and what executes it: its meaning, or a fast path that has taken it before.
Step = tuple[Callable[[Any], Any], Instruction]


@dataclass(frozen=True, slots=True)
class OnChipMemory:
    """The bytes of one core's SBUF and PSUM; `lock` is held while a kernel runs in them."""

    partitions: int
    sbuf: Array
    psum: Array
    lock: Any

    def storage(self, buffer: Buffer, address: int) -> Array:
        """Bytes for a tile at `address` of every partition.

        A tile's partitions lie one after another from byte address * partitions: tiles that are
        apart in address are apart in here.
        """
        memory = self.sbuf if buffer.space is Space.sbuf else self.psum
        first = address * self.partitions
        return memory[first : first + buffer.size_bytes * buffer.partitions]


def on_chip_memory(core: NeuronCore) -> OnChipMemory:
    """This process's SBUF and PSUM for cores of this size."""
    return _memory_of(
        int(core.partitions.value),
        int(core.sbuf.bytes_per_partition.value),
        int(core.psum.bytes_per_partition.value),
    )


@cache
def _memory_of(partitions: int, sbuf: int, psum: int) -> OnChipMemory:
    return OnChipMemory(
        partitions=partitions,
        sbuf=np.empty(partitions * sbuf, dtype=np.uint8),
        psum=np.empty(partitions * psum, dtype=np.uint8),
        lock=threading.Lock(),
    )


def flat_bytes(array: Array) -> Array:
    """The memory of an array from its first to its last element, as bytes, without a copy."""
    item = array.dtype.itemsize
    span = 1 + sum((n - 1) * (s // item) for n, s in zip(array.shape, array.strides, strict=True))
    # As opaque words: as_strided does not know every dtype of ml_dtypes.
    words = array.view(f"V{item}")
    return np.lib.stride_tricks.as_strided(words, (span,), (item,)).view(np.uint8)


class Replay:
    """A kept kernel launch. arguments: the HBM buffers of its arrays, in order."""

    def __init__(
        self,
        arguments: Sequence[Buffer],
        steps: Sequence[Step],
        memory: OnChipMemory,
        source_of: Callable[[int], SourceLine],
    ) -> None:
        self._arguments = tuple(arguments)
        self._steps = tuple(steps)
        self._memory = memory
        self._source_of = source_of
        mine = {id(buffer) for buffer in arguments}
        views = {id(v): v for _, instr in steps for v in _views(instr)}
        self._outer_views = [v for v in views.values() if id(v.buffer_) in mine]
        self._let_go()

    def run(self, arrays: Sequence[Array]) -> None:
        """Execute on arrays of the same shapes, strides and dtypes as before, in place.

        Errors: `NkiValidationError` with the kernel's line where the data break a rule.
        """
        for buffer, array in zip(self._arguments, arrays, strict=True):
            buffer.storage = flat_bytes(array)
        row = 0
        try:
            with self._memory.lock, one_thread(), np.errstate(all="ignore"):
                for execute, instr in self._steps:
                    execute(instr)
                    row += 1
        except NkiValidationError as error:
            error.where = error.where or self._source_of(row)
            raise
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """Keep no reference to the caller's memory."""
        for buffer in self._arguments:
            buffer.storage = None
        for view in self._outer_views:
            view.forget()


def _views(instr: Instruction) -> Iterator[AccessPattern]:
    for entry in fields(instr):  # type: ignore[arg-type]
        value = getattr(instr, entry.name)
        for view in value if isinstance(value, list | tuple) else (value,):
            if isinstance(view, AccessPattern):
                yield view
                if view.indirection is not None:
                    yield view.indirection.index
