"""Which reads' values the program goes on to use, or loses."""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.sim.hazards.touches import Touches

Column = np.ndarray[Any, np.dtype[Any]]


def rows_with_effect(touches: Touches, rows: Column) -> Column:
    """bool[k]: those of `rows` whose results go on to a result of the kernel, or get lost.

    An instruction passes on what it reads to what it writes. A result is what the kernel returns,
    an argument that it changes, or memory that cores share. Lost is what a tensor holds when
    another instruction writes it anew. What is only left in a tile has no effect.
    """
    launch = touches.launch
    order = np.argsort(touches.access, kind="stable")
    outside = launch.given | launch.shared
    seen = np.where(touches.write, outside[touches.tensor], launch.is_end[touches.access])
    columns = (
        touches.row[order],
        touches.atom[order],
        touches.tensor[order],
        touches.write[order],
        launch.exact[touches.access[order]],
        seen[order],
    )
    marks = {row: 1 << number for number, row in enumerate(np.unique(rows).tolist())}
    #: By atom: the marks that it carries, and the tensor through which they were written.
    carries: dict[int, tuple[int, int]] = {}
    effect = passed = 0
    current = -1
    for row, atom, tensor, write, exact, is_seen in zip(
        *(c.tolist() for c in columns), strict=True
    ):
        if row != current:
            current, passed = row, marks.get(row, 0)
        held, owner = carries.get(atom, (0, tensor))
        if write:
            if exact and owner == tensor:
                effect |= held & ~passed
            carries[atom] = (passed if exact else passed | held), tensor
        else:
            passed |= held
        if is_seen:
            effect |= passed
    found = {row for row, mark in marks.items() if effect & mark}
    return np.isin(rows, sorted(found))
