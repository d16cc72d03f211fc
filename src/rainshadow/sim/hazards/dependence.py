"""Which reads of unwritten memory matter: those that the results depend on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rainshadow.errors import SourceLine
from rainshadow.sim.hazards.flow import rows_with_effect
from rainshadow.sim.hazards.rules import (
    PARTLY_UNINITIALIZED,
    UNWRITTEN_OPERAND,
    UNWRITTEN_READS,
    Conflicts,
)
from rainshadow.sim.hazards.touches import Launch, Touches, keeps_target

#: Tried one by one up to so many; more are all taken to matter.
_MAX_TRIED = 16


def only_those_that_matter(
    touches: Touches,
    conflicts: Sequence[Conflicts],
    depends_on: Callable[[frozenset[SourceLine]], bool],
) -> list[Conflicts]:
    """Without the reads of unwritten memory that no result depends on.

    Operands of which nothing at all is written stay, by a rule of their own, where instructions
    lead from them to a result, which may be the same by chance only, or where what was made of them
    is written over.
    depends_on: whether results change with what the tensors of these lines hold at first.
    """
    launch = touches.launch
    suspects = [some for some in conflicts if some.rule in UNWRITTEN_READS]
    rest = [some for some in conflicts if some.rule not in UNWRITTEN_READS]
    lines = {
        int(tensor): _line_of(launch, int(tensor))
        for some in suspects
        for tensor in np.unique(some.tensor)
    }
    guilty = _guilty(frozenset(lines.values()), depends_on)
    for some in suspects:
        kept = np.array([lines[int(tensor)] in guilty for tensor in some.tensor], dtype=bool)
        rest.append(some.only(kept))
        if some.rule != PARTLY_UNINITIALIZED:
            whole = some.only(~kept & some.whole & ~_is_kept_target(launch, some))
            whole = whole.only(rows_with_effect(touches, whole.row))
            rest.append(replace(whole, rule=UNWRITTEN_OPERAND))
    return rest


def _is_kept_target(launch: Launch, conflicts: Conflicts) -> np.ndarray[Any, Any]:
    """bool[k]: reads of what the row itself writes in part, and leaves as it is for the rest."""
    rows = np.flatnonzero(launch.by_row(keeps_target))
    mine = launch.write & np.isin(launch.row, rows)
    targets = set(zip(launch.row[mine].tolist(), launch.tensor[mine].tolist(), strict=True))
    pairs = zip(conflicts.row.tolist(), conflicts.tensor.tolist(), strict=True)
    return np.array([pair in targets for pair in pairs], dtype=bool)


def _guilty(
    everything: frozenset[SourceLine], depends_on: Callable[[frozenset[SourceLine]], bool]
) -> frozenset[SourceLine]:
    if not everything or not depends_on(everything):
        return frozenset()
    if not 1 < len(everything) <= _MAX_TRIED:
        return everything
    guilty = frozenset(one for one in everything if depends_on(frozenset([one])))
    # Where only several together change a result, each of them counts.
    return guilty or everything


def _line_of(launch: Launch, number: int) -> SourceLine:
    line = launch.tensor_of(number).line
    assert line is not None, "an argument holds something before the kernel starts"
    return line
