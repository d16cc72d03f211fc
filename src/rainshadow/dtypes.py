"""Knows NKI's dtypes by exact name, and the NumPy type that holds each.

float8_e4m3 (largest 240) and float8_e4m3fn (largest 448) are two dtypes; they are never mixed up
because names map one to one to ml_dtypes.
"""

from __future__ import annotations

import copyreg
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
_PACKED = ("float8_e5m2_x4", "float8_e4m3fn_x4", "float4_e2m1fn_x4")
_STORED_AS_OTHERS = ("tfloat32", *_PACKED)
#: What arrays have that are given to kernels: words of one field, by whose name they are known.
_GIVEN = {name: np.dtype([(name, _NUMPY[name])]) for name in _PACKED}
_NAMES = {dtype: name for name, dtype in _NUMPY.items() if name not in _STORED_AS_OTHERS}
_NAMES |= {dtype: name for name, dtype in _GIVEN.items()}
_ITEMSIZE = {name: dtype.itemsize for name, dtype in _NUMPY.items()}


class DType(type):
    """Type of the dtypes of `nki.language`, which are NKI's names and NumPy's types in one.

    AWS documents strings; programs also give them to NumPy. So they equal, hash and answer as
    their name, `str` included, and NumPy takes them as dtypes. Shown as types are, by the name of
    the NumPy type that holds them: test names made of either are the same.
    """

    def __new__(mcs, name: str) -> DType:
        return super().__new__(mcs, name, (), {})

    def __init__(cls, name: str) -> None:
        super().__init__(name, (), {})

    @property
    def dtype(cls) -> np.dtype[Any]:
        return given_dtype(cls.__name__)

    def __eq__(cls, other: object) -> bool:
        if isinstance(other, type) and not isinstance(other, DType):
            return cls.__name__ not in _STORED_AS_OTHERS and cls.dtype.type is other
        return cls.__name__ == str(other)

    def __hash__(cls) -> int:
        return hash(cls.__name__)

    def __str__(cls) -> str:
        return cls.__name__

    def __repr__(cls) -> str:
        return cls.__name__ if cls.__name__ in _STORED_AS_OTHERS else str(cls.dtype.type)

    def __format__(cls, spec: str) -> str:
        return format(repr(cls), spec)

    def __contains__(cls, text: str) -> bool:
        return text in cls.__name__

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls.__name__, name)


@cache
def dtype(name: str) -> DType:
    """The dtype of that name, one object each."""
    return DType(name)


copyreg.pickle(DType, lambda each: (dtype, (each.__name__,)))


def is_dtype(name: str) -> bool:
    """Whether NKI has a dtype of that name."""
    return name in _NUMPY


def names() -> tuple[str, ...]:
    """The dtypes there are."""
    return tuple(_NUMPY)


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


def given_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype of an array that is to be a kernel's argument of the NKI dtype `name`.

    For four MX elements in a word, a structure of one field of that name: `words.view(given_dtype(
    "float8_e4m3fn_x4"))`. Else `numpy_dtype`.

    Errors: `NkiValidationError` for an unknown name.
    """
    return _GIVEN[name] if name in _GIVEN else numpy_dtype(name)


def from_numpy(dtype: Any) -> str:
    """The NKI name of a NumPy dtype, which may be a `given_dtype`.

    Errors: `NkiValidationError` if the chip's formats have no such type.
    """
    name = _NAMES.get(np.dtype(dtype))
    if name is None:
        raise _unknown(dtype)
    return name


def canonical(dtype: Any) -> str:
    """The NKI name for an NKI name, a NumPy dtype or type, or a torch dtype."""
    return dtype.__name__ if type(dtype) is DType else _canonical(dtype)


@cache
def _canonical(dtype: Any) -> str:
    if dtype is None:
        raise _unknown(None)  # NumPy takes it for float64
    text = str(dtype)
    if text in _NUMPY:
        return text
    if text.startswith("torch."):
        short = text.removeprefix("torch.")
        return "bool_" if short == "bool" else canonical(short)
    if text == "bool":
        return "bool_"
    try:
        return from_numpy(dtype)
    except TypeError:
        raise _unknown(repr(dtype)) from None
