"""What each ATen overload means in graph operators: one short rule per overload.

A rule gets the builder, the FX node (for the example value of its result) and the arguments, with
tensors as views. Composite operators that fuse better whole are in `aten_neural`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node

from rainshadow.compiler.graph import GraphBuilder, View

aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Rule:
    """lower(builder, node, *args, **kwargs) -> view(s); refuses(node) -> why not, or None."""

    lower: Callable[..., Any]
    refuses: Callable[[Node], str | None] | None = None


RULES: dict[Any, Rule] = {}


def rule(*overloads: Any, refuses: Callable[[Node], str | None] | None = None) -> Any:
    """Register a lowering for overloads."""

    def register(lower: Callable[..., Any]) -> Callable[..., Any]:
        for overload in overloads:
            RULES[overload] = Rule(lower, refuses)
        return lower

    return register


def meta_of(node: Node) -> tuple[tuple[int, ...], str]:
    """(shape, dtype name) of a node's result."""
    value = node.meta["val"]
    return tuple(value.shape), _dtype(value.dtype)


def _dtype(dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    return {"bool": "bool_", "int64": "int32", "float64": "float32"}.get(name, name)


def number(value: Any) -> float | int:
    """A Python number that emitted source can print."""
    return int(value) if isinstance(value, bool) else value


# -- views -----------------------------------------------------------------------------------------


@rule(aten.view.default, aten._unsafe_view.default, aten.reshape.default)
def _view(b: GraphBuilder, node: Node, x: View, shape: Any) -> View:
    return b.reshape(x, meta_of(node)[0])


@rule(aten.permute.default)
def _permute(b: GraphBuilder, node: Node, x: View, dims: Sequence[int]) -> View:
    return x.permute([d % len(x.shape) for d in dims])


@rule(aten.transpose.int)
def _transpose(b: GraphBuilder, node: Node, x: View, d0: int, d1: int) -> View:
    dims = list(range(len(x.shape)))
    dims[d0], dims[d1] = dims[d1], dims[d0]
    return x.permute(dims)


@rule(aten.t.default)
def _t(b: GraphBuilder, node: Node, x: View) -> View:
    return x.permute(list(range(len(x.shape)))[::-1])


@rule(aten.expand.default)
def _expand(b: GraphBuilder, node: Node, x: View, size: Any, implicit: bool = False) -> View:
    return x.expand(meta_of(node)[0])


@rule(aten.unsqueeze.default)
def _unsqueeze(b: GraphBuilder, node: Node, x: View, dim: int) -> View:
    return x.unsqueeze(dim % (len(x.shape) + 1))


@rule(aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims)
def _squeeze(b: GraphBuilder, node: Node, x: View, dims: Any = None) -> View:
    ndim = len(x.shape)
    chosen = range(ndim) if dims is None else [dims] if isinstance(dims, int) else dims
    return x.squeeze([d % ndim for d in chosen]) if ndim else x


@rule(aten.slice.Tensor)
def _slice(
    b: GraphBuilder, node: Node, x: View, dim: int = 0, start: Any = None, end: Any = None,
    step: int = 1,
) -> View:  # fmt: skip
    dim %= len(x.shape)
    size = x.shape[dim]
    first = 0 if start is None else max(0, start + size if start < 0 else start)
    last = size if end is None else min(size, end + size if end < 0 else end)
    return x.slice(dim, min(first, size), max(last, min(first, size)), step)


@rule(aten.select.int)
def _select(b: GraphBuilder, node: Node, x: View, dim: int, index: int) -> View:
    dim %= len(x.shape)
    return x.select(dim, index % x.shape[dim])


@rule(aten.alias.default, aten.detach.default, aten.lift_fresh_copy.default)
def _alias(b: GraphBuilder, node: Node, x: View) -> View:
    return x


@rule(aten.clone.default)
def _clone(b: GraphBuilder, node: Node, x: View, memory_format: Any = None) -> View:
    return b.contiguous(x)


@rule(aten.split.Tensor, aten.split_with_sizes.default)
def _split(b: GraphBuilder, node: Node, x: View, sizes: Any, dim: int = 0) -> list[View]:
    dim %= len(x.shape)
    if isinstance(sizes, int):
        total = x.shape[dim]
        sizes = [min(sizes, total - at) for at in range(0, total, sizes)]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [x.slice(dim, at, at + size) for at, size in zip(starts, sizes, strict=True)]


@rule(aten.unbind.int)
def _unbind(b: GraphBuilder, node: Node, x: View, dim: int = 0) -> list[View]:
    return [x.select(dim % len(x.shape), i) for i in range(x.shape[dim])]


# -- elementwise -----------------------------------------------------------------------------------


def _operands(values: Sequence[Any]) -> list[Any]:
    return [value if isinstance(value, View) else number(value) for value in values]


def _mapped(b: GraphBuilder, node: Node, fn: str, *operands: Any, dtype: str | None = None) -> View:
    shape, out = meta_of(node)
    return b.map(fn, *_operands(operands), dtype=dtype or out, shape=shape)


def _binary(fn: str) -> Callable[..., View]:
    def lower(b: GraphBuilder, node: Node, x: Any, y: Any, *, alpha: Any = 1) -> View:
        if alpha != 1:
            dtype = meta_of(node)[1]
            y = y * alpha if not isinstance(y, View) else b.map("multiply", y, alpha, dtype=dtype)
        return _mapped(b, node, fn, x, y)

    return lower


for _name, _fn in {
    "add": "add", "sub": "subtract", "mul": "multiply", "eq": "equal", "ne": "not_equal",
    "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
}.items():  # fmt: skip
    for _overload in ("Tensor", "Scalar"):
        rule(getattr(getattr(aten, _name), _overload))(_binary(_fn))
rule(aten.maximum.default)(_binary("maximum"))
rule(aten.minimum.default)(_binary("minimum"))
rule(aten.logical_and.default, aten.bitwise_and.Tensor)(_binary("logical_and"))
rule(aten.logical_or.default, aten.bitwise_or.Tensor)(_binary("logical_or"))
rule(aten.logical_xor.default)(_binary("logical_xor"))
rule(aten.fmod.Tensor, aten.fmod.Scalar)(_binary("fmod"))
rule(aten.remainder.Tensor, aten.remainder.Scalar)(_binary("mod"))
rule(aten.div.Tensor, aten.div.Scalar)(_binary("divide"))


def _integers(node: Node) -> str | None:
    value = node.args[0]
    is_bool = isinstance(value, Node) and value.meta["val"].dtype is torch.bool
    return None if is_bool else "bitwise operators on integers"


for _overload in (aten.bitwise_and.Tensor, aten.bitwise_or.Tensor):
    RULES[_overload] = Rule(RULES[_overload].lower, _integers)


def _unary(fn: str) -> Callable[..., View]:
    def lower(b: GraphBuilder, node: Node, x: View, **_: Any) -> View:
        return _mapped(b, node, fn, x)

    return lower


for _name, _fn in {
    "neg": "negative", "exp": "exp", "log": "log", "sqrt": "sqrt", "rsqrt": "rsqrt",
    "reciprocal": "reciprocal", "tanh": "tanh", "sigmoid": "sigmoid", "relu": "relu", "abs": "abs",
    "erf": "erf", "sin": "sin", "cos": "cos", "sign": "sign", "silu": "silu",
    "logical_not": "logical_not",
}.items():  # fmt: skip
    rule(getattr(aten, _name).default)(_unary(_fn))
rule(aten.bitwise_not.default, refuses=_integers)(_unary("logical_not"))


@rule(aten.gelu.default)
def _gelu(b: GraphBuilder, node: Node, x: View, *, approximate: str = "none") -> View:
    return _mapped(b, node, "gelu" if approximate == "none" else "gelu_apprx_tanh", x)


@rule(aten.pow.Tensor_Scalar)
def _pow(b: GraphBuilder, node: Node, x: View, exponent: float) -> View:
    if exponent == 2:
        return _mapped(b, node, "multiply", x, x)
    special = {0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal", 1: "copy"}.get(exponent)
    if special:
        return _mapped(b, node, special, x)
    return _mapped(b, node, "power", x, exponent)


@rule(aten.pow.Tensor_Tensor, aten.pow.Scalar)
def _pow_tensor(b: GraphBuilder, node: Node, x: Any, y: Any) -> View:
    return _mapped(b, node, "power", x, y)


@rule(aten.clamp.default)
def _clamp(b: GraphBuilder, node: Node, x: View, low: Any = None, high: Any = None) -> View:
    if low is not None:
        x = _mapped(b, node, "maximum", x, low)
    return x if high is None else _mapped(b, node, "minimum", x, high)


@rule(aten.where.self)
def _where(b: GraphBuilder, node: Node, condition: View, x: Any, y: Any) -> View:
    return _mapped(b, node, "where", condition, x, y)


@rule(
    aten._to_copy.default,
    torch.ops.prims.convert_element_type.default,
    aten.copy.default,
)
def _cast(b: GraphBuilder, node: Node, x: View, *others: Any, **_: Any) -> View:
    if node.target is aten.copy.default:
        x = others[0]
    shape, dtype = meta_of(node)
    if dtype == "bool_" and x.dtype != "bool_":
        return b.map("not_equal", x.expand(shape), 0.0, dtype=dtype)
    return x.expand(shape) if x.dtype == dtype else b.map("copy", x, dtype=dtype, shape=shape)


def _fill(value_of: Callable[..., Any]) -> Callable[..., View]:
    def lower(b: GraphBuilder, node: Node, *args: Any, **kwargs: Any) -> View:
        shape, dtype = meta_of(node)
        return b.map("fill", number(value_of(*args, **kwargs)), dtype=dtype, shape=shape)

    return lower


rule(aten.full.default, aten.full_like.default)(_fill(lambda size, value, **_: value))
rule(aten.scalar_tensor.default)(_fill(lambda value, **_: value))
rule(aten.zeros.default, aten.zeros_like.default)(_fill(lambda *a, **_: 0))
rule(aten.ones.default, aten.ones_like.default)(_fill(lambda *a, **_: 1))
rule(aten.fill.Scalar)(_fill(lambda x, value: value))


@rule(aten.arange.start_step)
def _arange(b: GraphBuilder, node: Node, start: Any, end: Any, step: Any = 1, **_: Any) -> View:
    shape, dtype = meta_of(node)
    scaled = b.map("multiply", b.iota(shape), number(step), dtype="float32")
    return b.map("add", scaled, number(start), dtype=dtype)


# -- reductions, matmuls, tables -------------------------------------------------------------------


def _dims(x: View, dims: Any) -> Sequence[int]:
    if dims is None or dims == []:
        return range(len(x.shape))
    return [dims] if isinstance(dims, int) else dims


@rule(aten.sum.dim_IntList, aten.sum.default)
def _sum(
    b: GraphBuilder, node: Node, x: View, dims: Any = None, keepdim: bool = False, **_: Any
) -> View:
    return b.reduce("add", _as_float(b, x), _dims(x, dims), keepdim, meta_of(node)[1])


@rule(aten.mean.dim, aten.mean.default)
def _mean(
    b: GraphBuilder, node: Node, x: View, dims: Any = None, keepdim: bool = False, **_: Any
) -> View:
    chosen = _dims(x, dims)
    count = math.prod(x.shape[d] for d in chosen)
    total = b.reduce("add", x, chosen, keepdim, "float32")
    return b.map("multiply", total, 1.0 / count, dtype=meta_of(node)[1])


def _as_float(b: GraphBuilder, x: View) -> View:
    return b.cast(x, "float32") if x.dtype in ("bool_", "uint8", "int32") else x


@rule(aten.amax.default, aten.max.default)
def _amax(b: GraphBuilder, node: Node, x: View, dims: Any = None, keepdim: bool = False) -> View:
    return b.reduce("maximum", x, _dims(x, dims), keepdim, meta_of(node)[1])


@rule(aten.amin.default, aten.min.default)
def _amin(b: GraphBuilder, node: Node, x: View, dims: Any = None, keepdim: bool = False) -> View:
    return b.reduce("minimum", x, _dims(x, dims), keepdim, meta_of(node)[1])


@rule(aten.any.default)
def _any(b: GraphBuilder, node: Node, x: View) -> View:
    worst = b.reduce("maximum", _as_float(b, x), range(len(x.shape)), False, "float32")
    return b.map("not_equal", worst, 0.0, dtype="bool_")


@rule(aten.mm.default, aten.bmm.default)
def _matmul(b: GraphBuilder, node: Node, x: View, y: View) -> View:
    return b.matmul(x, y, meta_of(node)[1])


@rule(aten.addmm.default)
def _addmm(
    b: GraphBuilder, node: Node, bias: View, x: View, y: View, *, beta: Any = 1, alpha: Any = 1
) -> View:
    dtype = meta_of(node)[1]
    vector = len(bias.shape) == 1 and bias.is_contiguous
    if beta == 1 and alpha == 1 and vector:
        return b.matmul(x, y, dtype, bias)
    product = b.matmul(x, y, "float32")
    if alpha != 1:
        product = b.map("multiply", product, alpha, dtype="float32")
    scaled = bias if beta == 1 else b.map("multiply", bias, beta, dtype="float32")
    return b.map("add", product, scaled, dtype=dtype)


@rule(aten.cat.default)
def _cat(b: GraphBuilder, node: Node, tensors: Sequence[View], dim: int = 0) -> View:
    """Parts are selected by position: each is shifted to its place by a view of stride one."""
    shape, dtype = meta_of(node)
    out = b.tensor("cat", shape, dtype)
    parts = [b.cast(part, dtype) for part in tensors if part.size]
    b.add("cat", parts, [out], dim=dim % len(shape))
    return out.view()


@rule(aten.embedding.default)
def _embedding(b: GraphBuilder, node: Node, table: View, index: View, *_: Any) -> View:
    shape, dtype = meta_of(node)
    rows = b.reshape(index, (index.size,))
    out = b.tensor("embedding", (index.size, table.shape[1]), dtype)
    b.add("gather_rows", [b.contiguous(table), b.contiguous(rows)], [out])
    return b.reshape(out.view(), shape)


@rule(aten.embedding_dense_backward.default)
def _embedding_backward(
    b: GraphBuilder, node: Node, grad: View, index: View, num_rows: int, padding: int,
    scale_by_frequency: bool,
) -> View:  # fmt: skip
    shape, dtype = meta_of(node)
    out = b.tensor("embedding_grad", shape, dtype)
    flat = b.contiguous(b.reshape(grad, (index.size, shape[1])))
    rows = b.contiguous(b.reshape(index, (index.size,)))
    b.add("scatter_add_rows", [flat, rows], [out], padding=padding)
    return out.view()


from rainshadow.compiler.frontends.torch import aten_neural  # noqa: E402, F401 - adds its rules
