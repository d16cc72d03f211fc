"""Knows how engines read and write elements: float32 inside, cast once at the write.

Source: AWS Neuron docs 2.32, nki.isa ("the engine casts input data to float32 and performs the
operation in float32 math; results are cast to the dtype of dst"); rounding to nearest even.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.isa.access import AccessPattern

Array = np.ndarray[Any, Any]


def read_f32(operand: Any) -> Any:
    """A tensor's elements as float32 (the array itself if it is float32); numbers pass."""
    if not isinstance(operand, AccessPattern):
        return np.float32(operand)
    array = operand.array
    return array if array.dtype == np.float32 else array.astype(np.float32)


def column_f32(operand: Any, ndim: int) -> Any:
    """A number, or a [P, 1] tensor shaped to broadcast along all free axes of `ndim`."""
    values = read_f32(operand)
    if isinstance(operand, AccessPattern):
        return values.reshape((values.shape[0],) + (1,) * (ndim - 1))
    return values


def write(dst: AccessPattern, values: Array) -> None:
    """Store float32 results: one rounding to dst's dtype; integers round to nearest, saturate."""
    target = dst.array
    if values.shape != target.shape:
        values = values.reshape(target.shape)
    if target.dtype.kind in "iu" and values.dtype.kind == "f":
        info = np.iinfo(target.dtype)
        values = np.clip(np.rint(values.astype(np.float64)), info.min, info.max)
    with np.errstate(over="ignore", invalid="ignore"):
        target[...] = values
