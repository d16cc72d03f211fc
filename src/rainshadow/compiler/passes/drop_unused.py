"""Removes nodes whose results nothing reads, so that no kernel computes them."""

from __future__ import annotations

from rainshadow.compiler.graph import Graph


def drop_unused(graph: Graph) -> Graph:
    """The graph with only the nodes that outputs and updates need."""
    wanted = {view.root for view in graph.outputs}
    wanted |= {new.root for _, new in graph.updates}
    kept = []
    for node in reversed(graph.nodes):
        if any(tensor in wanted for tensor in node.outputs):
            kept.append(node)
            wanted.update(view.root for view in node.views)
    return Graph(graph.name, graph.inputs, kept[::-1], graph.outputs, graph.updates)
