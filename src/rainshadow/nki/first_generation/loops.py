"""The loops of the first generation: plain Python loops whose indices know their loop.

`nl.loop_reduce` needs that: it starts anew in the first iteration of the loops it names. And AWS's
compiler traces the body of a loop once, unless that is an `nl.static_range`: an address that the
body gives to a tile is the first iteration's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from rainshadow.isa.access import AccessPattern
from rainshadow.isa.operators import alu_operator
from rainshadow.nki import isa
from rainshadow.nki.first_generation.arithmetic import as_tile
from rainshadow.nki.first_generation.compiler import Allocation
from rainshadow.nki.first_generation.memory import Memory, Touch
from rainshadow.nki.first_generation.operation import (
    Operation,
    Result,
    along,
    call,
    kind_of,
)
from rainshadow.nki.first_generation.state import KernelState, current
from rainshadow.nki.first_generation.tensor import Tensor


class LoopIndex(int):
    """An integer that a loop of nl gave.

    is_first: in the loop's first iteration.  is_unrolled: the loop is an `nl.static_range`.
    """

    is_first: bool
    is_unrolled: bool


def _loop(args: tuple[Any, ...], is_unrolled: bool = False) -> Iterator[LoopIndex]:
    loops, place = current().loops, len(current().loops)
    is_first = True
    for value in range(*(int(arg) for arg in args)):
        index = LoopIndex(value)
        index.is_unrolled = is_unrolled
        index.is_first, is_first = is_first, False
        loops[place:] = [index]
        yield index
    del loops[place:]


def affine_range(*args: Any, **kwargs: Any) -> Iterator[LoopIndex]:
    """A loop whose iterations do not depend on each other."""
    return _loop(args)


def sequential_range(*args: Any, **kwargs: Any) -> Iterator[LoopIndex]:
    """A loop whose iterations depend on each other."""
    return _loop(args)


def static_range(*args: Any, **kwargs: Any) -> Iterator[LoopIndex]:
    """A loop that the compiler unrolls."""
    return _loop(args, is_unrolled=True)


def traced_once(allocation: Allocation) -> Allocation:
    """What the first iteration of the loops that run has given at this place of the kernel."""
    kernel = current()
    if allocation.allocator is None or all(index.is_unrolled for index in kernel.loops):
        return allocation
    place: list[Any] = [int(index) for index in kernel.loops if index.is_unrolled]
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") != KernelState.LAUNCHER:
        place.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return kernel.allocations.setdefault(tuple(place), allocation)


def loop_reduce(
    x: Any, op: Any, loop_indices: Any, *, dtype: Any = None, mask: Any = None, **kwargs: Any
) -> Tensor:
    """x in the first iteration of the loops named, then the result so far op x.

    The result so far is in the tile that the result is assigned to, or else in one of its own.
    """
    tile, operator = as_tile(x), alu_operator(op)
    given = loop_indices if isinstance(loop_indices, list | tuple) else [loop_indices]
    begins = all(getattr(index, "is_first", index == 0) for index in given)

    def emit(dst: AccessPattern, data: AccessPattern) -> None:
        if begins:
            isa.tensor_copy(dst, data)
        else:
            isa.tensor_tensor(dst, dst, data, operator.name)

    kind = kind_of(dtype, tile.type_name)
    operation = Operation(
        emit, [along("data", tile)], mask, shape=tile.shape, dtype=kind,
        explicit=dtype is not None, touch=Touch.write if begins else Touch.change,
    )  # fmt: skip
    return call_reduction(operation, begins, _place(given))


def _place(given: Any) -> Any:
    """What tells one running reduction from another: the line, and the loops it does not name."""
    named = {id(index) for index in given}
    frame = sys._getframe(2)
    others = tuple(int(index) for index in current().loops if id(index) not in named)
    return frame.f_code, frame.f_lineno, others


class _Reduction(Result):
    """The result of a reduction over loops, which keeps its tile from iteration to iteration."""

    __slots__ = ("begins", "place")

    begins: bool
    place: Any

    def _new_memory(self) -> Memory:
        tiles = current().accumulated
        if self.begins or self.place not in tiles:
            tiles[self.place] = super()._new_memory()
        return tiles[self.place]  # type: ignore[no-any-return]


def call_reduction(operation: Operation, begins: bool, place: Any) -> Result:
    """The result of a reduction over loops, which waits to be used."""
    result = call(operation, kind=_Reduction)
    assert isinstance(result, _Reduction)
    result.begins, result.place = begins, place
    return result
