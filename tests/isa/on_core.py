"""One core to issue instructions on: tiles that hold given arrays, meanings only, no fast paths."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from rainshadow import dtypes
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.memory import Space
from rainshadow.machine import load_chip
from rainshadow.sim.options import SimOptions
from rainshadow.sim.recorder import Recorder, activate, active_recorder


@contextmanager
def core(chip: str = "trainium2", *, data: str = "full") -> Iterator[Recorder]:
    """A recorder that executes every instruction by its meaning."""
    options = SimOptions(exact=True, data=data)  # type: ignore[arg-type]
    with activate(Recorder(load_chip(chip), options)) as recorder:
        yield recorder


def tile(values: Any, space: Space = Space.sbuf) -> AccessPattern:
    """A tensor with the shape, dtype and values of an array."""
    array = np.asarray(values)
    view = active_recorder().allocate(array.shape, dtypes.from_numpy(array.dtype), space)
    view.array[...] = array.reshape(view.shape)
    return view


def blank(*shape: int, dtype: str = "float32", space: Space = Space.sbuf) -> AccessPattern:
    """A tensor that nobody has written."""
    return active_recorder().allocate(shape, dtype, space)


def values(seed: int, *shape: int, low: float = -3.0, high: float = 3.0) -> np.ndarray[Any, Any]:
    """Random float32 values."""
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)
