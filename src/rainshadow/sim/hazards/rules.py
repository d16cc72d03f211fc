"""Hazards within one core: memory read before it is written, or after another tensor took it.

Sources: AWS Neuron docs 2.32 nki.isa.nc_matmul (accumulation), and at tag v2.26.1 the direct
allocation guide (lifetime conflicts).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from rainshadow.sim.hazards.history import History
from rainshadow.sim.hazards.touches import (
    Touches,
    accumulates,
    accumulates_partly,
    runs_on_tensor_engine,
)
from rainshadow.sim.trace import SPACES

Column = np.ndarray[Any, np.dtype[Any]]

#: Generations on which a matmul must not add to what another engine wrote.
_MATMUL_MUST_START = ("gen2", "gen3")
UNINITIALIZED_READ, LEFTOVER_READ = "uninitialized-read", "leftover-read"
#: Every byte of an operand is unwritten, though no result depends on it.
UNWRITTEN_OPERAND = "unwritten-operand"
#: Nothing has surely written it, an indirect access may have.
PARTLY_UNINITIALIZED = "partly-uninitialized"
#: Rules about reads of what the tensor never wrote.
UNWRITTEN_READS = (UNINITIALIZED_READ, LEFTOVER_READ, PARTLY_UNINITIALIZED)
_PSUM = SPACES.index("psum")


@dataclass(frozen=True, slots=True)
class Conflicts:
    """Accesses that break a rule, one each, beside each other.

    row, tensor, size_bytes: of the access, and how many bytes break it.
    other_row: the access that it conflicts with, -1 for none.  other_tensor: the tensor of that.
    whole: bool, whether every byte of the access breaks it.
    """

    rule: str
    row: Column
    tensor: Column
    size_bytes: Column
    other_row: Column
    other_tensor: Column
    whole: Column

    def only(self, chosen: Column) -> Conflicts:
        """The chosen ones. chosen: bool, beside the columns."""
        columns = {
            field.name: getattr(self, field.name)[chosen]
            for field in fields(self)
            if field.name != "rule"
        }
        return replace(self, **columns)


def conflicts_of(
    rule: str, touches: Touches, bad: Column, other: Column | None = None
) -> Conflicts:
    """One conflict for each access of which some touches are bad.

    An access that touches only some of its bytes breaks a rule only where it must: where all its
    atoms do.  bad: bool[n].  other: int64[n], the touch that each conflicts with.
    """
    launch, access = touches.launch, touches.access
    size = len(launch.row)
    broken = np.bincount(access[bad], minlength=size)
    whole = broken == np.bincount(access, minlength=size)
    certain = launch.exact | whole
    found = np.flatnonzero(bad)
    found = found[certain[access[found]]]
    weights = touches.size_bytes[touches.atom[found]]
    total = np.bincount(access[found], weights=weights, minlength=size)
    accesses, first = np.unique(access[found], return_index=True)
    partner = np.full(len(first), -1) if other is None else other[found[first]]
    none = partner < 0
    partner = access[np.where(none, 0, partner)] if len(access) else partner
    return Conflicts(
        rule=rule,
        row=launch.row[accesses],
        tensor=launch.tensor[accesses],
        size_bytes=total[accesses].astype(np.int64),
        other_row=np.where(none, -1, launch.row[partner]) if len(access) else partner,
        other_tensor=np.where(none, -1, launch.tensor[partner]) if len(access) else partner,
        whole=whole[accesses],
    )


def find_in_core(touches: Touches, history: History, generation: str) -> list[Conflicts]:
    """All conflicts between accesses of one core. generation: of the chip, such as "gen3"."""
    launch = touches.launch
    read, unwritten = ~touches.write, history.last_write < 0
    never_own = read & (history.own_write < 0)
    own = ~launch.given[touches.tensor] & ~launch.shared[touches.tensor]
    at_end = launch.is_end[touches.access]
    adding = (
        read
        & (launch.tensors[touches.tensor, 0] == _PSUM)
        & launch.by_row(accumulates)[touches.row]
    )
    partly = launch.by_row(accumulates_partly)[touches.row]
    blank = read & unwritten & own
    unsure = read & own & ~unwritten & (history.last_exact < 0) & ~adding
    result = [
        conflicts_of(UNINITIALIZED_READ, touches, blank & ~adding & ~at_end),
        conflicts_of("uninitialized-result", touches, blank & at_end),
        conflicts_of(LEFTOVER_READ, touches, never_own & ~unwritten & ~adding, history.last_write),
        conflicts_of("accumulate-uninitialized", touches, never_own & own & adding & ~partly),
        conflicts_of(PARTLY_UNINITIALIZED, touches, unsure, history.last_write),
        _overwritten(touches, history, read),
    ]
    if generation in _MATMUL_MUST_START:
        by_tensor_engine = launch.by_row(runs_on_tensor_engine)[touches.row]
        foreign = adding & ~never_own & ~by_tensor_engine[history.last_write]
        result.append(conflicts_of("accumulate-foreign", touches, foreign, history.last_write))
    return result


def _overwritten(touches: Touches, history: History, read: Column) -> Conflicts:
    """Reads through a tensor of what it wrote and another has since written over."""
    bad = read & (history.own_write >= 0) & (history.own_write < history.last_exact)
    bad &= touches.tensor[history.last_exact] != touches.tensor
    return conflicts_of("overwritten", touches, bad, history.last_exact)
