"""What a first-generation tensor lies in: one piece of memory, or one for each of its blocks.

An axis before the partition axis counts blocks: each block is a tile of its own, made when it is
first touched, so that it holds SBUF or PSUM only from its first to its last use. `nl.zeros` costs
an instruction only where its zeros are read: a matmul that accumulates overwrites PSUM the first
time, as TensorE does.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np

from rainshadow import dtypes
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.memory import Space
from rainshadow.nki import isa
from rainshadow.nki.first_generation.mask import boxes_in
from rainshadow.sim.recorder import Recorder, active_recorder

#: (idx=block, pdim_size=partitions, fdim_size=bytes each) -> (first partition, first byte).
#: Kernels write some of these functions, and take the arguments by name.
Allocator = Callable[..., tuple[int, int]]


class Touch(Enum):
    """What an instruction does with a tile."""

    read = 0
    write = 1
    change = 2


class Contents:
    """What is known of a buffer's elements.

    fill: the value that those not written yet have, None where they have none.  written: a flag
    per element, where that decides anything.
    """

    __slots__ = ("fill", "line", "written")

    def __init__(self, fill: Any, line: int) -> None:
        self.fill = fill
        self.line = line
        self.written: np.ndarray[Any, Any] | None = None

    def touch(self, view: AccessPattern, touch: Touch) -> None:
        """An instruction is about to touch a view: what it reads gets the value it starts with."""
        if view.space is not Space.psum:
            if self.fill is None:
                return
            if touch is not Touch.write or view.size < _whole(view).size:
                self._set(_whole(view))
            self.fill = None
        elif touch is Touch.write:
            self._flags(view)[...] = True
        elif self.fill is not None:
            self._fill_rest(view)

    def accumulates(self, view: AccessPattern) -> bool:
        """Whether a matmul adds to what a view of PSUM holds; the first one overwrites it."""
        if self.fill:
            self._fill_rest(view)
        flags = self._flags(view)
        if flags.all():
            return True
        if flags.any():
            self._fill_rest(view)
            return True
        flags[...] = True
        return False

    def _flags(self, view: AccessPattern) -> np.ndarray[Any, Any]:
        buffer = view.buffer_
        if self.written is None:
            self.written = np.zeros(buffer.partitions * buffer.size_bytes // view.itemsize, bool)
        return np.ndarray(view.shape, bool, self.written.data, view.offset, view.strides)

    def _fill_rest(self, view: AccessPattern) -> None:
        flags = self._flags(view)
        for box in boxes_in(~flags):
            self._set(view[tuple(slice(first, end) for first, end in box)])
        flags[...] = True

    def _set(self, view: AccessPattern) -> None:
        with active_recorder().on_line(self.line):
            isa.memset(view, self.fill or 0)


def _whole(view: AccessPattern) -> AccessPattern:
    """All of the view's buffer, as two axes on chip."""
    buffer = view.buffer_
    elements = buffer.size_bytes // view.itemsize
    return AccessPattern(buffer, view.dtype, (buffer.partitions, elements), (elements, 1))


class Piece:
    """One block: all of it, and what is known of its elements."""

    __slots__ = ("contents", "pattern")

    def __init__(self, pattern: AccessPattern, contents: Contents | None) -> None:
        self.pattern = pattern
        self.contents = contents


class Memory:
    """A declared tensor: `shape` is block axes, partition axis, free axes.

    block_axes: how many of them count blocks; in HBM there are none.
    """

    __slots__ = ("_allocator", "_fill", "_line", "_pieces", "block_axes", "dtype", "name",
                 "shape", "space")  # fmt: skip

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: str,
        space: Space,
        *,
        name: str = "",
        block_axes: int = 0,
        allocator: Allocator | None = None,
        fill: Any = None,
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.space = space
        self.name = name
        self.block_axes = block_axes
        self._allocator = allocator
        self._fill = fill
        self._line = active_recorder().line_number()
        self._pieces: dict[tuple[int, ...], Piece] = {}

    @staticmethod
    def over(pattern: AccessPattern, contents: Contents | None = None) -> Memory:
        """The tensor that an access pattern shows. contents: of its buffer, if known."""
        memory = Memory(pattern.shape, pattern.dtype, pattern.space, name=pattern.name)
        if contents is None and pattern.space is Space.psum:
            contents = Contents(None, memory._line)
        memory._pieces[()] = Piece(pattern, contents)
        return memory

    def piece(self, block: tuple[int, ...]) -> Piece:
        """A block, allocated now if nothing has touched it."""
        piece = self._pieces.get(block)
        if piece is None:
            recorder = active_recorder()
            with recorder.on_line(self._line):
                pattern = self._allocate(recorder, block)
            known = self.space is Space.psum or self._fill is not None
            piece = Piece(pattern, Contents(self._fill, self._line) if known else None)
            self._pieces[block] = piece
        return piece

    def _allocate(self, recorder: Recorder, block: tuple[int, ...]) -> AccessPattern:
        extents = self.shape[self.block_axes :]
        where = None
        if self._allocator is not None:
            size = dtypes.itemsize(self.dtype)
            for extent in extents[1:]:
                size *= extent
            where = self._allocator(idx=block, pdim_size=extents[0], fdim_size=size)
        return recorder.allocate(extents, self.dtype, self.space, self.name, where)
