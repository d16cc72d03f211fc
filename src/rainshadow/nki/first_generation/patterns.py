"""The `nisa` functions of the first generation that index tiles define: iota, affine_select."""

from __future__ import annotations

from typing import Any

from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.memory import Space
from rainshadow.nki import isa
from rainshadow.nki.first_generation.arithmetic import (
    as_tile,
    copy_to_sbuf,
)
from rainshadow.nki.first_generation.index import Index
from rainshadow.nki.first_generation.mask import Condition
from rainshadow.nki.first_generation.operands import result
from rainshadow.nki.first_generation.operation import (
    Result,
    along,
    plain_number,
    shape_on_chip,
)
from rainshadow.nki.first_generation.tensor import Tensor

unknown_engine, vector_engine = isa.unknown_engine, isa.vector_engine
SBUF = (Space.sbuf, Space.psum)
PSUM = (Space.psum,)


def memset(
    shape: Any,
    value: Any,
    dtype: Any,
    *,
    mask: Any = None,
    engine: Any = unknown_engine,
    **kwargs: Any,
) -> Result:
    """A tile of one value."""

    def emit(dst: AccessPattern) -> None:
        isa.memset(dst, plain_number(value), engine)

    extents = shape_on_chip(tuple(int(extent) for extent in shape))
    return result(emit, [], mask, extents, dtype, "float32")


def iota(expr: Index, dtype: Any, *, mask: Any = None, **kwargs: Any) -> Result:
    """A tile of the positions of an index tile."""
    if not isinstance(expr, Index):
        raise NkiValidationError(
            f"iota of {type(expr).__name__}", allowed="expressions of nl.arange or nl.mgrid"
        )
    shape = shape_on_chip(expr.shape)

    def emit(dst: AccessPattern) -> None:
        pattern, multiplier = affine_pattern(expr, shape)
        isa.iota(dst, pattern, expr.start, multiplier)

    return result(emit, [], mask, shape, dtype, "int32")


def affine_pattern(index: Index, shape: tuple[int, ...]) -> tuple[list[list[int]], int]:
    """([[step, count], ...] of the free axes, step of the partition axis)."""
    steps = [0] * len(shape)
    for variable, step in index.terms.items():
        steps[index.axes[variable]] += step
    return [[step, n] for step, n in zip(steps[1:], shape[1:], strict=True)], steps[0]


_PREDICATES = {">=": "greater_equal", "==": "equal", "!=": "not_equal"}


def affine_select(
    pred: Any,
    on_true_tile: Tensor,
    on_false_value: float,
    *,
    mask: Any = None,
    dtype: Any = None,
    **kwargs: Any,
) -> Result:
    """on_true_tile where pred, one comparison of index tiles, holds; else on_false_value.

    A tile in PSUM is copied to SBUF first, as GpSimdE cannot read PSUM.
    """
    if not isinstance(pred, Condition):
        raise NkiValidationError(
            f"affine_select: pred is {type(pred).__name__}",
            allowed="one comparison of index tiles",
            fix="use nl.where for combinations of them",
        )
    tile = as_tile(on_true_tile, "on_true_tile")
    condition: Condition = pred

    def emit(dst: AccessPattern, data: AccessPattern) -> None:
        pattern, multiplier = affine_pattern(condition.index, data.shape)
        if data.space is Space.psum:
            data = copy_to_sbuf(data)
        isa.affine_select(
            dst, pattern, multiplier, data, on_false_value,
            _PREDICATES[condition.operator], condition.index.start,
        )  # fmt: skip

    return result(
        emit, [along("data", tile)], mask, tile.shape, dtype, tile.type_name, spaces=(Space.sbuf,)
    )
