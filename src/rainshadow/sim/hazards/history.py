"""What an access finds in an atom: who wrote it last, on the same core.

Program order decides: the compiler orders instructions of one core by the bytes they touch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.sim.hazards.touches import Touches

Column = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class History:
    """Beside the columns of Touches, positions in them, -1 for none.

    last_write: the write before, on the same core.  last_exact: the last of those that are exact.
    own_write: the last through the same tensor.
    """

    last_write: Column
    last_exact: Column
    own_write: Column


def history_of(touches: Touches) -> History:
    """Errors: none; one pass each over the touches."""
    atom, write = touches.atom, touches.write
    core = touches.launch.core_of(touches.row)
    exact = write & touches.launch.exact[touches.access]
    first = _first_of_run(atom * (1 + int(core.max(initial=0))) + core)
    last_write = _before(write, first)
    return History(
        last_write=last_write,
        last_exact=last_write if (exact == write).all() else _before(exact, first),
        own_write=_own_writes(touches, write, last_write),
    )


def _first_of_run(key: Column) -> Column:
    """Per position the first position of its run of equal keys; the key is in order."""
    position = np.arange(len(key))
    begins = np.append(True, key[1:] != key[:-1])[: len(key)]
    first: Column = np.maximum.accumulate(np.where(begins, position, 0))
    return first


def _before(chosen: Column, first: Column) -> Column:
    """Per position the last chosen one before it that is not before `first`, else -1."""
    if not len(chosen):
        return np.zeros(0, dtype=np.int64)
    last = np.maximum.accumulate(np.where(chosen, np.arange(len(chosen)), -1))
    before = np.append(-1, last[:-1])
    return np.where(before >= first, before, -1)


def _own_writes(touches: Touches, write: Column, last_write: Column) -> Column:
    """Where tensors share atoms these differ from `last_write`."""
    atom, tensor = touches.atom, touches.tensor
    mixed = (atom[1:] == atom[:-1]) & (tensor[1:] != tensor[:-1])
    if not mixed.any():
        return last_write
    is_mixed = np.zeros(len(touches.size_bytes), dtype=bool)
    is_mixed[atom[1:][mixed]] = True
    some = np.flatnonzero(is_mixed[atom])
    order = some[np.lexsort((some, tensor[some], atom[some]))]
    key = atom[order] * (1 + int(tensor.max())) + tensor[order]
    found = _before(write[order], _first_of_run(key))
    result = last_write.copy()
    result[order] = np.where(found >= 0, order[found], -1)
    return result
