"""Which ATen operators are taken apart before a graph is imported, and which are kept whole.

The start is torch's core ATen table. Kept whole: what the importer lowers itself, and everything
of attention, whose stock entries give wrong gradients. Added: lists of tensors (`_foreach_*`),
which become one graph of per-tensor operators.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch._decomp import core_aten_decompositions, get_decompositions

from rainshadow.compiler.frontends.torch.own_rules import OWN_RULES

aten = torch.ops.aten

#: Entries of the stock table never used. The table splits the forward of
#: `_scaled_dot_product_flash_attention_for_cpu` but not its backward, which then reads an output
#: that no longer means what it expects: gradients are wrong and nothing says so.
UNSAFE = "scaled_dot_product"

#: Operators outside the core table that torch can take apart.
_ADDED = (
    aten._native_batch_norm_legit,
    aten._native_batch_norm_legit_functional,
    aten._native_batch_norm_legit_no_training,
    aten.native_batch_norm_backward,
    aten.native_group_norm,
    aten.native_group_norm_backward,
    aten.native_layer_norm_backward,
    aten.native_dropout_backward,
    aten._log_softmax_backward_data,
    aten._softmax_backward_data,
    aten.gelu_backward,
    aten.silu_backward,
    aten.tanh_backward,
    aten.sigmoid_backward,
    aten.threshold_backward,
    aten.mse_loss,
    aten.mse_loss_backward,
    aten.linalg_vector_norm,
    aten.addcmul,
    aten.addcdiv,
    aten.lerp,
    aten.stack,
    aten.t,
    aten.transpose,
    aten.unbind,
    aten.masked_fill,
    aten.tril,
    aten.triu,
    aten.rsub,
    aten.zeros_like,
    aten.ones_like,
    aten.full_like,
    aten.select_backward,
    aten.slice_backward,
    aten.nan_to_num,
    aten.logsumexp,
    aten._safe_softmax,
)


@cache
def decomposition_table() -> dict[Any, Callable[..., Any]]:
    """Overload -> decomposition."""
    kept = lowered_whole()
    table = {
        operator: rule
        for operator, rule in core_aten_decompositions().items()
        if UNSAFE not in str(operator) and operator not in kept
    }
    for operator, rule in get_decompositions(list(_ADDED)).items():
        if operator not in kept:
            table.setdefault(operator, rule)
    table.update(foreach_rules())
    table.update(_ALLOCATIONS)
    table.update(OWN_RULES)
    return table


def _zeros(size: Any, *_: Any, like: torch.Tensor, dtype: Any = None) -> torch.Tensor:
    return torch.zeros(size, dtype=dtype or like.dtype, device=like.device)


#: Allocations in a captured graph, whose values are overwritten: zeros, which are one operator.
_ALLOCATIONS: dict[Any, Callable[..., Any]] = {
    aten.new_empty_strided.default: lambda x, size, stride, dtype=None, **_: _zeros(
        size, like=x, dtype=dtype
    ),
    aten.new_empty.default: lambda x, size, dtype=None, **_: _zeros(size, like=x, dtype=dtype),
    aten.empty_like.default: lambda x, dtype=None, **_: _zeros(x.shape, like=x, dtype=dtype),
    aten.empty.memory_format: lambda size, dtype=None, device=None, **_: torch.zeros(
        size, dtype=dtype, device=device
    ),
    aten.empty_strided.default: lambda size, stride, dtype=None, device=None, **_: torch.zeros(
        size, dtype=dtype, device=device
    ),
    aten.empty_permuted.default: lambda size, order, dtype=None, device=None, **_: torch.zeros(
        size, dtype=dtype, device=device
    ),
}


@cache
def lowered_whole() -> frozenset[Any]:
    """Overloads the importer turns into graph operators itself."""
    try:
        from rainshadow.compiler.frontends.torch import importer
    except ImportError:
        return frozenset()
    return frozenset(importer.LOWERED)


# -- lists of tensors ----------------------------------------------------------------------------

#: `_foreach_` operators whose per-tensor operator has another name.
_RENAMED = {
    "norm": torch.linalg.vector_norm,
    "copy": lambda own, source: source.to(own.dtype).expand(own.shape),
    "zero": torch.zeros_like,
    "lerp": torch.lerp,
    "max": torch.max,
}


@cache
def foreach_rules() -> dict[Any, Callable[..., Any]]:
    """A rule for every functional `_foreach_*` overload."""
    rules: dict[Any, Callable[..., Any]] = {}
    for packet_name in dir(aten):
        if not packet_name.startswith("_foreach_") or packet_name.endswith("_"):
            continue
        base = packet_name.removeprefix("_foreach_")
        function = _RENAMED.get(base) or getattr(torch, base, None)
        if function is None:
            continue
        packet = getattr(aten, packet_name)
        for overload_name in packet.overloads():
            overload = getattr(packet, overload_name)
            if not overload._schema.is_mutable:
                rules[overload] = _per_tensor(function, overload._schema)
    return rules


def _per_tensor(function: Callable[..., Any], schema: Any) -> Callable[..., Any]:
    """Apply `function` to the i-th entry of every list argument, for each i."""
    names = [argument.name for argument in schema.arguments]

    def rule(*args: Any, **kwargs: Any) -> list[Any]:
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        count = max(len(value) for value in given.values() if isinstance(value, list | tuple))
        return [_one(function, given, index) for index in range(count)]

    return rule


def _one(function: Callable[..., Any], given: dict[str, Any], index: int) -> Any:
    def pick(value: Any) -> Any:
        return value[index] if isinstance(value, list | tuple) else value

    chosen = {name: pick(value) for name, value in given.items()}
    scale = given.get("scalars", given.get("value"))
    if function in (torch.addcmul, torch.addcdiv):
        combine = torch.mul if function is torch.addcmul else torch.div
        term = combine(chosen["tensor1"], chosen["tensor2"])
        per_tensor = isinstance(scale, torch.Tensor) and scale.dim() == 1
        if per_tensor or isinstance(scale, list | tuple):
            scale = scale[index]
        return chosen["self"] + (term if scale is None else term * scale)
    if function in (torch.add, torch.sub) and "alpha" in chosen:
        alpha = chosen.pop("alpha")
        other = chosen["other"]
        return function(chosen["self"], other if alpha == 1 else other * alpha)
    return function(*chosen.values())
