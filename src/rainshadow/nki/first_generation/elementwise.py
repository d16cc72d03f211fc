"""The `nisa` functions of the first generation that compute each element on its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.isa.access import AccessPattern
from rainshadow.isa.memory import Space
from rainshadow.isa.operators import alu_operator
from rainshadow.nki import isa
from rainshadow.nki.constants import reduce_cmd
from rainshadow.nki.first_generation.arithmetic import (
    as_tile,
    column,
    combine,
    flat_column,
    more_precise,
    require_tensor,
)
from rainshadow.nki.first_generation.memory import Touch
from rainshadow.nki.first_generation.operands import chosen, optional, result
from rainshadow.nki.first_generation.operation import (
    Result,
    along,
    run,
)
from rainshadow.nki.first_generation.tensor import Tensor

unknown_engine, vector_engine = isa.unknown_engine, isa.vector_engine
SBUF = (Space.sbuf, Space.psum)
PSUM = (Space.psum,)


class fp32:
    """Constants of float32."""

    min = float(np.finfo(np.float32).min)


class bfp16:
    """Constants of bfloat16."""

    #: The bits that AWS gives it, 0xff80, are minus infinity's.
    min = float("-inf")


def activation(
    op: Any,
    data: Tensor,
    *,
    bias: Any = None,
    scale: Any = 1.0,
    reduce_op: Any = None,
    reduce_res: Tensor | None = None,
    reduce_cmd: reduce_cmd = reduce_cmd.idle,
    mask: Any = None,
    dtype: Any = None,
    **kwargs: Any,
) -> Result:
    """op(data * scale + bias); reduce_res gets the sums that reduce_cmd has gathered."""
    tile = as_tile(data, "data")
    operands = [along("data", tile)]
    number = optional("bias", bias, operands)
    factor = optional("scale", scale, operands)
    optional("reduce_res", reduce_res, operands, Touch.write)

    def emit(
        dst: AccessPattern,
        data: AccessPattern,
        bias: AccessPattern | None = None,
        scale: AccessPattern | None = None,
        reduce_res: AccessPattern | None = None,
    ) -> None:
        isa.activation(
            dst, op, data, chosen(number, bias), chosen(factor, scale), reduce_op,
            chosen(None, reduce_res), reduce_cmd,
        )  # fmt: skip

    space = Space(kwargs["buffer"]) if kwargs.get("buffer") is not None else None
    return result(emit, operands, mask, tile.shape, dtype, tile.type_name, space=space)


def activation_reduce(
    op: Any,
    data: Tensor,
    *,
    reduce_op: Any,
    reduce_res: Tensor,
    bias: Any = None,
    scale: Any = 1.0,
    mask: Any = None,
    dtype: Any = None,
    **kwargs: Any,
) -> Result:
    """activation, and reduce_res = its sum along the free axes."""
    return activation(
        op, data, bias=bias, scale=scale, reduce_op=reduce_op, reduce_res=reduce_res,
        reduce_cmd=reduce_cmd.reset_reduce, mask=mask, dtype=dtype,
    )  # fmt: skip


def tensor_tensor(
    data1: Tensor,
    data2: Tensor,
    op: Any,
    *,
    dtype: Any = None,
    mask: Any = None,
    engine: Any = unknown_engine,
    **kwargs: Any,
) -> Result:
    """data1 op data2."""
    first, second = require_tensor(data1, "data1"), require_tensor(data2, "data2")
    return combine(first, second, alu_operator(op).name, dtype=dtype, mask=mask, engine=engine)


def tensor_scalar(
    data: Tensor,
    op0: Any,
    operand0: Any,
    reverse0: bool = False,
    op1: Any = None,
    operand1: Any = None,
    reverse1: bool = False,
    *,
    dtype: Any = None,
    mask: Any = None,
    engine: Any = unknown_engine,
    **kwargs: Any,
) -> Result:
    """(data op0 operand0) op1 operand1."""
    tile = as_tile(data, "data")
    operands = [along("data", tile)]
    first = optional("operand0", operand0, operands)
    second = optional("operand1", operand1, operands)

    def emit(
        dst: AccessPattern,
        data: AccessPattern,
        operand0: AccessPattern | None = None,
        operand1: AccessPattern | None = None,
    ) -> None:
        isa.tensor_scalar(
            dst, data, op0, chosen(first, operand0), reverse0, op1, chosen(second, operand1),
            reverse1, engine,
        )  # fmt: skip

    return result(emit, operands, mask, tile.shape, dtype, tile.type_name)


def scalar_tensor_tensor(
    *,
    data: Tensor,
    op0: Any,
    operand0: Any,
    op1: Any,
    operand1: Tensor,
    reverse0: bool = False,
    reverse1: bool = False,
    dtype: Any = None,
    mask: Any = None,
    **kwargs: Any,
) -> Result:
    """(data op0 operand0) op1 operand1, operand1 a tile."""
    tile, other = as_tile(data, "data"), as_tile(operand1, "operand1")
    operands = [along("data", tile), along("operand1", other.stretched(tile.shape))]
    number = optional("operand0", operand0, operands)

    def emit(
        dst: AccessPattern,
        data: AccessPattern,
        operand1: AccessPattern,
        operand0: AccessPattern | None = None,
    ) -> None:
        isa.scalar_tensor_tensor(
            dst, data, op0, chosen(number, operand0), op1, operand1, reverse0, reverse1
        )

    return result(emit, operands, mask, tile.shape, dtype, more_precise(tile, other))


def reciprocal(data: Tensor, *, dtype: Any = None, mask: Any = None, **kwargs: Any) -> Result:
    """1 / data."""
    tile = as_tile(data, "data")

    def emit(dst: AccessPattern, data: AccessPattern) -> None:
        isa.reciprocal(dst, data)

    return result(emit, [along("data", tile)], mask, tile.shape, dtype, tile.type_name)


def tensor_copy(
    src: Tensor,
    *,
    mask: Any = None,
    dtype: Any = None,
    engine: Any = unknown_engine,
    **kwargs: Any,
) -> Result:
    """A copy of src on chip."""
    tile = as_tile(src, "src")

    def emit(dst: AccessPattern, src: AccessPattern) -> None:
        isa.tensor_copy(dst, src, engine)

    return result(emit, [along("src", tile)], mask, tile.shape, dtype, tile.type_name)


#: A copy from an offset that a tile holds, as `src[:, offsets[0, i] + nl.arange(8)]` says.
tensor_copy_dynamic_src = tensor_copy


def tensor_copy_dynamic_dst(
    *,
    dst: Tensor,
    src: Tensor,
    mask: Any = None,
    dtype: Any = None,
    engine: Any = unknown_engine,
    **kwargs: Any,
) -> None:
    """dst = src, dst at an offset that a tile holds."""

    def emit(dst: AccessPattern, src: AccessPattern) -> None:
        isa.tensor_copy(dst, src, engine)

    operands = [along("dst", as_tile(dst, "dst"), Touch.write), along("src", as_tile(src, "src"))]
    run(emit, operands, mask)


def tensor_copy_predicated(
    *,
    src: Any,
    dst: Tensor,
    predicate: Tensor,
    reverse_pred: bool = False,
    mask: Any = None,
    dtype: Any = None,
    **kwargs: Any,
) -> None:
    """dst = src where predicate."""
    operands = [
        along("dst", as_tile(dst, "dst"), Touch.change),
        along("predicate", as_tile(predicate, "predicate")),
    ]
    if isinstance(src, Tensor):
        operands.append(along("src", as_tile(src, "src")))

    def emit(dst: AccessPattern, predicate: AccessPattern, src: Any = src) -> None:
        isa.tensor_copy_predicated(dst, src, _as_unsigned(predicate), reverse_pred)

    run(emit, operands, mask)


def _as_unsigned(view: AccessPattern) -> AccessPattern:
    """A tile of bools as the bytes that the engine reads."""
    return view.view("uint8") if view.dtype == "bool_" else view


def select_reduce(
    *,
    dst: Tensor,
    predicate: Tensor,
    on_true: Tensor,
    on_false: Any,
    reduce_res: Tensor | None = None,
    reduce_cmd: reduce_cmd = reduce_cmd.idle,
    reduce_op: Any = "maximum",
    reverse_pred: bool = False,
    mask: Any = None,
    dtype: Any = None,
    **kwargs: Any,
) -> None:
    """dst = on_true where predicate, else on_false; reduce_res = row maximum."""
    operands = [
        along("dst", as_tile(dst, "dst"), Touch.write),
        along("predicate", as_tile(predicate, "predicate")),
        along("on_true", as_tile(on_true, "on_true")),
    ]
    number = optional("on_false", on_false, operands)
    optional("reduce_res", reduce_res, operands, Touch.write)

    def emit(
        dst: AccessPattern,
        predicate: AccessPattern,
        on_true: AccessPattern,
        on_false: AccessPattern | None = None,
        reduce_res: AccessPattern | None = None,
    ) -> None:
        isa.select_reduce(
            dst, _as_unsigned(predicate), on_true, chosen(number, on_false),
            chosen(None, reduce_res), reduce_cmd, reduce_op, reverse_pred,
        )  # fmt: skip

    run(emit, operands, mask)


def range_select(
    *,
    on_true_tile: Tensor,
    comp_op0: Any,
    comp_op1: Any,
    bound0: Tensor,
    bound1: Tensor,
    reduce_cmd: reduce_cmd = reduce_cmd.idle,
    reduce_res: Tensor | None = None,
    reduce_op: Any = "maximum",
    range_start: int = 0,
    on_false_value: float = fp32.min,
    mask: Any = None,
    dtype: Any = None,
    **kwargs: Any,
) -> Result:
    """on_true_tile where both comparisons of the column index hold, else on_false_value."""
    tile = as_tile(on_true_tile, "on_true_tile")
    operands = [along("data", tile)]
    for name, bound in (("bound0", bound0), ("bound1", bound1)):
        operands.append(column(name, as_tile(bound, name)))
    optional("reduce_res", reduce_res, operands, Touch.write)

    def emit(
        dst: AccessPattern,
        data: AccessPattern,
        bound0: AccessPattern,
        bound1: AccessPattern,
        reduce_res: AccessPattern | None = None,
    ) -> None:
        isa.range_select(
            dst, data, comp_op0, comp_op1, flat_column(bound0), flat_column(bound1), reduce_cmd,
            chosen(None, reduce_res), reduce_op, range_start, on_false_value,
        )  # fmt: skip

    return result(emit, operands, mask, tile.shape, dtype, tile.type_name)
