"""Groups nodes into regions, each of which becomes one NKI function.

Elementwise nodes and reductions over the same rows x columns join one row-wise region, so that
what lies between them never leaves SBUF. A matmul, attention, gather or copy is a region of its
own. A region is closed as soon as another region reads one of its results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rainshadow.compiler.graph import Graph, Node, Tensor, View, space_of
from rainshadow.compiler.region import Region

_ROWWISE = ("map", "iota", "reduce")


@dataclass(eq=False, slots=True)
class _Open:
    """A row-wise region that still takes nodes. columns_of: tensor -> its columns inside."""

    rows: int
    columns: int
    nodes: list[Node] = field(default_factory=list)
    made: dict[Tensor, str] = field(default_factory=dict)
    closed: bool = False
    last: int = 0


def fuse_regions(graph: Graph) -> list[Region]:
    """Regions in an order in which every region finds its inputs made."""
    grouping = _Grouping(graph)
    for position, node in enumerate(graph.nodes):
        grouping.place(position, node)
    return grouping.regions()


class _Grouping:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.groups: list[_Open] = []
        self.maker: dict[Tensor, _Open] = {}

    def place(self, position: int, node: Node) -> None:
        group = self._home(node) if node.op in _ROWWISE else None
        for view in node.views:
            source = self.maker.get(view.root)
            if source is not None and source is not group:
                source.closed = True
        if group is None:
            rows, columns = _space(node)
            group = _Open(rows, columns, closed=node.op not in _ROWWISE)
            self.groups.append(group)
        group.nodes.append(node)
        group.last = position
        for tensor in node.outputs:
            self.maker[tensor] = group
            group.made[tensor] = _kind(node, group)

    def _home(self, node: Node) -> _Open | None:
        """An open region that makes one of the node's inputs and has room for it."""
        for view in node.views:
            group = self.maker.get(view.root)
            if group is not None and not group.closed and _fits(node, group):
                return group
        for group in reversed(self.groups[-4:]):
            shares = {v.root for member in group.nodes for v in member.views}
            fresh = not group.closed and any(v.root in shares for v in node.views)
            if fresh and _space(node) == (group.rows, group.columns) and _fits(node, group):
                return group
        return None

    def regions(self) -> list[Region]:
        outside = {view.root for view in self.graph.outputs}
        outside |= {new.root for _, new in self.graph.updates}
        for node in self.graph.nodes:
            for view in node.views:
                maker = self.maker.get(view.root)
                if maker is not None and node not in maker.nodes:
                    outside.add(view.root)
        ordered = sorted(self.groups, key=lambda group: group.last)
        return [_region(group, outside) for group in ordered]


def _space(node: Node) -> tuple[int, int]:
    if node.op == "reduce":
        rows, columns = node.views[0].shape
        return rows, columns
    return space_of(node.output.shape)


def _kind(node: Node, group: _Open) -> str:
    """Where a tensor lies inside its region: full, column (one per row) or out (not readable)."""
    if node.op == "reduce":
        return "column" if node.attrs["kind"] == "row" else "out"
    if node.op in ("map", "iota"):
        full = node.output.size == group.rows * group.columns
        return "full" if full else "column"
    return "out"


def _fits(node: Node, group: _Open) -> bool:
    """The node's loop space is the group's, and it reads the group's tensors where they lie."""
    rows, columns = _space(node)
    if (rows, columns) != (group.rows, group.columns):
        narrow = node.op in ("map", "iota") and rows * columns == group.rows
        if not narrow or group.columns == 1:
            return False
        return all(_reads_column(view, group) for view in node.views)
    return all(_reads_in_place(view, group) for view in node.views)


def _reads_column(view: View, group: _Open) -> bool:
    """One element per row of the group, in the rows' order."""
    inside = group.made.get(view.root)
    strides = view.as_rows(group.rows, 1) if view.size == group.rows else None
    if inside is None:
        return strides is not None
    return inside == "column" and strides is not None and strides[0] in (0, 1)


def _reads_in_place(view: View, group: _Open) -> bool:
    inside = group.made.get(view.root)
    if inside is None:
        return True
    strides = view.as_rows(group.rows, group.columns)
    if strides is None or view.offset:
        return False
    if inside == "full":
        return strides in ((group.columns, 1), (0, 1) if group.rows == 1 else (group.columns, 1))
    return inside == "column" and strides[1] == 0 and (strides[0] == 1 or group.rows == 1)


def _region(group: _Open, outside: set[Tensor]) -> Region:
    first = group.nodes[0]
    kind = "rowwise" if first.op in _ROWWISE else first.op
    outputs = [t for node in group.nodes for t in node.outputs if t in outside]
    return Region(_name(group.nodes), kind, group.nodes, outputs, group.rows, group.columns)


def _name(nodes: Sequence[Node]) -> str:
    """The module path of most of its nodes, or what it computes."""
    paths = [node.module for node in nodes if node.module]
    words = list(dict.fromkeys(str(node.attrs.get("fn", node.op)) for node in nodes))
    if paths:
        path = max(set(paths), key=paths.count)
        return f"{path}_{'_'.join(words[:1])}" if len(nodes) == 1 else path
    return "_".join(words[:3])
