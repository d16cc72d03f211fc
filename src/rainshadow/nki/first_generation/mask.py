"""Masks of the first generation: conditions on index tiles, which cut an operation to boxes.

An engine takes no mask: the instruction covers the part of its operands where the mask holds. A
mask that holds on no box becomes several instructions, whose boxes cover it and do not overlap.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rainshadow.errors import NkiValidationError

if TYPE_CHECKING:
    from rainshadow.nki.first_generation.index import Index, Variable

Flags = np.ndarray[Any, np.dtype[np.bool_]]
#: A name for an axis along which an operation runs; its partition axis is 0.
Label = Hashable
#: Axis -> (first, end) of what remains of it; axes that are not named remain whole.
Box = dict[Label, tuple[int, int]]


class Mask:
    """A combination of conditions by `&`, `|` and `~`."""

    __slots__ = ("operator", "parts")
    __hash__ = None  # type: ignore[assignment]
    __array_ufunc__ = None

    def __init__(self, operator: str, parts: tuple[Any, ...]) -> None:
        self.operator = operator
        self.parts = parts

    def __and__(self, other: Any) -> Any:
        return self._with("&", other)

    def __or__(self, other: Any) -> Any:
        return self._with("|", other)

    __rand__, __ror__ = __and__, __or__

    def __invert__(self) -> Mask:
        return Mask("~", (self,))

    def _with(self, operator: str, other: Any) -> Any:
        if not isinstance(other, Mask):
            absorbing = bool(other) == (operator == "|")
            return bool(other) if absorbing else self
        return Mask(operator, (self, other))

    def __bool__(self) -> bool:
        raise NkiValidationError(
            "a mask used as True or False: it holds for some positions, not for others",
            allowed="masks combined by &, | and ~",
            fix="write (a) & (b) instead of `a and b`, or a < i and i < b",
        )

    def conditions(self) -> list[Condition]:
        """Every condition in the mask."""
        return [condition for part in self.parts for condition in part.conditions()]

    def conjuncts(self) -> list[Mask]:
        """Masks that must all hold."""
        if self.operator != "&":
            return [self]
        return [part for side in self.parts for part in side.conjuncts()]

    def holds(self, values: Callable[[Variable], Any]) -> Any:
        """Whether the mask holds, for arrays of the variables' values."""
        sides = [part.holds(values) for part in self.parts]
        if self.operator == "~":
            return ~sides[0]
        return sides[0] & sides[1] if self.operator == "&" else sides[0] | sides[1]


class Condition(Mask):
    """index >= 0, index == 0 or index != 0."""

    __slots__ = ("index",)

    def __init__(self, index: Index, comparison: str) -> None:
        super().__init__(comparison, ())
        self.index = index

    def conditions(self) -> list[Condition]:
        return [self]

    def holds(self, values: Callable[[Variable], Any]) -> Any:
        total: Any = self.index.start
        for variable, step in self.index.terms.items():
            total = total + step * values(variable)
        if self.operator == ">=":
            return np.asarray(total >= 0)
        return np.asarray(total == 0 if self.operator == "==" else total != 0)


def boxes_of(
    mask: Any, label_of: Callable[[Variable, int], Label], extents: Mapping[Label, int]
) -> Sequence[Box]:
    """Disjoint boxes that cover where the mask holds; one empty box for the whole operation.

    label_of: the operation's axis along which a variable runs, given the axis that its index tile
    says.  extents: of the operation's axes.
    """
    if mask is None:
        return ({},)
    if not isinstance(mask, Mask):
        return ({},) if mask else ()
    axis_of = {
        variable: label_of(variable, condition.index.axes[variable])
        for condition in mask.conditions()
        for variable in condition.index.terms
    }
    allowed: dict[Label, Flags] = {}
    joint: list[tuple[Mask, list[Label]]] = []
    for part in mask.conjuncts():
        labels = list({axis_of[v]: 0 for c in part.conditions() for v in c.index.terms})
        if len(labels) > 1:
            joint.append((part, labels))
            continue
        label = labels[0] if labels else None
        grid = np.arange(extents[label] if labels else 1)
        held = np.broadcast_to(part.holds(lambda _, grid=grid: grid), grid.shape)
        if not held.any():
            return ()
        if labels:
            allowed[label] = allowed[label] & held if label in allowed else held
    boxes = [_joint_boxes(joint, axis_of, allowed, extents)] if joint else []
    boxes += [[{label: run} for run in _runs(flags)] for label, flags in allowed.items()]
    whole = {label: (0, extent) for label, extent in extents.items()}
    merged = [
        {label: run for box in parts for label, run in box.items() if run != whole[label]}
        for parts in itertools.product(*boxes)
    ]
    return merged


def _joint_boxes(
    joint: Sequence[tuple[Mask, list[Label]]],
    axis_of: Mapping[Variable, Label],
    allowed: dict[Label, Flags],
    extents: Mapping[Label, int],
) -> list[Box]:
    """Boxes for conditions on several axes; what `allowed` says of these axes is used up."""
    # Partitions last: the boxes are long in partitions and, for the usual masks, start at 0.
    labels = sorted({label for _, some in joint for label in some}, key=lambda label: label == 0)
    shape = [extents[label] for label in labels]
    grids = dict(zip(labels, np.ogrid[tuple(slice(n) for n in shape)], strict=True))
    held = np.ones(shape, dtype=bool)
    for mask, _ in joint:
        held &= mask.holds(lambda variable: grids[axis_of[variable]])
    for position, label in enumerate(labels):
        if label in allowed:
            along = [1] * len(shape)
            along[position] = shape[position]
            held &= allowed.pop(label).reshape(along)
    return [dict(zip(labels, box, strict=True)) for box in boxes_in(held)]


def boxes_in(flags: Flags) -> list[tuple[tuple[int, int], ...]]:
    """Disjoint boxes of (first, end) per axis that cover the true elements."""
    if flags.ndim == 1:
        return [(run,) for run in _runs(flags)]
    boxes = []
    changes = np.flatnonzero((flags[1:] != flags[:-1]).reshape(len(flags) - 1, -1).any(axis=1)) + 1
    borders = [0, *changes.tolist(), len(flags)]
    for first, end in itertools.pairwise(borders):
        boxes += [((first, end), *inner) for inner in boxes_in(flags[first])]
    return boxes


def _runs(flags: Flags) -> list[tuple[int, int]]:
    """(first, end) of the stretches of true elements."""
    padded = np.concatenate([[False], flags, [False]])
    borders = np.flatnonzero(padded[1:] != padded[:-1]).tolist()
    return list(zip(borders[::2], borders[1::2], strict=True))
