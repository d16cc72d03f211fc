"""Knows what a region is: the nodes that become one NKI function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rainshadow.compiler.graph import Node, Tensor, View
from rainshadow.errors import SourceLine


@dataclass(frozen=True, eq=False, slots=True)
class Region:
    """nodes in order; kind: the operator file that prints it; rows, columns: its loop space.

    outputs: tensors that are read outside the region.  prelude: single values that the nodes
    need, computed anew in every region that needs them.  members: the regions of a batch.
    """

    name: str
    kind: str
    nodes: Sequence[Node]
    outputs: Sequence[Tensor]
    rows: int = 1
    columns: int = 1
    prelude: Sequence[Node] = ()
    members: Sequence[Region] = ()

    @property
    def external_views(self) -> list[View]:
        """Views of tensors made elsewhere, each once, in order of first use."""
        nodes = [*self.prelude, *self.nodes]
        made = {tensor for node in nodes for tensor in node.outputs}
        return list(dict.fromkeys(v for node in nodes for v in node.views if v.root not in made))

    @property
    def sources(self) -> list[SourceLine]:
        """The user's lines, each once."""
        return list(dict.fromkeys(node.source for node in self.nodes if node.source))
