"""Knows what counts as an integer where a kernel gives an extent, an index or an address."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from enum import Enum
from typing import Any

import numpy as np

from rainshadow.errors import NkiValidationError, RainshadowError


def whole(value: Any, what: str) -> int:
    """An integer: Python's or NumPy's, a register, a tensor of one, a float without a fraction.

    what: for the message, such as "the size of axis 1".
    Errors: `NkiValidationError` for anything else.
    """
    try:
        return operator.index(value)
    except (TypeError, AttributeError):
        pass
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if not isinstance(value, str | bytes | complex | np.complexfloating):
        try:
            number = int(value)
        except RainshadowError:
            raise
        except (TypeError, ValueError, OverflowError):
            pass
        else:
            if not hasattr(value, "is_integer") or value.is_integer():
                return number
    raise NkiValidationError(f"{what} is {shown(value)}", allowed="an integer")


def wholes(values: Any, what: str) -> tuple[int, ...]:
    """Several of them.

    Errors: `NkiValidationError` for anything else.
    """
    if isinstance(values, str | bytes | dict | set) or not isinstance(values, Iterable):
        raise NkiValidationError(f"{what} is {shown(values)}", allowed="a tuple of integers")
    return tuple(whole(value, f"{what}, entry {number},") for number, value in enumerate(values))


def shown(value: Any) -> str:
    """A value as a message names it: short ones as written, others by their type."""
    is_short = value is None or isinstance(value, bool | int | float | str | Enum | np.generic)
    return repr(value) if is_short and len(repr(value)) < 80 else f"of type {type(value).__name__}"
