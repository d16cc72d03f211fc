"""Operands that may be numbers or columns, and results whose dtype the kernel may give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rainshadow.isa.access import AccessPattern
from rainshadow.isa.memory import Space
from rainshadow.nki import isa
from rainshadow.nki.first_generation.arithmetic import (
    as_tile,
    flat_column,
)
from rainshadow.nki.first_generation.memory import Touch
from rainshadow.nki.first_generation.operation import (
    Operand,
    Operation,
    Result,
    call,
    kind_of,
    plain_number,
)
from rainshadow.nki.first_generation.tensor import Tensor

unknown_engine, vector_engine = isa.unknown_engine, isa.vector_engine
SBUF = (Space.sbuf, Space.psum)
PSUM = (Space.psum,)


def result(
    emit: Callable[..., None],
    operands: list[Operand],
    mask: Any,
    shape: tuple[int, ...],
    dtype: Any,
    otherwise: str,
    **options: Any,
) -> Result:
    """What an operation returns whose dtype the kernel may give."""
    kind, explicit = kind_of(dtype, otherwise), dtype is not None
    space = options.pop("space", None)
    operation = Operation(
        emit, operands, mask, shape=shape, dtype=kind, explicit=explicit, **options
    )
    return call(operation, space)


def optional(name: str, value: Any, operands: list[Operand], touch: Touch = Touch.read) -> Any:
    """A number as it is; a column becomes an operand and None."""
    if not isinstance(value, Tensor):
        return value
    tile = as_tile(value, name)
    operands.append(Operand(name, tile, (0,) + (None,) * (tile.ndim - 1), touch))
    return None


def chosen(number: Any, view: AccessPattern | None) -> Any:
    """The number of an operand, or its column [P, 1]."""
    return plain_number(number) if view is None else flat_column(view)
