"""Operations of the first generation: called with tiles, they return a tile, and may be masked.

An operation is issued when its result is first used. Where the kernel assigns the result to a
tile, as in `tile[...] = nl.exp(x)`, the instruction writes into that tile; otherwise a new tile is
made for it. No more than one operation waits at any time: the next one issues it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rainshadow import dtypes
from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.memory import Space
from rainshadow.isa.rules import start_step
from rainshadow.nki import isa
from rainshadow.nki.first_generation.index import Variable
from rainshadow.nki.first_generation.mask import Box, Label, boxes_of
from rainshadow.nki.first_generation.memory import Memory, Touch
from rainshadow.nki.first_generation.state import current
from rainshadow.nki.first_generation.tensor import Tensor
from rainshadow.sim.recorder import active_recorder

#: float32 is what engines compute in: rounding to it first changes nothing.
_EXACT = "float32"
ON_CHIP = (Space.sbuf, Space.psum)


class Operand:
    """A tile that an instruction touches.

    labels: for each of its axes, the axis of the operation that it runs along, None for one that
    a mask does not cut.
    """

    __slots__ = ("labels", "name", "tensor", "touch")

    def __init__(
        self, name: str, tensor: Tensor, labels: tuple[Label, ...], touch: Touch = Touch.read
    ) -> None:
        self.name = name
        self.tensor = tensor
        self.labels = labels
        self.touch = touch


def along(name: str, tensor: Tensor, touch: Touch = Touch.read) -> Operand:
    """An operand whose axes are the operation's, in order; axes of size 1 may be broadcast."""
    labels = tuple(axis if n > 1 else None for axis, n in enumerate(tensor.shape))
    return Operand(name, tensor, labels, touch)


