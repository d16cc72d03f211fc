"""The tensors of the first generation, and the tiles that index tiles and slices cut from them.

A tile is kept as affine positions, one per axis of its tensor, until an instruction uses it: so it
may reach past the tensor's end as long as the instruction's mask leaves that out. Instructions
get plain access patterns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rainshadow import dtypes
from rainshadow.errors import NkiValidationError, OutOfBoundsError
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.indices import Indirection
from rainshadow.isa.memory import Space
from rainshadow.nki.first_generation.index import Variable
from rainshadow.nki.first_generation.memory import Memory, Piece, Touch
from rainshadow.nki.first_generation.positions import Position, positions_of

#: First and end of an axis, None for all of it.
Range = tuple[int, int] | None
_NOBODY: frozenset[Variable] = frozenset()


class Tensor:
    """A tensor, or a tile of one.

    shape: of the tile.  positions: per axis of the memory, where the tile's elements lie.
    variables: per axis of the tile, the index variables that run along it.
    """

    __slots__ = ("_memory", "_positions", "shape", "type_name", "variables")
    __array_ufunc__ = None
    __hash__ = object.__hash__

    def __init__(
        self,
        memory: Memory | None,
        shape: tuple[int, ...],
        type_name: str,
        positions: tuple[Position, ...] | None = None,
        variables: tuple[frozenset[Variable], ...] | None = None,
    ) -> None:
        self._memory = memory
        self._positions = positions
        self.shape = shape
        self.type_name = type_name
        self.variables = variables or (_NOBODY,) * len(shape)

    @staticmethod
    def of(memory: Memory) -> Tensor:
        """All of a declared tensor."""
        return Tensor(memory, memory.shape, memory.dtype)

    @staticmethod
    def over(pattern: AccessPattern) -> Tensor:
        """The tensor that an access pattern shows."""
        return Tensor.of(Memory.over(pattern))

    # -- description ---------------------------------------------------------------------------

    @property
    def memory(self) -> Memory:
        """What the tile lies in."""
        assert self._memory is not None, "a result has its place once its operation is issued"
        return self._memory

    @property
    def positions(self) -> tuple[Position, ...]:
        """Where the tile lies in `memory`, per axis of that."""
        if self._positions is None:
            count = len(self.shape)
            self._positions = tuple(Position.along(axis, count) for axis in range(count))
        return self._positions

    @property
    def dtype(self) -> np.dtype[Any]:
        """As NumPy's dtype, which the first generation's dtypes are."""
        if self.type_name == "tfloat32":
            return np.dtype("V4")
        return dtypes.numpy_dtype(self.type_name)

    @property
    def space(self) -> Space:
        return self.memory.space

    @property
    def buffer(self) -> Space:
        """The memory region."""
        return self.memory.space

    @property
    def name(self) -> str:
        return self.memory.name

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        return dtypes.itemsize(self.type_name)

    @property
    def size(self) -> int:
        count = 1
        for extent in self.shape:
            count *= extent
        return count

    @property
    def on_chip(self) -> bool:
        """In SBUF or PSUM, where axis 0 of a tile is the partition axis."""
        return self.memory.space.on_chip

    def __repr__(self) -> str:
        return f"<{self.type_name}{list(self.shape)} in {self.memory.space.value}>"

    def __bool__(self) -> bool:
        """Of a whole tensor in HBM, an argument say: that it is there."""
        if not self.on_chip and self._positions is None:
            return True
        raise NkiValidationError(
            f"the value of {self!r} as True or False",
            allowed="Python values: what a tile holds is not known when the kernel is compiled",
            fix="choose with nl.where, or with a mask",
        )

    def __iter__(self) -> Iterator[Tensor]:
        raise NkiValidationError(
            "iteration over a tensor", fix="loop with nl.affine_range and index the tensor"
        )

    def __len__(self) -> int:
        return self.shape[0]

    # -- tiles ---------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Tensor:
        """A tile by integers, slices, nl.ds, index tiles and tiles of indices."""
        memory = self.memory
        found = positions_of(key, self.shape, keep_partition=self._partition_axis())
        positions: tuple[Position, ...] = found.positions
        if self._positions is not None:
            positions = tuple(outer.within(found.positions) for outer in self._positions)
        return Tensor(memory, found.shape, self.type_name, positions, found.variables)

    def _partition_axis(self) -> int | None:
        """The axis of the tile that integers keep with size 1."""
        if not self.on_chip:
            return None
        blocks = self.memory.block_axes
        if self._positions is None:
            return blocks
        along = self._positions[blocks].steps
        return next((axis for axis, step in enumerate(along) if step), 0)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise NotImplementedError  # Replaced in `arithmetic`, which knows the instructions.

    def window(self, touch: Touch, ranges: Sequence[Range] | None = None) -> AccessPattern:
        """The access pattern of (a box of) the tile, for an instruction that touches it so."""
        piece, view = self._view(ranges)
        if piece.contents is not None:
            piece.contents.touch(view, touch)
        return view

    def accumulation(self, ranges: Sequence[Range] | None = None) -> tuple[AccessPattern, bool]:
        """The access pattern, and whether a matmul adds to what is there."""
        piece, view = self._view(ranges)
        assert piece.contents is not None, "PSUM knows what has been written"
        return view, piece.contents.accumulates(view)

    def _view(self, ranges: Sequence[Range] | None) -> tuple[Piece, AccessPattern]:
        memory = self.memory
        whole = self._positions is None and (ranges is None or not any(ranges))
        if whole and memory.block_axes == 0:
            piece = memory.piece(())
            return piece, piece.pattern
        firsts, shape = self._cut(ranges)
        blocks = memory.block_axes
        starts = [position.start_at(firsts) for position in self.positions]
        self._check_inside(starts, shape)
        if any(any(position.steps) for position in self.positions[:blocks]):
            raise NkiValidationError(
                f"a tile {list(self.shape)} over several blocks of {list(memory.shape)}",
                allowed="one block at a time",
                fix="loop over the block axes, those before nl.par_dim",
            )
        piece = memory.piece(tuple(starts[:blocks]))
        return piece, self._pattern(piece.pattern, starts[blocks:], shape, ranges)

    def _cut(self, ranges: Sequence[Range] | None) -> tuple[list[int], tuple[int, ...]]:
        if ranges is None:
            return [0] * len(self.shape), self.shape
        firsts = [0 if cut is None else cut[0] for cut in ranges]
        shape = [
            n if cut is None else cut[1] - cut[0] for n, cut in zip(self.shape, ranges, strict=True)
        ]
        return firsts, tuple(shape)

    def _check_inside(self, starts: Sequence[int], shape: tuple[int, ...]) -> None:
        for axis, (position, start) in enumerate(zip(self.positions, starts, strict=True)):
            low, high = position.reach(start, shape)
            extent = self.memory.shape[axis]
            if (low < 0 or high >= extent) and position.tile is None:
                raise OutOfBoundsError(
                    f"elements {low}..{high} on axis {axis} of a tensor of shape "
                    f"{self.memory.shape}",
                    allowed=f"0..{extent - 1}",
                    fix="give the instruction a mask that leaves out what lies outside",
                )

    def _pattern(
        self,
        whole: AccessPattern,
        starts: Sequence[int],
        shape: tuple[int, ...],
        ranges: Sequence[Range] | None,
    ) -> AccessPattern:
        positions = self.positions[self.memory.block_axes :]
        offset = whole.offset
        steps = [0] * len(shape)
        picked: tuple[int, Position] | None = None
        offset_from = None
        for axis, (position, stride) in enumerate(zip(positions, whole.strides, strict=True)):
            start = starts[axis]
            if position.tile is not None and position.tile.size == 1:
                offset_from = position.tile.window(Touch.read)
                start += self._inside(int(offset_from), start, axis, whole)
            elif position.tile is not None:
                picked = axis, position
            offset += start * stride
            for along, step in enumerate(position.steps):
                steps[along] += step * stride
        if whole.buffer_.on_chip:
            self._require_partitions_first(positions[0], shape)
            steps[0] = positions[0].steps[0] * whole.strides[0] or whole.strides[0]
        view = AccessPattern(whole.buffer_, whole.dtype, shape, tuple(steps), offset)
        view.offset_from = offset_from
        if picked is not None:
            self._pick(view, whole, *picked, starts[picked[0]], ranges)
        return view

    def _inside(self, value: int, start: int, axis: int, whole: AccessPattern) -> int:
        if not 0 <= start + value < whole.shape[axis]:
            raise OutOfBoundsError(
                f"a tile of one index holds {value}, for axis {axis} of shape {whole.shape}",
                allowed=f"0..{whole.shape[axis] - 1}",
            )
        return value

    def _require_partitions_first(self, partition: Position, shape: tuple[int, ...]) -> None:
        later = any(step and n > 1 for step, n in zip(partition.steps[1:], shape[1:], strict=True))
        if later or (shape[0] > 1 and partition.steps[0] < 1):
            raise NkiValidationError(
                f"a tile {list(shape)} of {list(self.memory.shape)} in {self.space.value}",
                allowed="tiles whose first axis, and no other, runs over the partitions",
            )

    def _pick(
        self,
        view: AccessPattern,
        whole: AccessPattern,
        axis: int,
        position: Position,
        start: int,
        ranges: Sequence[Range] | None,
    ) -> None:
        """Axis 0 of the view is picked by a tile of indices."""
        assert position.tile is not None
        tile = position.tile
        if tile.shape[0] != self.shape[0] or tile.size != self.shape[0] or any(position.steps):
            raise NkiValidationError(
                f"a tile {list(self.shape)} with indices {list(tile.shape)}",
                allowed="one index for each row of the tile: [P, 1], on its first axis",
            )
        cut = None if ranges is None else [ranges[0], *([None] * (tile.ndim - 1))]
        index = tile.window(Touch.read, cut)
        view.indirection = Indirection(index, 0, whole.strides[axis], whole.shape[axis] - start)

    # -- other views ---------------------------------------------------------------------------

    def _viewed(self, view: AccessPattern, contents: Any) -> Tensor:
        return Tensor.of(Memory.over(view, contents))

    def reshape(self, *extents: Any, shape: Any = None) -> Tensor:
        """The same elements under another shape, no copy; the partition axis is kept on chip."""
        given = extents if shape is None else (shape,)
        new = given if hasattr(given[0], "__index__") else given[0]
        piece, view = self._view(None)
        return self._viewed(view.reshape(*(int(extent) for extent in new)), piece.contents)

    def view(self, dtype: Any) -> Tensor:
        """The same bytes as another dtype."""
        view = self.window(Touch.read)
        return self._viewed(view.view(dtypes.canonical(dtype)), None)

    def expand_dims(self, axis: Any) -> Tensor:
        """New axes of size 1."""
        axes = sorted(axis) if isinstance(axis, list | tuple) else [axis]
        shape = list(self.shape)
        for position in axes:
            shape.insert(position if position >= 0 else position + len(shape) + 1, 1)
        return self.reshape(tuple(shape))

    def stretched(self, shape: tuple[int, ...]) -> Tensor:
        """Free axes of size 1, or missing in front, repeated: NumPy's broadcasting, no copy."""
        missing = len(shape) - self.ndim
        if self.shape == shape:
            return self
        if missing < 0 or any(
            have not in (1, want) for have, want in zip(self.shape, shape[missing:], strict=True)
        ):
            raise NkiValidationError(
                f"broadcasting {list(self.shape)} to {list(shape)}", allowed="axes of size 1"
            )
        kept = [have == want for have, want in zip(self.shape, shape[missing:], strict=True)]
        positions = tuple(position.stretched(missing, kept) for position in self.positions)
        variables = (_NOBODY,) * missing + tuple(
            some if keep else _NOBODY for some, keep in zip(self.variables, kept, strict=True)
        )
        return Tensor(self.memory, shape, self.type_name, positions, variables)

    def assert_shape(self, shape: Sequence[int]) -> Tensor:
        """The tensor itself.

        Errors: `NkiValidationError` if it has another shape.
        """
        if tuple(shape) != self.shape:
            raise NkiValidationError(f"a tensor of shape {self.shape}", allowed=f"{tuple(shape)}")
        return self
