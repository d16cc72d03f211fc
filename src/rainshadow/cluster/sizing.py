"""Knows how to take a part of a system, or many of it: so many chips, wired as they would be."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import product

from rainshadow.errors import InputError
from rainshadow.machine import Axis, System


def sized(system: System, chips: int) -> System:
    """The system with `chips` chips: fewer than a domain take a part of it, more take many.

    Behind a switch or in a mesh a domain takes the largest divisor that fits. In a torus the part
    is the most cubic one; a shortened axis stays closed where optical switches close it (TPU
    pods of three axes, in steps of four) and is a line elsewhere.

    Errors: `InputError` for a count that no part has.
    """
    if chips < 1:
        raise InputError(f"{chips} chips", allowed="1 or more")
    whole = system.chips_per_domain
    torus = all(axis.kind in ("ring", "line") for axis in system.axes) and bool(system.axes)
    if not system.axes:
        return dataclasses.replace(system, domains=chips)
    if torus:
        inside = whole if chips > whole else chips
    else:
        inside = next(size for size in range(min(whole, chips), 0, -1) if chips % size == 0)
    if chips % inside:
        raise InputError(
            f"{chips} chips of {system.name}",
            allowed=f"a part of one domain of {whole}, or whole domains",
            fix=f"ask for {chips // inside * inside} or {(chips // inside + 1) * inside}",
        )
    axes = _part(system, inside) if torus else _smaller(system, inside)
    return dataclasses.replace(system, axes=axes, domains=chips // inside)


def _smaller(system: System, inside: int) -> tuple[Axis, ...]:
    """Fewer chips on the one switch or mesh."""
    first, *rest = system.axes
    return (dataclasses.replace(first, size=inside), *rest)


def _part(system: System, inside: int) -> tuple[Axis, ...]:
    """The most cubic box of `inside` chips in the torus."""
    axes = system.axes
    boxes = [
        box
        for box in product(
            *([n for n in range(1, axis.size + 1) if inside % n == 0] for axis in axes)
        )
        if _count(box) == inside
    ]
    if not boxes:
        raise InputError(
            f"{inside} chips of {system.name}",
            allowed="a box inside " + " x ".join(str(axis.size) for axis in axes),
            fix=f"take {_nearest(axes, inside)} chips",
        )
    best = min(boxes, key=lambda box: (max(box), sum(box), tuple(-size for size in box)))
    return tuple(_cut(axis, size, len(axes)) for axis, size in zip(axes, best, strict=True))


def _nearest(axes: Sequence[Axis], inside: int) -> str:
    """The sizes just below and above that a box has: "60 or 64"."""
    sizes = {_count(box) for box in product(*(range(1, axis.size + 1) for axis in axes))}
    below = max((size for size in sizes if size < inside), default=None)
    above = min((size for size in sizes if size > inside), default=None)
    return " or ".join(str(size) for size in (below, above) if size is not None)


def _count(box: tuple[int, ...]) -> int:
    total = 1
    for size in box:
        total *= size
    return total


def _cut(axis: Axis, size: int, dimensions: int) -> Axis:
    optical = dimensions == 3 and axis.size > 4 and size % 4 == 0
    closed = size == axis.size or optical
    return dataclasses.replace(axis, size=size, kind=axis.kind if closed else "line")
