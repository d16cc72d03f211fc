"""Neural-network operators that are lowered whole, so that each becomes one fused region.

Formulas are those of the operators' definitions in the torch documentation, in float32.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import Node

from rainshadow.compiler.frontends.torch import attention  # noqa: F401 - defines its operators
from rainshadow.compiler.frontends.torch.aten_table import meta_of, rule
from rainshadow.compiler.graph import GraphBuilder, View

aten = torch.ops.aten
F32 = "float32"
_OTHER_AXIS = "softmax over another axis than the last"


def _is_last_axis(node: Node) -> str | None:
    value = node.args[0].meta["val"]  # type: ignore[union-attr]
    dim = node.args[1] if isinstance(node.args[1], int) else node.args[2]
    return None if dim % value.dim() == value.dim() - 1 else _OTHER_AXIS


@rule(aten._log_softmax.default, refuses=_is_last_axis)
def _log_softmax(b: GraphBuilder, node: Node, x: View, dim: int, half_to_float: bool) -> View:
    shifted, total = _shifted_exponentials(b, x)[1:]
    return b.map("subtract", shifted, b.map("log", total, dtype=F32), dtype=meta_of(node)[1])


@rule(aten._softmax.default, refuses=_is_last_axis)
def _softmax(b: GraphBuilder, node: Node, x: View, dim: int, half_to_float: bool) -> View:
    exponentials, _, total = _shifted_exponentials(b, x)
    return b.map("divide", exponentials, total, dtype=meta_of(node)[1])


def _shifted_exponentials(b: GraphBuilder, x: View) -> tuple[View, View, View]:
    """exp(x - max), x - max, and the sum of the former, along the last axis."""
    largest = b.reduce("maximum", x, [-1], True, F32)
    shifted = b.map("subtract", x, largest, dtype=F32)
    exponentials = b.map("exp", shifted, dtype=F32)
    return exponentials, shifted, b.reduce("add", exponentials, [-1], True, F32)


def _last_of_two(node: Node) -> str | None:
    value = node.args[0].meta["val"]  # type: ignore[union-attr]
    same = node.args[2] % value.dim() == value.dim() - 1  # type: ignore[operator]
    return None if same else _OTHER_AXIS


@rule(aten._log_softmax_backward_data.default, refuses=_last_of_two)
def _log_softmax_backward(
    b: GraphBuilder, node: Node, grad: View, out: View, dim: int, dtype: Any
) -> View:
    total = b.reduce("add", grad, [-1], True, F32)
    weighted = b.map("multiply", b.map("exp", out, dtype=F32), total, dtype=F32)
    return b.map("subtract", grad, weighted, dtype=meta_of(node)[1])


@rule(aten._softmax_backward_data.default, refuses=_last_of_two)
def _softmax_backward(
    b: GraphBuilder, node: Node, grad: View, out: View, dim: int, dtype: Any
) -> View:
    product = b.map("multiply", grad, out, dtype=F32)
    total = b.reduce("add", product, [-1], True, F32)
    centred = b.map("subtract", grad, total, dtype=F32)
    return b.map("multiply", centred, out, dtype=meta_of(node)[1])


@rule(aten.native_layer_norm.default)
def _layer_norm(
    b: GraphBuilder, node: Node, x: View, normalized: Any, weight: View | None, bias: View | None,
    epsilon: float,
) -> tuple[View, View, View]:  # fmt: skip
    value, mean_value, _ = node.meta["val"]
    columns = math.prod(normalized)
    rows = x.size // columns
    x = b.reshape(x, (rows, columns))
    mean = b.map("multiply", b.reduce("add", x, [1], True, F32), 1.0 / columns, dtype=F32)
    centred = b.map("subtract", x, mean, dtype=F32)
    square = b.map("multiply", centred, centred, dtype=F32)
    variance = b.map("multiply", b.reduce("add", square, [1], True, F32), 1.0 / columns, dtype=F32)
    inverse = b.map("rsqrt", b.map("add", variance, epsilon, dtype=F32), dtype=F32)
    dtype = str(value.dtype).removeprefix("torch.")
    plain = weight is None and bias is None
    out = b.map("multiply", centred, inverse, dtype=dtype if plain else F32)
    if weight is not None:
        flat = b.reshape(weight, (columns,))
        out = b.map("multiply", out, flat, dtype=dtype if bias is None else F32)
    if bias is not None:
        out = b.map("add", out, b.reshape(bias, (columns,)), dtype=dtype)
    shape = tuple(mean_value.shape)
    return b.reshape(out, tuple(value.shape)), b.reshape(mean, shape), b.reshape(inverse, shape)


@rule(aten.native_layer_norm_backward.default)
def _layer_norm_backward(
    b: GraphBuilder, node: Node, grad: View, x: View, normalized: Any, mean: View, inverse: View,
    weight: View | None, bias: View | None, wanted: Any,
) -> tuple[View | None, View | None, View | None]:  # fmt: skip
    values = node.meta["val"]
    columns = math.prod(normalized)
    rows = x.size // columns
    shape = x.shape
    grad, x = b.reshape(grad, (rows, columns)), b.reshape(x, (rows, columns))
    mean, inverse = b.reshape(mean, (rows, 1)), b.reshape(inverse, (rows, 1))
    centred = b.map("subtract", x, mean, dtype=F32)
    normal = b.map("multiply", centred, inverse, dtype=F32)
    inner = b.cast(grad, F32)
    if weight is not None:
        inner = b.map("multiply", inner, b.reshape(weight, (columns,)), dtype=F32)
    sum1 = b.map("multiply", b.reduce("add", inner, [1], True, F32), 1.0 / columns, dtype=F32)
    product = b.map("multiply", inner, normal, dtype=F32)
    sum2 = b.map("multiply", b.reduce("add", product, [1], True, F32), 1.0 / columns, dtype=F32)
    along = b.map("multiply", normal, sum2, dtype=F32)
    rest = b.map("subtract", b.map("subtract", inner, sum1, dtype=F32), along, dtype=F32)
    grad_x = grad_weight = grad_bias = None
    if wanted[0]:
        grad_x = b.reshape(b.map("multiply", rest, inverse, dtype=_name(values[0])), shape)
    if wanted[1] and weight is not None:
        scaled = b.map("multiply", grad, normal, dtype=F32)
        summed = b.reduce("add", scaled, [0], False, _name(values[1]))
        grad_weight = b.reshape(summed, tuple(values[1].shape))
    if wanted[2] and bias is not None:
        summed = b.reduce("add", grad, [0], False, _name(values[2]))
        grad_bias = b.reshape(summed, tuple(values[2].shape))
    return grad_x, grad_weight, grad_bias


def _name(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")


@rule(aten.gelu_backward.default)
def _gelu_backward(
    b: GraphBuilder, node: Node, grad: View, x: View, *, approximate: str = "none"
) -> View:
    slope = b.map("gelu_dx", x, dtype=F32) if approximate == "none" else _gelu_tanh_slope(b, x)
    return b.map("multiply", grad, slope, dtype=meta_of(node)[1])


def _gelu_tanh_slope(b: GraphBuilder, x: View) -> View:
    """Derivative of 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    scale, cubic = math.sqrt(2 / math.pi), 0.044715

    def m(fn: str, *operands: Any) -> View:
        return b.map(fn, *operands, dtype=F32)

    square = m("multiply", x, x)
    inner = m("multiply", x, m("add", m("multiply", square, scale * cubic), scale))
    tangent = m("tanh", inner)
    outer_slope = m("add", m("multiply", m("multiply", tangent, tangent), -1.0), 1.0)
    inner_slope = m("add", m("multiply", square, 3 * scale * cubic), scale)
    rising = m("multiply", m("multiply", m("multiply", x, outer_slope), inner_slope), 0.5)
    return m("add", m("add", m("multiply", tangent, 0.5), 0.5), rising)


