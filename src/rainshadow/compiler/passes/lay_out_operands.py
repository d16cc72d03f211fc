"""Inserts copies where an operator can't address a view: what is left are plain access patterns.

Elementwise and row operators read a view as rows x columns with one stride each; matmuls read
matrices with one contiguous axis; gathers read whole tables. Attention takes any strides.
"""

from __future__ import annotations

from rainshadow.compiler.graph import Graph, Node, Operand, Tensor, View, space_of


def lay_out_operands(graph: Graph) -> Graph:
    """The graph in which every operand has a layout its operator can address."""
    nodes: list[Node] = []
    copies: dict[View, View] = {}
    for node in graph.nodes:
        inputs: list[Operand] = []
        for position, operand in enumerate(node.inputs):
            if isinstance(operand, View) and not _addressable(node, position, operand):
                if operand not in copies:
                    copies[operand] = _copy(operand, node, nodes, len(copies))
                operand = copies[operand]
            inputs.append(operand)
        nodes.append(
            Node(node.op, tuple(inputs), node.outputs, node.attrs, node.source, node.module)
        )
    return Graph(graph.name, graph.inputs, nodes, graph.outputs, graph.updates)


def _copy(view: View, node: Node, nodes: list[Node], number: int) -> View:
    out = Tensor.new(f"{view.root.name}_copy{number}", view.shape, view.dtype)
    nodes.append(Node("copy", (view,), (out,), {}, node.source, node.module))
    return out.view()


def _addressable(node: Node, position: int, view: View) -> bool:
    match node.op:
        case "map" | "reduce":
            shape = node.output.shape if node.op == "map" else view.shape
            return view.as_rows(*space_of(shape)) is not None
        case "matmul":
            if position == 2:
                return view.is_contiguous
            return 1 in view.strides[-2:] or 1 in view.shape[-2:]
        case "gather_rows" | "scatter_add_rows":
            return view.is_contiguous
        case _:
            return True