class Operation:
    """A call: `emit` gets an access pattern for every operand, and issues instructions.

    shape, dtype: of the result.  labels: of its axes.  explicit: the kernel gave the dtype, so
    that a result in another one is rounded to it first.  spaces: where the instruction can write,
    the first unless the kernel assigns the result.  touch: of the result's tile.
    """

    def __init__(
        self,
        emit: Callable[..., None],
        operands: Sequence[Operand],
        mask: Any,
        *,
        shape: tuple[int, ...] = (),
        dtype: str = "",
        labels: tuple[Label, ...] = (),
        explicit: bool = False,
        spaces: Sequence[Space] = ON_CHIP,
        matmul: bool = False,
        touch: Touch = Touch.write,
    ) -> None:
        self.emit = emit
        self.operands = list(operands)
        self.mask = mask
        self.shape = shape
        self.dtype = dtype
        self.labels = labels or tuple(range(len(shape)))
        self.explicit = explicit
        self.spaces = spaces
        self.matmul = matmul
        self.touch = touch
        self.line = active_recorder().line_number()

    def issue(self, target: Tensor | None = None, *, accumulate: bool = False) -> None:
        """Issue the instructions, into `target` where there is a result."""
        operands = list(self.operands)
        if target is not None:
            touch = Touch.change if accumulate else self.touch
            operands.append(Operand("dst", target, self.labels, touch))
        with active_recorder().on_line(self.line):
            for box in self._boxes(operands):
                self._issue_box(operands, box, accumulate)

    def _issue_box(self, operands: Sequence[Operand], box: Box, accumulate: bool) -> None:
        views: dict[str, Any] = {}
        for operand in operands:
            cuts = [box.get(label) if label is not None else None for label in operand.labels]
            ranges = cuts if box else None
            if self.matmul and accumulate and operand.name == "dst":
                views["dst"], views["accumulate"] = operand.tensor.accumulation(ranges)
            else:
                views[operand.name] = operand.tensor.window(operand.touch, ranges)
        self.emit(**views)

    def _boxes(self, operands: Sequence[Operand]) -> Sequence[Box]:
        if self.mask is None:
            return ({},)
        extents: dict[Label, int] = {}
        for operand in operands:
            for label, extent in zip(operand.labels, operand.tensor.shape, strict=True):
                if label is not None:
                    extents[label] = max(extents.get(label, 1), extent)
        known = {
            variable: label
            for operand in operands
            for label, some in zip(operand.labels, operand.tensor.variables, strict=True)
            for variable in some
            if label is not None
        }
        count = max((len(operand.labels) for operand in operands), default=0)

        def label_of(variable: Variable, axis: int) -> Label:
            """By the tile's own index variables, else by the axis the mask says."""
            label = known.get(variable, axis + count)
            if self.matmul and variable not in known:
                label = self._like(variable, axis)
            elif label not in extents and axis + count in range(count):
                extents[label] = 1
            if label not in extents:
                raise NkiValidationError(
                    "a mask whose index tiles index no operand",
                    allowed="index tiles that the operands are indexed by",
                )
            return label

        return boxes_of(self.mask, label_of, extents)

    def _like(self, variable: Variable, axis: int) -> Label:
        """The axis of a matmul that an equal index tile runs along, None where that is not one."""
        labels = {
            label
            for operand in self.operands
            for place, (label, extent) in enumerate(
                zip(operand.labels, operand.tensor.shape, strict=True), -operand.tensor.ndim
            )
            if place == axis and extent == variable.extent
        }
        return labels.pop() if len(labels) == 1 else None

    def variables(self) -> tuple[frozenset[Variable], ...]:
        """The index variables along the result's axes: those of the operands."""
        found: dict[Label, frozenset[Variable]] = {}
        for operand in self.operands:
            for label, some in zip(operand.labels, operand.tensor.variables, strict=True):
                if some:
                    found[label] = found.get(label, frozenset()) | some
        return tuple(found.get(label, frozenset()) for label in self.labels)

    def fits(self, target: Tensor) -> bool:
        """Whether the instruction can write into a tile, and round as the kernel says."""
        rounds_once = target.type_name == self.dtype or not self.explicit or self.dtype == _EXACT
        return rounds_once and target.space in self.spaces and target.size == self.size

    @property
    def size(self) -> int:
        """Elements of the result."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count


class Result(Tensor):
    """What an operation returns: a tile that gets its place when it is used."""

    __slots__ = ("_operation", "_space")

    def __init__(self, operation: Operation, space: Space | None = None) -> None:
        shape = operation.shape if len(operation.shape) > 1 else (*operation.shape, 1)
        super().__init__(None, operation.shape, operation.dtype, None, operation.variables())
        assert shape == self.shape, "tiles have two axes or more"
        self._operation: Operation | None = operation
        self._space = space or operation.spaces[0]

    @property
    def memory(self) -> Memory:
        """Its tile: a new one, unless the kernel has assigned the result."""
        if self._memory is None:
            self._settle_alone()
        return super().memory

    @property
    def on_chip(self) -> bool:
        return True

    @property
    def space(self) -> Space:
        return self._space if self._memory is None else self._memory.space

    @property
    def buffer(self) -> Space:
        return self.space

    def _settle_alone(self) -> None:
        state = current()
        if state.pending is self:
            state.pending = None
        self.settle()

    def settle(self) -> None:
        """Issue the operation into a tile of its own."""
        operation = self._operation
        assert operation is not None, "an operation is issued once"
        self._operation = None
        with active_recorder().on_line(operation.line):
            self._memory = self._new_memory()
        operation.issue(Tensor.of(self._memory))

    def _new_memory(self) -> Memory:
        return Memory(self.shape, self.type_name, self._space)

    def settle_in(self, target: Tensor, *, accumulate: bool = False) -> bool:
        """Issue the operation into a tile, if that is what it can do."""
        operation = self._operation
        if operation is None or current().pending is not self or not operation.fits(target):
            return False
        if accumulate and not operation.matmul:
            return False
        current().pending = None
        self._operation = None
        operation.issue(target, accumulate=accumulate)
        if target.shape == self.shape:
            self._memory, self._positions = target.memory, target.positions
        else:
            self._memory = target.reshape(self.shape).memory
        return True


def call(operation: Operation, space: Space | None = None, kind: type[Result] = Result) -> Result:
    """The result of an operation, which waits to be used."""
    state = current()
    state.flush()
    state.pending = kind(operation, space)
    return state.pending


def run(emit: Callable[..., None], operands: Sequence[Operand], mask: Any = None) -> None:
    """An operation without a result: it is issued at once."""
    current().flush()
    Operation(emit, operands, mask).issue()


def assign(target: Tensor, value: Any) -> None:
    """target[...] = value: a tile, the result of an operation, or a number."""
    if isinstance(value, Result) and value.settle_in(target):
        return
    current().flush()
    if not isinstance(value, Tensor):
        _assign_number(target, value)
    elif not _is_same(target, value):
        _assign_tile(target, value)


def _is_same(target: Tensor, value: Tensor) -> bool:
    """Whether `value` is the very tile, as after `tile[...] += x`."""
    if target.memory is not value.memory or target.shape != value.shape:
        return False
    pairs = zip(target.positions, value.positions, strict=True)
    return all(a.start == b.start and a.steps == b.steps and a.tile is b.tile for a, b in pairs)


def _assign_number(target: Tensor, value: Any) -> None:
    if not target.on_chip:
        raise NkiValidationError(
            f"a number assigned to {target!r}", fix="nl.store a tile that holds it"
        )
    if not hasattr(value, "__float__"):
        raise NkiValidationError(f"{value!r} assigned to a tile", allowed="a tile or a number")
    place = target.window(Touch.write)
    if _engines_reach(place):
        isa.memset(place, plain_number(value))
        return
    source = active_recorder().allocate(place.shape, place.dtype, Space.sbuf)
    isa.memset(source, plain_number(value))
    isa.dma_copy(place, source)


def _engines_reach(view: AccessPattern) -> bool:
    """Whether a tile starts at a partition that engines can start at; DMA can at any."""
    return view.start_partition % start_step(view.shape[0]) == 0 or view.space is Space.psum


def _assign_tile(target: Tensor, value: Tensor) -> None:
    if value.size != target.size:
        value = value.stretched(target.shape)
    source, place = value.window(Touch.read), target.window(Touch.write)
    on_chip = source.space.on_chip and place.space.on_chip
    if on_chip and _engines_reach(source) and _engines_reach(place):
        isa.tensor_copy(place, source)
    else:
        isa.dma_copy(place, source)


def shape_on_chip(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A tile's shape: two axes or more, the partition axis first."""
    return shape if len(shape) > 1 else (*shape, *((1,) * (2 - len(shape))))


def kind_of(dtype: Any, otherwise: str) -> str:
    """The name of a dtype that the kernel gives, or another one."""
    return otherwise if dtype is None else dtype_name(dtype)


def dtype_name(dtype: Any) -> str:
    """The NKI name of a dtype as the first generation writes it."""
    if not isinstance(dtype, str) and np.dtype(dtype) == np.dtype("V4"):
        return "tfloat32"
    return dtypes.canonical(dtype)


def plain_number(value: Any) -> Any:
    """A number of one of ml_dtypes' types as a Python float."""
    is_known = value is None or isinstance(value, int | float | np.number)
    return value if is_known or not hasattr(value, "__float__") else float(value)
