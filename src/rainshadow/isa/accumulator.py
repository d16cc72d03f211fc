"""Knows an engine's accumulator registers: one float32 per partition, kept between instructions.

Source: AWS Neuron docs 2.32, nki.isa reduce_cmd.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: Value that a reset gives, by operator.
IDENTITY = {
    "add": 0.0,
    "subtract": 0.0,
    "multiply": 1.0,
    "maximum": -np.inf,
    "minimum": np.inf,
    "abs_max": 0.0,
    "abs_min": np.inf,
}

_REDUCE: dict[str, Any] = {
    "add": np.add,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
}

#: Reductions that compare sizes, and keep the sign (nki.language.abs_max): how to find the element.
_BY_SIZE: dict[str, Any] = {"abs_max": np.argmax, "abs_min": np.argmin}


class Accumulator:
    """The registers of one engine on one core. used: whether a command has set them."""

    def __init__(self, partitions: int) -> None:
        self.values = np.zeros(partitions, dtype=np.float32)
        self.used = False

    def start(self, command: str, operator: str, partitions: int, initial: Any = None) -> Array:
        """The registers as `command` (an nki reduce_cmd name) leaves them before accumulating."""
        values = self.values[:partitions]
        if command == "load_reduce":
            values[...] = np.asarray(initial, dtype=np.float32).reshape(-1)
        elif command != "reduce":
            values[...] = IDENTITY[operator]
        return values

    def accumulate(self, operator: str, data: Array) -> Array:
        """Reduce [P, free...] into the registers; returns them."""
        flat = data.reshape(data.shape[0], -1)
        values = self.values[: data.shape[0]]
        if operator in _BY_SIZE:
            values[...] = _last_of_size(np.column_stack([values, flat]), _BY_SIZE[operator])
        else:
            ufunc = _REDUCE[operator]
            values[...] = ufunc(values, ufunc.reduce(flat, axis=1))
        return values


def _last_of_size(rows: Array, pick: Any) -> Array:
    """Of each row the element whose size `pick` finds, the last of several, with its sign."""
    turned = rows[:, ::-1]
    return turned[np.arange(len(rows)), pick(np.abs(turned), axis=1)]  # type: ignore[no-any-return]