@rule(aten.silu_backward.default)
def _silu_backward(b: GraphBuilder, node: Node, grad: View, x: View) -> View:
    return b.map("multiply", grad, b.map("silu_dx", x, dtype=F32), dtype=meta_of(node)[1])


def _plain_nll(node: Node) -> str | None:
    target_index = 1 if node.target is aten.nll_loss_forward.default else 2
    if node.args[target_index + 1] is not None:
        return "class weights"
    if node.args[target_index + 2] not in (1, 2):
        return "reduction 'none'"
    return None


def _chosen(b: GraphBuilder, shape: tuple[int, ...], target: View) -> View:
    """1 where the column is the row's target class."""
    column = b.reshape(target, (shape[0], 1))
    return b.map("equal", b.iota(shape), b.cast(column, F32), dtype="uint8")


@rule(aten.nll_loss_forward.default, refuses=_plain_nll)
def _nll_loss(
    b: GraphBuilder, node: Node, x: View, target: View, weight: None, reduction: int, ignore: int
) -> tuple[View, View]:
    rows = x.shape[0]
    valid = b.map("not_equal", b.reshape(target, (rows, 1)), ignore, dtype=F32)
    masked = b.map("where", _chosen(b, x.shape, target), x, 0.0, dtype=F32)
    picked = b.reduce("add", masked, [1], True, F32)
    counted = b.map("multiply", picked, valid, dtype=F32)
    total = b.reduce("add", valid, [0, 1], False, F32)
    loss = b.map("negative", b.reduce("add", counted, [0, 1], False, F32), dtype=F32)
    if reduction == 1:
        loss = b.map("divide", loss, total, dtype=F32)
    dtype = _name(node.meta["val"][0])
    return b.cast(loss, dtype), b.cast(total, _name(node.meta["val"][1]))


