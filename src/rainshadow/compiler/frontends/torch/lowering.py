"""The seam to the importer and the builder: what they can lower, and a part as a program."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node

from rainshadow.compiler.build import CompiledKernel, compile_graph
from rainshadow.compiler.frontends.torch.importer import import_part, unsupported
from rainshadow.compiler.session import Phase, current_session
from rainshadow.isa.strides import contiguous_strides
from rainshadow.machine import Chip
from rainshadow.nki import Run, Shape
from rainshadow.sim.options import SimOptions

__all__ = ["PartProgram", "compile_part", "is_elementwise", "unsupported"]


def is_elementwise(nodes: Iterable[Node]) -> bool:
    """True if element i of every result depends on element i of the inputs only (or on scalars)."""
    return all(
        torch.Tag.pointwise in getattr(node.target, "tags", ()) or node.target in _ALSO_ELEMENTWISE
        for node in nodes
    )


aten = torch.ops.aten
_ALSO_ELEMENTWISE = frozenset({
    aten._to_copy.default, aten.clone.default, aten.full.default, aten.scalar_tensor.default,
    aten.full_like.default, aten.zeros_like.default, aten.ones_like.default,
    aten.copy.default, torch.ops.prims.convert_element_type.default, aten.where.self,
})  # fmt: skip


class PartProgram:
    """A part of a captured graph; compiled at its first run, when strides are known."""

    def __init__(self, part: GraphModule, name: str) -> None:
        self.part = part
        self.name = name
        self._compiled: dict[Any, CompiledKernel] = {}

    @property
    def source(self) -> str:
        """NKI source of every variant compiled so far."""
        return "\n".join(kernel.source for kernel in self._compiled.values())

    def run(
        self,
        arrays: Sequence[Any],
        outs: Sequence[Any] | None = None,
        *,
        chip: Chip,
        options: SimOptions,
    ) -> Run:
        """Execute once; see `compiler.build.CompiledKernel.run`."""
        strides = tuple(_strides(value) for value in arrays)
        key = (chip.name, strides)
        if key not in self._compiled:
            graph = import_part(self.part, self.name, strides)
            folder = current_session().options.kernels_folder
            self._compiled[key] = compile_graph(graph, chip, folder)
        return self._compiled[key].run(arrays, outs or [], chip=chip, options=options)


def _strides(value: Any) -> tuple[int, ...]:
    if isinstance(value, Shape):
        return contiguous_strides(value.shape)
    return tuple(step // value.itemsize for step in value.strides)


def compile_part(part: GraphModule, name: str, phase: Phase | None) -> Any:
    """A program for a part of a graph. name: of its kernel; phase: where it belongs, if known."""
    return PartProgram(part, _KERNEL_NAME.sub("_", name).strip("_"))


_KERNEL_NAME = re.compile(r"\W+")
