"""Where the elements of a tile lie along each axis of its tensor: affine in the tile's axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rainshadow.errors import NkiValidationError, OutOfBoundsError
from rainshadow.isa.indices import DynamicSlice
from rainshadow.nki.first_generation.index import Index, Variable

if TYPE_CHECKING:
    from rainshadow.nki.first_generation.tensor import Tensor


class Position:
    """start + the sum of steps[axis] * position in the tile, + what a tile of indices holds."""

    __slots__ = ("start", "steps", "tile")

    def __init__(self, start: int, steps: tuple[int, ...], tile: Tensor | None = None) -> None:
        self.start = start
        self.steps = steps
        self.tile = tile

    @staticmethod
    def along(axis: int, count: int) -> Position:
        """Axis number `axis` of `count`, from its beginning."""
        return Position(0, tuple(int(each == axis) for each in range(count)))

    def start_at(self, firsts: Sequence[int]) -> int:
        """The position of an element of the tile."""
        return self.start + sum(s * f for s, f in zip(self.steps, firsts, strict=True))

    def reach(self, start: int, shape: Sequence[int]) -> tuple[int, int]:
        """Lowest and highest position of a box of the tile that begins at `start`."""
        low = high = start
        for step, extent in zip(self.steps, shape, strict=True):
            if step > 0:
                high += step * (extent - 1)
            elif step:
                low += step * (extent - 1)
        return low, high

    def within(self, inner: Sequence[Position]) -> Position:
        """The position of a tile of the tile. inner: per axis of this one, where that lies."""
        start, steps, tile = self.start, [0] * len(inner[0].steps) if inner else [], self.tile
        for step, position in zip(self.steps, inner, strict=True):
            if not step:
                continue
            start += step * position.start
            for axis, finer in enumerate(position.steps):
                steps[axis] += step * finer
            if position.tile is not None:
                if tile is not None or step != 1:
                    raise NkiValidationError(
                        "a tile of indices into a tile with steps", fix="index the tensor itself"
                    )
                tile = position.tile
        return Position(start, tuple(steps), tile)

    def stretched(self, missing: int, kept: Sequence[bool]) -> Position:
        """With new axes in front, and some axes of size 1 repeated."""
        steps = [step if keep else 0 for step, keep in zip(self.steps, kept, strict=True)]
        return Position(self.start, (0,) * missing + tuple(steps), self.tile)


class TileIndex:
    """A tile of indices plus an index tile: `indices[0, i] + nl.arange(8)[None, :]`."""

    __slots__ = ("index", "tile")

    def __init__(self, tile: Tensor, index: Index) -> None:
        self.tile = tile
        self.index = index


@dataclass(frozen=True, slots=True)
class Found:
    """A tile: its shape, its position per axis of the tensor, the variables along its axes."""

    shape: tuple[int, ...]
    positions: tuple[Position, ...]
    variables: tuple[frozenset[Variable], ...]


def positions_of(key: Any, shape: tuple[int, ...], keep_partition: int | None) -> Found:
    """Read a subscript of a tensor, as NumPy would.

    keep_partition: the partition axis of a tensor on chip, which an integer leaves with size 1;
    tiles there have two axes or more, and one or more in HBM.
    Errors: `NkiValidationError` for what is no index, `OutOfBoundsError` for integers outside.
    """
    items = _completed(key, len(shape))
    tiles = [item for item in items if not isinstance(item, slice | int | DynamicSlice)]
    if tiles:
        found = _by_index_tiles(items, shape)
    else:
        found = _by_slices(items, shape, keep_partition)
    while len(found.shape) < (1 if keep_partition is None else 2):
        found = Found(
            (*found.shape, 1),
            tuple(Position(p.start, (*p.steps, 0), p.tile) for p in found.positions),
            (*found.variables, frozenset()),
        )
    return found


def _completed(key: Any, count: int) -> list[Any]:
    """One item per axis: integers as int, `...` and what is missing as `:`."""
    given = list(key) if isinstance(key, tuple) else [key]
    dots = [number for number, item in enumerate(given) if item is Ellipsis]
    missing = count - len(given) + len(dots[:1])
    if missing < 0 or len(dots) > 1:
        raise NkiValidationError(
            f"{len(given)} indices for a tensor of {count} axes", fix="drop the surplus indices"
        )
    where = dots[0] if dots else len(given)
    given[where : where + len(dots)] = [slice(None)] * missing
    return [_item(item, axis) for axis, item in enumerate(given)]


def _item(item: Any, axis: int) -> Any:
    if isinstance(item, slice | DynamicSlice | Index | TileIndex) or hasattr(item, "window"):
        return item
    if hasattr(item, "__index__"):
        return int(item)
    raise NkiValidationError(
        f"index {item!r} on axis {axis}",
        allowed="integers, slices, `...`, nl.ds(start, size), index tiles and tiles of indices",
    )


def _by_slices(items: Sequence[Any], shape: tuple[int, ...], keep_partition: int | None) -> Found:
    count = sum(not isinstance(i, int) or axis == keep_partition for axis, i in enumerate(items))
    positions, extents = [], []
    for axis, (item, extent) in enumerate(zip(items, shape, strict=True)):
        if isinstance(item, int) and axis != keep_partition:
            positions.append(Position(_inside(item, axis, extent), (0,) * count))
            continue
        if isinstance(item, int):
            start, length, step = _inside(item, axis, extent), 1, 1
        else:
            start, length, step = _stretch(item, axis, extent)
        steps = [0] * count
        steps[len(extents)] = step
        positions.append(Position(start, tuple(steps)))
        extents.append(length)
    return Found(tuple(extents), tuple(positions), (frozenset(),) * count)


def _inside(item: int, axis: int, extent: int) -> int:
    """Integers may lie outside until they are used: a mask may leave them out."""
    return item + extent if -extent <= item < 0 else item


def _stretch(item: Any, axis: int, extent: int) -> tuple[int, int, int]:
    """(start, count, step) of a slice; one that ends outside keeps its length."""
    if isinstance(item, DynamicSlice):
        return int(item.start), int(item.size), 1
    step = 1 if item.step is None else int(item.step)
    start = 0 if item.start is None else int(item.start)
    stop = extent if item.stop is None else int(item.stop)
    start, stop = (end + extent if end < 0 else end for end in (start, stop))
    count = -(-(stop - start) // step) if step > 0 else 0
    if count < 1:
        raise OutOfBoundsError(
            f"slice {item.start}:{item.stop}:{item.step} on axis {axis} of {extent}",
            allowed="steps of 1 or more, and at least one element",
        )
    return start, count, step


def _by_index_tiles(items: Sequence[Any], shape: tuple[int, ...]) -> Found:
    """Index tiles share axes by broadcasting; slices add theirs where NumPy would."""
    advanced = [
        axis for axis, item in enumerate(items) if not isinstance(item, slice | DynamicSlice)
    ]
    indices = [_index_of(items[axis]) for axis in advanced]
    common = _broadcast([index.shape for index in indices])
    adjacent = advanced == list(range(advanced[0], advanced[-1] + 1))
    before = advanced[0] if adjacent else 0
    after = len(items) - len(advanced) - before
    count = before + len(common) + after
    positions: list[Position] = []
    extents: list[int] = [0] * count
    variables: list[frozenset[Variable]] = [frozenset()] * count
    extents[before : before + len(common)] = common
    passed = 0
    for axis, (item, extent) in enumerate(zip(items, shape, strict=True)):
        steps = [0] * count
        if isinstance(item, slice | DynamicSlice):
            start, length, step = _stretch(item, axis, extent)
            where = passed if passed < before else passed + len(common)
            passed += 1
            extents[where], steps[where] = length, step
            positions.append(Position(start, tuple(steps)))
            continue
        index = _index_of(item)
        for variable, step in index.terms.items():
            where = before + len(common) + index.axes[variable]
            steps[where] += step
            variables[where] |= {variable}
        start = _inside(item, axis, extent) if isinstance(item, int) else index.start
        positions.append(Position(start, tuple(steps), _tile_of(item)))
    return Found(tuple(extents), tuple(positions), tuple(variables))


def _index_of(item: Any) -> Index:
    """The affine part of an index."""
    if isinstance(item, Index):
        return item
    if isinstance(item, TileIndex):
        return item.index
    if isinstance(item, int):
        return Index((), {}, {}, item)
    return Index(item.shape, {}, {})


def _tile_of(item: Any) -> Tensor | None:
    if isinstance(item, TileIndex):
        return item.tile
    return item if hasattr(item, "window") else None


def _broadcast(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    count = max(len(shape) for shape in shapes)
    extents = [1] * count
    for shape in shapes:
        for axis, extent in enumerate(shape, start=count - len(shape)):
            if extent != 1 and extents[axis] not in (1, extent):
                raise NkiValidationError(
                    f"index tiles of shapes {', '.join(str(s) for s in shapes)}",
                    allowed="shapes that NumPy would broadcast",
                )
            extents[axis] = max(extents[axis], extent)
    return tuple(extents)