@rule(aten.nll_loss_backward.default, refuses=_plain_nll)
def _nll_loss_backward(
    b: GraphBuilder, node: Node, grad: View, x: View, target: View, weight: None, reduction: int,
    ignore: int, total: View,
) -> View:  # fmt: skip
    rows = x.shape[0]
    share = b.map("negative", grad, dtype=F32)
    if reduction == 1:
        share = b.map("divide", share, total, dtype=F32)
    valid = b.map("not_equal", b.reshape(target, (rows, 1)), ignore, dtype=F32)
    share = b.map("multiply", valid, b.reshape(share, (1, 1)), dtype=F32)
    chosen = b.map("equal", b.iota(x.shape), b.cast(b.reshape(target, (rows, 1)), F32), dtype=F32)
    return b.map("multiply", chosen, share, dtype=meta_of(node)[1])


@rule(torch.ops.rainshadow.attention.default)
def _attention(
    b: GraphBuilder, node: Node, q: View, k: View, v: View, is_causal: bool, scale: float
) -> tuple[View, View]:
    value, lse_value = node.meta["val"]
    out = b.tensor("attention", value.shape, _name(value))
    lse = b.tensor("lse", lse_value.shape, F32)
    b.add("attention", [q, k, v], [out, lse], causal=is_causal, scale=scale)
    return out.view(), lse.view()


@rule(torch.ops.rainshadow.attention_backward.default)
def _attention_backward(
    b: GraphBuilder, node: Node, grad: View, q: View, k: View, v: View, out: View, lse: View,
    is_causal: bool, scale: float,
) -> tuple[View, View, View]:  # fmt: skip
    values = node.meta["val"]
    made = [
        b.tensor(name, value.shape, _name(value))
        for name, value in zip(("grad_q", "grad_k", "grad_v"), values, strict=True)
    ]
    b.add("attention_backward", [q, k, v, out, grad, lse], made, causal=is_causal, scale=scale)
    return tuple(tensor.view() for tensor in made)  # type: ignore[return-value]
