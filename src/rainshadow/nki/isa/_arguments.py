"""Knows what each parameter of a `nki.isa` function may be, and says so when it is something else.

Checked only when a call has failed in Python: what an instruction allows beyond types, its own
rules say. AWS gives equal parameters equal names, so the names tell what they take.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rainshadow.errors import NkiValidationError, RainshadowError
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.engine import Engine
from rainshadow.isa.integers import shown
from rainshadow.nki import constants
from rainshadow.nki.isa._issue import NkiInstruction
from rainshadow.nki.isa._older import ORDERS, choices_of, with_members


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose wrong arguments end in `NkiValidationError`, not Python's own errors."""
    signature = inspect.signature(function)
    reorder, choices = ORDERS.get(function.__name__), choices_of(signature)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if reorder is not None:
            args, kwargs = reorder(args, kwargs)
        if choices and kwargs:
            kwargs = with_members(kwargs, choices)
        try:
            issued = function(*args, **kwargs)
            if "name" in kwargs and isinstance(issued, NkiInstruction):
                issued.call(kwargs["name"])
            return issued
        except RainshadowError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            fault = _fault_of(function.__name__, signature, args, kwargs)
            if fault is None:
                raise
            raise fault from error

    return call


def _fault_of(
    name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> NkiValidationError | None:
    """The first argument that its parameter does not take."""
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        return NkiValidationError(f"{name}: {error}", allowed=f"{name}{_parameters(signature)}")
    for parameter, value in given.items():
        default = signature.parameters[parameter].default
        if value is default:
            continue
        accepts, allowed = _kind_of(parameter, str(signature.parameters[parameter].annotation))
        if not accepts(value):
            return NkiValidationError(f"{name}: {parameter} is {shown(value)}", allowed=allowed)
    return None


def _parameters(signature: inspect.Signature) -> str:
    return f"({', '.join(signature.parameters)})"


Kind = tuple[Callable[[Any], bool], str]


def _kind_of(parameter: str, annotation: str) -> Kind:
    by_name = _KINDS.get(parameter)
    if annotation == "Any" and by_name is not None:
        return by_name
    choices: Any = Engine if annotation == "Engine" else getattr(constants, annotation, None)
    if choices is not None:
        return (lambda value: isinstance(value, choices)), f"a member of nisa.{annotation.lower()}"
    return _BY_ANNOTATION.get(annotation, (lambda _: True, ""))


#: NumPy's kinds of numbers; V is what ml_dtypes' narrow floats have.
_REAL = "biufV"


def is_tensor(value: Any) -> bool:
    return isinstance(value, AccessPattern)


def is_number(value: Any) -> bool:
    """A Python or NumPy number, or a register."""
    if isinstance(value, np.ndarray | np.generic):
        return value.ndim == 0 and value.dtype.kind in _REAL
    return isinstance(value, float) or is_whole(value)


def is_whole(value: Any) -> bool:
    """An integer of at most 64 bits, or a register."""
    if isinstance(value, np.ndarray | type):
        return False
    try:
        return -(1 << 63) <= operator.index(value) < 1 << 64
    except TypeError:
        return False


def _is_operator(value: Any) -> bool:
    return isinstance(value, str) or hasattr(value, "__name__")


def _all(kind: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Sequence) and all(kind(item) for item in value)


def _is_pair(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 2 and all(is_whole(n) for n in value)


_FLAG = (lambda value: isinstance(value, int | np.bool_) and value in (0, 1)), "True or False"
_NUMBER = is_number, "a number; integers of at most 64 bits"
_NUMBER_OR_TENSOR = (
    (lambda value: is_number(value) or is_tensor(value)),
    "a number (integers of at most 64 bits) or an NKI tensor",
)
_OPERATOR = _is_operator, "an operator or function of nki.language, such as nl.add"
_TENSOR = is_tensor, "an NKI tensor (nl.ndarray, or a view of one)"
_WHOLE = is_whole, "an integer of at most 64 bits"

#: What a parameter takes whose annotation does not say.
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("op", "op0", "op1", "reduce_op", "cmp_op", "comp_op0", "comp_op1"), _OPERATOR),
    **dict.fromkeys(
        (
            "operand0",
            "operand1",
            "bias",
            "scale",
            "initial",
            "src",
            "on_false",
            "on_false_value",
            "imm",
            "min",
            "max",
            "prob",
            "max_value",
            "relu_param",
            "reduce_init",
            "imm0",
            "imm1",
        ),
        _NUMBER_OR_TENSOR,
    ),
    **dict.fromkeys(("value",), _NUMBER),
    "srcs": (_all(is_tensor), "a list of NKI tensors"),
    "scales": (_all(is_number), "a list of numbers"),
    "shuffle_mask": (_all(is_whole), "a list of 32 integers"),
    "pattern": (_all(_is_pair), "[[step, count], ...] of integers"),
    "axis": (
        (lambda value: is_whole(value) or _all(is_whole)(value)),
        "an axis, or a tuple of axes",
    ),
    "axes": (_all(is_whole), "a tuple of axes"),
    **dict.fromkeys(
        ("tile_position", "tile_size"), (_all(is_whole), "(rows, columns) of the tile, or nothing")
    ),
    **dict.fromkeys(("pipe_id", "priority"), _WHOLE),
    "cores": (_all(is_whole), "a list of core numbers"),
}

_BY_ANNOTATION: dict[str, Kind] = {
    "NkiTensor": _TENSOR,
    "bool": _FLAG,
    "bool | None": _FLAG,
    "NkiTensor | None": _TENSOR,
    "int": _WHOLE,
    "int | None": _WHOLE,
    "float": _NUMBER,
    "tuple[int, ...]": (_all(is_whole), "a tuple of integers"),
}
