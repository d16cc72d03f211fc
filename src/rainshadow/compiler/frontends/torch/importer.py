"""Turns an FX graph of functional ATen operators into a `compiler.graph.Graph`.

Shapes and dtypes come from each node's example value. 64-bit integers and floats become 32-bit:
the chip has no others; the border checks the range. What single operators mean is in `aten_table`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves

from rainshadow.compiler.frontends.torch.aten_table import RULES
from rainshadow.compiler.frontends.torch.source_lines import node_line
from rainshadow.compiler.graph import Graph, GraphBuilder
from rainshadow.dtypes import is_dtype

#: Overloads that become graph operators here and are not to be decomposed before.
LOWERED = frozenset(RULES)

_NARROWED = {"int64": "int32", "float64": "float32"}


@cache
def dtype_name(dtype: torch.dtype) -> str:
    """The kernel's dtype for a torch dtype."""
    name = str(dtype).removeprefix("torch.")
    return "bool_" if name == "bool" else _NARROWED.get(name, name)


def unsupported(node: Node) -> str | None:
    """Why a node can't be lowered; None if it can."""
    if node.target is operator.getitem:
        return None
    rule = RULES.get(node.target)
    if rule is None:
        return "no lowering for this operator"
    foreign = foreign_dtype([n.meta.get("val") for n in (node, *node.all_input_nodes)])
    if foreign is not None:
        return foreign
    return rule.refuses(node) if rule.refuses else None


def foreign_dtype(values: Any) -> str | None:
    """Why tensors can't be an engine's operands: complex numbers. None if they can."""
    names = (dtype_name(v.dtype) for v in tree_leaves(values) if isinstance(v, torch.Tensor))
    return next((f"the chip has no {name}" for name in names if not is_dtype(name)), None)


def import_part(part: GraphModule, name: str, strides: Sequence[Sequence[int]]) -> Graph:
    """strides: of each input as it really lies, in elements."""
    return _Importer(part, name).run(strides)


class _Importer:
    def __init__(self, part: GraphModule, name: str) -> None:
        self.part = part
        self.builder = GraphBuilder(name)
        self.values: dict[Node, Any] = {}

    def run(self, strides: Sequence[Sequence[int]]) -> Graph:
        remaining = iter(strides)
        for node in self.part.graph.nodes:
            if node.op == "placeholder":
                meta = node.meta["val"]
                self.values[node] = self.builder.input(
                    _identifier(node.name), meta.shape, dtype_name(meta.dtype), next(remaining)
                )
            elif node.op == "call_function":
                self.values[node] = self._call(node)
            elif node.op == "output":
                self._finish(node)
        self.builder.graph.verify()
        return self.builder.graph

    def _call(self, node: Node) -> Any:
        args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda n: self.values[n])
        if node.target is operator.getitem:
            return args[0][args[1]]
        self.builder.source = node_line(node)
        self.builder.module = _module_path(node)
        return RULES[node.target].lower(self.builder, node, *args, **kwargs)

    def _finish(self, node: Node) -> None:
        """Outputs are whole tensors: a view or an input that is returned is copied."""
        made = {t for n in self.builder.graph.nodes for t in n.outputs}
        for value in node.args[0]:
            view = self.values[value]
            if view.root not in made or not view.is_whole:
                out = self.builder.tensor("result", view.shape, view.dtype)
                self.builder.add("copy", [view], [out])
                view = out.view()
            self.builder.graph.outputs.append(view)


def _identifier(name: str) -> str:
    return re.sub(r"\W+", "_", name)


def _module_path(node: Node) -> str:
    """`blocks_0_attn` from the nesting of modules that called the operator."""
    stack = node.meta.get("nn_module_stack") or node.meta.get("fwd_nn_module_stack")
    if not stack:
        return ""
    path = str(list(stack.values())[-1][0])
    path = re.sub(r"^L\['\w+'\]|\._modules|\['|'\]|_orig_mod", ".", path)
    return re.sub(r"\W+", "_", path).strip("_")


__all__ = ["LOWERED", "dtype_name", "foreign_dtype", "import_part", "unsupported"]
