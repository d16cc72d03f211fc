"""Runs single operators on the host CPU, over the device's memory, and lists them in the session.

Random numbers and factories are filled in by the host by design and count as transfers; everything
else that comes here is a fall-back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Node
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

from rainshadow.compiler.frontends.torch.source_lines import calling_line, node_line
from rainshadow.compiler.frontends.torch.storage import (
    DEVICE_TYPE,
    adopt,
    allocate,
    host_view,
    is_device_tensor,
)
from rainshadow.compiler.session import current_session
from rainshadow.errors import NotModelled, SourceLine

Tensor = torch.Tensor


aten = torch.ops.aten

#: Random draws for which only the shape of an input counts.
_DRAWS = frozenset({
    aten.rand.default, aten.randn.default, aten.rand_like.default, aten.randn_like.default,
    aten.bernoulli.p, aten.randint.default, aten.randint.low, aten.randint_like.default,
    aten.randint_like.low_dtype, aten.randperm.default,
})  # fmt: skip


def is_draw(node: Node) -> bool:
    """True if the node draws random numbers and reads no values: it can run before all else."""
    return node.target in _DRAWS


def run_node(node: Node, value: Callable[[Node], Any], reason: str) -> Any:
    """Execute one FX node on the host; `value` gives the device tensors of its inputs."""
    if is_draw(node):
        value = _blank
    args, kwargs = torch.fx.map_arg((node.args, node.kwargs), value)
    if getattr(node.target, "__name__", "") == "getitem":
        return args[0][args[1]]
    _note(node.target, args, kwargs, node_line(node), reason)
    if current_session().options.data == "none":
        return tree_map(_allocated, node.meta["val"])
    return _call(node.target, args, kwargs)


def run_operator(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], reason: str) -> Any:
    """Execute an eager operator on the host; it may overwrite its arguments."""
    _note(op, args, kwargs, calling_line(), reason)
    if current_session().options.data == "none" and torch.Tag.dynamic_output_shape in op.tags:
        raise NotModelled(
            f"{op} without data: the shape of its result depends on values",
            where=calling_line(),
            fix='run with data="full", or move this operator to the CPU',
        )
    return _call(op, args, kwargs)


def _blank(node: Node) -> Tensor:
    """A host tensor that has a node's shape only."""
    meta = node.meta["val"]
    return torch.empty(meta.shape, dtype=meta.dtype, device="cpu")


def _allocated(meta: Any) -> Any:
    return allocate(meta.shape, meta.dtype) if isinstance(meta, Tensor) else meta


def _call(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    known: dict[int, Tensor] = {}
    views: list[tuple[Tensor, Tensor]] = []

    def to_host(value: Any) -> Any:
        if is_device_tensor(value):
            view = host_view(value)
            known[id(view)] = value
            views.append((view, value))
            return view
        if isinstance(value, torch.device) and value.type == DEVICE_TYPE:
            return torch.device("cpu")
        return value

    results = op(*tree_map(to_host, args), **tree_map(to_host, kwargs))
    for view, tensor in views:
        if view.shape != tensor.shape:  # an out= argument that the operator resized
            tensor.resize_(view.shape)
            host_view(tensor).copy_(view)

    def to_device(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return known[id(value)] if id(value) in known else adopt(value)

    return tree_map(to_device, results)


def _note(op: Any, args: Any, kwargs: Any, line: SourceLine | None, reason: str) -> None:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    if torch.Tag.nondeterministic_seeded in getattr(op, "tags", ()):
        sizes = [t.numel() * t.itemsize for t in tensors] or [0]
        current_session().transfer("random", max(sizes))
    elif not tensors:
        current_session().transfer("factory", 0)
    else:
        current_session().host_fallback(str(op), line, estimated_flops(op, args, kwargs), reason)


def estimated_flops(op: Any, args: Any, kwargs: Any) -> float:
    """Flops of one call: torch's own count for matmul-like operators, else one per element."""
    counter = flop_registry.get(getattr(op, "overloadpacket", op))
    if counter is not None:
        try:
            return float(counter(*args, **kwargs, out_val=None))
        except (TypeError, AttributeError):
            pass  # counters that need the result's shape: fall through to the element count
    leaves = tree_leaves((args, kwargs))
    return float(max((math.prod(t.shape) for t in leaves if isinstance(t, Tensor)), default=0))
