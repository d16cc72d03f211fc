"""Knows the special functions NumPy lacks, computed in float64 and exact to float32.

They are the reference; faster implementations are tested against them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: Where the series hands over to the continued fraction: both are exact to 1e-11 here.
_SWITCH = 3.0
_SERIES_TERMS = 48
_FRACTION_LEVELS = 24


def erf(x: Array) -> Array:
    """The error function, any shape; the result is float32.

    |x| < 3: the Maclaurin series. Beyond: 1 - erfc(x) by Laplace's continued fraction. Both are
    textbook forms (NIST Digital Library of Mathematical Functions 7.6.1 and 7.9.1).
    """
    wide = np.asarray(x, dtype=np.float64)
    size = np.abs(wide)
    small = np.minimum(size, _SWITCH)
    result = np.where(size < _SWITCH, _series(small), 1.0 - _tail(np.maximum(size, _SWITCH)))
    return np.copysign(result, wide).astype(np.float32)


def _series(x: Array) -> Array:
    square = x * x
    term = x.copy()
    total = x.copy()
    for n in range(1, _SERIES_TERMS):
        term *= -square / n
        total += term / (2 * n + 1)
    return total * (2 / math.sqrt(math.pi))


def _tail(x: Array) -> Array:
    fraction = x.copy()
    for level in range(_FRACTION_LEVELS, 0, -1):
        fraction = x + (level / 2) / fraction
    return np.exp(-x * x) / (fraction * math.sqrt(math.pi))  # type: ignore[no-any-return]
