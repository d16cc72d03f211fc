"""Knows the numerical choices of a run: how results are rounded, and functions beyond their range.

Sources: AWS Neuron docs 2.32, "Neuron rounding modes" and "Supported activation functions".
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa.operators import ActivationFunction

Array = np.ndarray[Any, Any]

#: Bits of float32's mantissa that tfloat32 lacks.
_TF32_DROPPED = 13


@dataclass(frozen=True, slots=True)
class Numerics:
    """random: of stochastic rounding, None to round to nearest even.

    beyond_range: what an activation function gives for inputs outside the range that AWS
    documents: "exact", "nan" or "error".
    """

    random: np.random.Generator | None = None
    beyond_range: str = "exact"

    @property
    def is_plain(self) -> bool:
        """Whether faster paths, which round to nearest, give the same."""
        return self.random is None and self.beyond_range == "exact"


class _Current(threading.local):
    def __init__(self) -> None:
        self.numerics = Numerics()


_CURRENT = _Current()


@contextmanager
def use(numerics: Numerics) -> Iterator[None]:
    """The choices of this thread inside the block."""
    before, _CURRENT.numerics = _CURRENT.numerics, numerics
    try:
        yield
    finally:
        _CURRENT.numerics = before


def narrowed(values: Array, dtype: np.dtype[Any], name: str) -> Array:
    """float32 results as elements of the NKI dtype `name`, which NumPy holds as `dtype`."""
    if name == "tfloat32":
        return _tfloat32(values)
    random = _CURRENT.numerics.random
    if random is None or values.dtype != np.float32 or not _is_narrower(dtype):
        return values
    return _stochastic(values, dtype, random)


def activated(op: ActivationFunction, inputs: Array, *others: Any) -> Array:
    """The function of its inputs.

    Errors: `NkiValidationError` where one is beyond its range and that is to be an error.
    """
    choice = _CURRENT.numerics.beyond_range
    result = op.function(inputs, *others)
    if choice == "exact" or op.valid is None:
        return result
    low, high = op.valid
    size = np.abs(inputs) if op.name == "reciprocal" else inputs
    beyond = ~((size >= low) & (size <= high))
    if choice == "error" and beyond.any():
        raise NkiValidationError(
            f"{op.name} of {inputs[beyond].flat[0]}", allowed=f"inputs from {low:g} to {high:g}"
        )
    return np.where(beyond, np.float32(np.nan), result)


def _tfloat32(values: Array) -> Array:
    """float32 values with 10 bits of mantissa, to nearest even or at random."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    random, mask = _CURRENT.numerics.random, np.uint32((1 << _TF32_DROPPED) - 1)
    if random is None:
        added = np.uint32((1 << (_TF32_DROPPED - 1)) - 1) + ((bits >> _TF32_DROPPED) & 1)
    else:
        added = random.integers(0, int(mask) + 1, bits.shape, dtype=np.uint32)
    rounded = ((bits + added) & ~mask).view(np.float32)
    return np.where(np.isfinite(values), rounded, values)


def _is_narrower(dtype: np.dtype[Any]) -> bool:
    return dtype.itemsize < 4 and dtype.kind in "fV"


def _stochastic(values: Array, dtype: np.dtype[Any], random: np.random.Generator) -> Array:
    """Each value as one of its two neighbours in `dtype`, the nearer one the more often."""
    nearest = values.astype(dtype)
    near = nearest.astype(np.float32)
    error = np.abs(values - near)
    # Neighbours of a sign are a bit apart: the next one away from 0, or towards it.
    step = np.where(np.abs(values) > np.abs(near), 1, -1)
    bits = nearest.view(f"u{dtype.itemsize}")
    other = (bits.astype(np.int64) + step).astype(bits.dtype).view(dtype)
    gap = np.abs(other.astype(np.float32) - near)
    moves = (error > 0) & np.isfinite(near) & np.isfinite(other.astype(np.float32))
    chance = np.divide(error, gap, out=np.zeros_like(error), where=moves)
    return np.where(moves & (random.random(values.shape) < chance), other, nearest)
