"""Knows NKI's dtypes by exact name, and the NumPy type that holds each.

float8_e4m3 (largest 240) and float8_e4m3fn (largest 448) are two dtypes; they are never mixed up
because names map one to one to ml_dtypes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

from rainshadow.errors import NkiValidationError

#: NKI name -> NumPy dtype. tfloat32 is stored as float32.
_NUMPY: dict[str, np.dtype[Any]] = {
    "bool_": np.dtype(np.bool_),
    "int8": np.dtype(np.int8),
    "int16": np.dtype(np.int16),
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "uint8": np.dtype(np.uint8),
    "uint16": np.dtype(np.uint16),
    "uint32": np.dtype(np.uint32),
    "float16": np.dtype(np.float16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "tfloat32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3": np.dtype(ml_dtypes.float8_e4m3),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "float8_e8m0fnu": np.dtype(ml_dtypes.float8_e8m0fnu),
    # Four MX elements packed into one word.
    "float8_e5m2_x4": np.dtype(np.uint32),
    "float8_e4m3fn_x4": np.dtype(np.uint32),
    "float4_e2m1fn_x4": np.dtype(np.uint16),
}
_STORED_AS_OTHERS = ("tfloat32", "float8_e5m2_x4", "float8_e4m3fn_x4", "float4_e2m1fn_x4")
_NAMES = {dtype: name for name, dtype in _NUMPY.items() if name not in _STORED_AS_OTHERS}
_ITEMSIZE = {name: dtype.itemsize for name, dtype in _NUMPY.items()}


def is_dtype(name: str) -> bool:
    """Whether NKI has a dtype of that name."""
    return name in _NUMPY


def itemsize(name: str) -> int:
    """Bytes of one element.

    Errors: `NkiValidationError` for an unknown name.
    """
    try:
        return _ITEMSIZE[name]
    except KeyError:
        raise _unknown(name) from None


def _unknown(dtype: Any) -> NkiValidationError:
    return NkiValidationError(f"unknown dtype {dtype}", allowed=", ".join(sorted(_NUMPY)))


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype that holds the NKI dtype `name`.

    Errors: `NkiValidationError` for an unknown name.
    """
    try:
        return _NUMPY[name]
    except KeyError:
        raise _unknown(name) from None


def from_numpy(dtype: Any) -> str:
    """The NKI name of a NumPy dtype.

    Errors: `NkiValidationError` if the chip's formats have no such type.
    """
    name = _NAMES.get(np.dtype(dtype))
    if name is None:
        raise _unknown(dtype)
    return name


@cache
def canonical(dtype: Any) -> str:
    """The NKI name for an NKI name, a NumPy dtype or type, or a torch dtype."""
    if isinstance(dtype, str) and dtype in _NUMPY:
        return dtype
    text = str(dtype)
    if text.startswith("torch."):
        short = text.removeprefix("torch.")
        return "bool_" if short == "bool" else canonical(short)
    if text == "bool":
        return "bool_"
    try:
        return from_numpy(dtype)
    except TypeError:
        raise _unknown(repr(dtype)) from None
