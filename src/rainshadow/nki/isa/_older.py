"""Knows how NKI 0.2 wrote calls that later releases write otherwise: both are accepted.

Source: AWS Neuron docs 2.32, migration guide from 0.2 to 0.3. Parameters that were removed are at
the end of the functions that had them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from rainshadow.isa.access import AccessPattern
from rainshadow.isa.engine import Engine
from rainshadow.nki import constants

Call = tuple[tuple[Any, ...], dict[str, Any]]


def _dma_compute(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """(dst, srcs, scales, reduce_op)"""
    if len(args) > 2 and isinstance(args[2], list | tuple):
        scales, rest = args[2], args[3:]
        return (*args[:2], *rest), {**kwargs, "scales": scales}
    return args, kwargs


def _affine_select(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """(dst, pattern, offset, channel_multiplier, on_true_tile, on_false_value, cmp_op)"""
    if len(args) > 4 and isinstance(args[4], AccessPattern):
        return (*args[:2], *args[3:]), {**kwargs, "offset": args[2]}
    return args, kwargs


def _register_move(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """(dst, imm)"""
    if "imm" in kwargs:
        kwargs = {**kwargs, "src": kwargs["imm"]}
        del kwargs["imm"]
    return args, kwargs


#: Functions whose parameters were in another order, or had other names.
ORDERS: Mapping[str, Callable[[tuple[Any, ...], dict[str, Any]], Call]] = {
    "dma_compute": _dma_compute,
    "affine_select": _affine_select,
    "register_move": _register_move,
}


def choices_of(signature: inspect.Signature) -> dict[str, type[Enum]]:
    """The parameters that take members of an enumeration, which were numbers once."""
    found: dict[str, type[Enum]] = {}
    for name, parameter in signature.parameters.items():
        annotation = str(parameter.annotation)
        choices: Any = Engine if annotation == "Engine" else getattr(constants, annotation, None)
        if isinstance(choices, type) and issubclass(choices, Enum):
            found[name] = choices
    return found


def with_members(kwargs: dict[str, Any], choices: Mapping[str, type[Enum]]) -> dict[str, Any]:
    """The arguments, with members for numbers where there is such a member."""
    changed = {
        name: choices[name](value)
        for name, value in kwargs.items()
        if type(value) is int and name in choices and value in _values(choices[name])
    }
    return {**kwargs, **changed} if changed else kwargs


def _values(choices: type[Enum]) -> set[Any]:
    return {member.value for member in choices}
