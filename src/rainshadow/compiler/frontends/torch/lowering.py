"""The seam to the importer and the builder: what they can lower, and a part as a program."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.fx import GraphModule, Node

from rainshadow.compiler.session import Phase


def unsupported(node: Node) -> str | None:
    """Why a node has no kernel; None if it has one."""
    return None


def is_elementwise(nodes: Iterable[Node]) -> bool:
    """True if element i of every result depends on element i of the inputs only (or on scalars)."""
    return all(
        torch.Tag.pointwise in getattr(node.target, "tags", ())
        or node.target in _ALSO_ELEMENTWISE
        for node in nodes
    )


aten = torch.ops.aten
_ALSO_ELEMENTWISE = frozenset({
    aten._to_copy.default, aten.clone.default, aten.full.default, aten.scalar_tensor.default,
    aten.full_like.default, aten.zeros_like.default, aten.ones_like.default,
    aten.copy.default, torch.ops.prims.convert_element_type.default, aten.where.self,
})  # fmt: skip


class _Interpreted:
    """TEMPORARY: runs a part on the CPU until the builder lands."""

    def __init__(self, part: GraphModule, name: str) -> None:
        self.part, self.name, self.source = part, name, ""

    def run(self, arrays, outs=None, *, chip, options):
        from types import SimpleNamespace
        from rainshadow.nki.kernel import torch_from_numpy
        part = self.part
        ins = [torch_from_numpy(a) for a in arrays]
        class I(torch.fx.Interpreter):
            def call_function(self, target, args, kwargs):
                kwargs = dict(kwargs)
                if "device" in kwargs: kwargs["device"] = torch.device("cpu")
                if target in (aten.view.default, aten._unsafe_view.default): target = aten.reshape.default
                return target(*args, **kwargs)
        with torch.no_grad():
            res = I(part).run(*ins)
        for o, r in zip(outs, res):
            torch_from_numpy(o).copy_(r)
        return SimpleNamespace(outputs=outs, trace=None)


def compile_part(part: GraphModule, name: str, phase: Phase | None) -> Any:
    return _Interpreted(part, name)
