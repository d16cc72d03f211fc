"""Index tiles of the first generation: affine expressions of `nl.arange`, and the masks they make.

An index tile is never an array: it is a start and a step per variable, so that a tensor indexed by
it is an access pattern. A variable knows on which axis of the tile it runs, and two index tiles
made by the same `nl.arange` share it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.nki.first_generation.mask import Condition


class Variable:
    """What runs from 0 to extent - 1 in an `nl.arange`; compared by identity."""

    __slots__ = ("extent",)

    def __init__(self, extent: int) -> None:
        self.extent = extent


class Index:
    """start + the sum of step * variable.

    shape: of the tile of positions.  terms: variable -> step.  axes: variable -> the axis it runs
    along, counted from the last (-1), which broadcasting keeps.
    """

    __slots__ = ("axes", "shape", "start", "terms")
    #: NumPy's integers leave arithmetic with an index tile to it.
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        shape: tuple[int, ...],
        terms: dict[Variable, int],
        axes: dict[Variable, int],
        start: int = 0,
    ) -> None:
        self.shape = shape
        self.terms = terms
        self.axes = axes
        self.start = start

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: Any) -> Index:
        """New axes of size 1 where the key has None."""
        items = key if isinstance(key, tuple) else (key,)
        if Ellipsis in items:
            where = items.index(Ellipsis)
            missing = self.ndim - sum(item is not None for item in items) + 1
            items = items[:where] + (slice(None),) * missing + items[where + 1 :]
        kept = [item for item in items if item is not None]
        if len(kept) > self.ndim or any(item != slice(None) for item in kept):
            raise NkiValidationError(
                f"an index tile of shape {self.shape} indexed by {key}",
                allowed="`:` for each of its axes, and None for new ones: nl.arange(128)[:, None]",
            )
        items += (slice(None),) * (self.ndim - len(kept))
        shape: list[int] = []
        new_axis: dict[int, int] = {}
        for item in items:
            if item is None:
                shape.append(1)
            else:
                new_axis[len(new_axis)] = len(shape)
                shape.append(self.shape[len(new_axis) - 1])
        axes = {v: new_axis[axis + self.ndim] - len(shape) for v, axis in self.axes.items()}
        return Index(tuple(shape), self.terms, axes, self.start)

    # -- arithmetic ----------------------------------------------------------------------------

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Index):
            terms = dict(self.terms)
            for variable, step in other.terms.items():
                terms[variable] = terms.get(variable, 0) + step
            shape = np.broadcast_shapes(self.shape, other.shape)
            return Index(shape, terms, {**self.axes, **other.axes}, self.start + other.start)
        if not _is_whole(other):
            return NotImplemented
        return Index(self.shape, self.terms, self.axes, self.start + int(other))

    __radd__ = __add__

    def __mul__(self, other: Any) -> Any:
        if not _is_whole(other):
            return _refuse("*", other)
        factor = int(other)
        terms = {variable: step * factor for variable, step in self.terms.items()}
        return Index(self.shape, terms, self.axes, self.start * factor)

    __rmul__ = __mul__

    def __neg__(self) -> Index:
        return self * -1  # type: ignore[no-any-return]

    def __sub__(self, other: Any) -> Any:
        return self + -other

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __floordiv__(self, other: Any) -> Any:
        return _refuse("//", other)

    def __mod__(self, other: Any) -> Any:
        return _refuse("%", other)

    # -- comparisons ---------------------------------------------------------------------------

    def __ge__(self, other: Any) -> Any:
        return Condition(self - other, ">=")

    def __gt__(self, other: Any) -> Any:
        return Condition(self - other - 1, ">=")

    def __le__(self, other: Any) -> Any:
        return Condition(other - self, ">=")

    def __lt__(self, other: Any) -> Any:
        return Condition(other - self - 1, ">=")

    def __eq__(self, other: object) -> Any:
        return Condition(self - other, "==")

    def __ne__(self, other: object) -> Any:
        return Condition(self - other, "!=")

    def __repr__(self) -> str:
        return f"<index tile {list(self.shape)}>"


def _is_whole(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, Index)


def _refuse(operator: str, other: Any) -> Any:
    raise NkiValidationError(
        f"an index tile {operator} {other!r}",
        allowed="affine expressions: index tiles times integers, and their sums",
    )


def arange(*args: Any) -> Index:
    """nl.arange(stop) or nl.arange(start, stop)."""
    start, stop = (0, *args)[-2:]
    if not 1 <= len(args) <= 2 or int(stop) <= int(start):
        raise NkiValidationError(
            f"nl.arange{args}", allowed="nl.arange(stop) or nl.arange(start, stop), not empty"
        )
    variable = Variable(int(stop) - int(start))
    return Index((variable.extent,), {variable: 1}, {variable: -1}, int(start))


class Grid(tuple[Index, ...]):
    """What `nl.mgrid[...]` gives: an index tile per axis, also by the names p, x, y, z and w."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Index:
        position = "pxyzw".find(name) if len(name) == 1 else -1
        if not 0 <= position < len(self):
            raise AttributeError(f"nl.mgrid of {len(self)} axes has no index tile {name!r}")
        return self[position]


class _Mgrid:
    def __getitem__(self, key: Any) -> Grid:
        slices = key if isinstance(key, tuple) else (key,)
        count = len(slices)
        tiles = []
        for axis, item in enumerate(slices):
            if not isinstance(item, slice) or item.stop is None or item.step not in (None, 1):
                raise NkiValidationError(
                    f"nl.mgrid[{key}]", allowed="nl.mgrid[start:stop, start:stop, ...]"
                )
            where = (None,) * axis + (slice(None),) + (None,) * (count - axis - 1)
            tiles.append(arange(item.start or 0, item.stop)[where])
        return Grid(tiles)


mgrid = _Mgrid()


def variables_on(indices: Iterable[Index], axis: int) -> frozenset[Variable]:
    """The variables of some index tiles that run along an axis, counted from the last."""
    return frozenset(
        variable for index in indices for variable in index.terms if index.axes[variable] == axis
    )
