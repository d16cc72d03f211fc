"""Groups nodes into regions, each of which becomes one NKI function.

Elementwise nodes and reductions over the same rows x columns join one row-wise region, so that
what lies between them never leaves SBUF. A matmul, attention, gather or copy is a region of its
own. A region is closed as soon as another region reads one of its results. Functions of single
values (a learning rate, a loss scale) are computed anew in every region that reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rainshadow.compiler.graph import Graph, Node, Tensor, View, space_of
from rainshadow.compiler.region import Region

_ROWWISE = ("map", "iota", "reduce")
#: A node that shares an input with one of the last regions of its loop space may join it.
_RECENT = 4


@dataclass(eq=False, slots=True)
class _Open:
    """A row-wise region that still takes nodes. made: tensor -> where it lies inside."""

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
    regions = grouping.regions()
    _verify(graph, regions)
    return regions


def _verify(graph: Graph, regions: Sequence[Region]) -> None:
    made = set(graph.inputs)
    for region in regions:
        for view in region.external_views:
            assert view.root in made, f"{graph.name}: {view.root.name} is read before it is made"
        made.update(region.outputs)


class _Grouping:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.groups: list[_Open] = []
        self.maker: dict[Tensor, _Open] = {}
        self.single: dict[Tensor, Node] = {}

    def place(self, position: int, node: Node) -> None:
        if _is_single(node):
            self.single[node.output] = node
            return
        group = self._home(node) if node.op in _ROWWISE else None
        for root in self._read(node):
            source = self.maker.get(root)
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

    def _prelude(self, nodes: Sequence[Node]) -> list[Node]:
        """The single-value nodes that `nodes` depend on, in order."""
        found: set[Node] = set()
        pending = [view.root for node in nodes for view in node.views]
        while pending:
            node = self.single.get(pending.pop())
            if node is not None and node not in found:
                found.add(node)
                pending += [view.root for view in node.views]
        return [node for node in self.graph.nodes if node in found] if found else []

    def _read(self, node: Node) -> list[Tensor]:
        """What must be made before the node: its inputs, single values traced to their source."""
        nodes = [node, *self._prelude([node])]
        roots = dict.fromkeys(view.root for member in nodes for view in member.views)
        return [root for root in roots if root not in self.single]

    def _home(self, node: Node) -> _Open | None:
        """An open region that makes one of the node's inputs and has room for it."""
        through = {root for single in self._prelude([node]) for root in self._read(single)}
        for view in node.views:
            group = self.maker.get(view.root)
            if group is not None and self._takes(group, node, through):
                return group
        for group in reversed(self.groups[-_RECENT:]):
            shares = {v.root for member in group.nodes for v in member.views}
            related = any(v.root in shares for v in node.views)
            same = _space(node) == (group.rows, group.columns)
            if related and same and self._takes(group, node, through):
                return group
        return None

    def _takes(self, group: _Open, node: Node, through: set[Tensor]) -> bool:
        """The group is open, has the node's loops, and need not be finished before the node."""
        return not group.closed and not through & group.made.keys() and _fits(node, group)

    def regions(self) -> list[Region]:
        results = {view.root for view in self.graph.outputs}
        results |= {new.root for _, new in self.graph.updates}
        outside = set(results)
        for node in self.graph.nodes:
            for view in node.views:
                maker = self.maker.get(view.root)
                if maker is not None and node not in maker.nodes:
                    outside.add(view.root)
                if view.root in self.single and node.op not in _ROWWISE:
                    results.add(view.root)
        placed = [((group.last, 0), self._region(group, outside)) for group in self.groups]
        for tensor, node in self.single.items():
            if tensor in results:
                sources = [self.maker[root] for root in self._read(node) if root in self.maker]
                last = max((group.last for group in sources), default=-1)
                placed.append(((last, 1), self._single_region(node)))
        return [region for _, region in sorted(placed, key=lambda entry: entry[0])]

    def _region(self, group: _Open, outside: set[Tensor]) -> Region:
        first = group.nodes[0]
        kind = "rowwise" if first.op in _ROWWISE else first.op
        outputs = [t for node in group.nodes for t in node.outputs if t in outside]
        prelude = self._prelude(group.nodes) if kind == "rowwise" else []
        name = _name(group.nodes)
        return Region(name, kind, group.nodes, outputs, group.rows, group.columns, prelude)

    def _single_region(self, node: Node) -> Region:
        """A single value that is a result or that another kind of region reads."""
        return Region(_name([node]), "rowwise", [node], [node.output], 1, 1, self._prelude([node]))


def _is_single(node: Node) -> bool:
    return (
        node.op == "map"
        and node.output.size == 1
        and all(view.size == 1 and view.root.size == 1 for view in node.views)
    )


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


def _name(nodes: Sequence[Node]) -> str:
    """The module path of most of its nodes, or what it computes."""
    paths = [node.module for node in nodes if node.module]
    words = list(dict.fromkeys(str(node.attrs.get("fn", node.op)) for node in nodes))
    if paths:
        path = max(set(paths), key=paths.count)
        return f"{path}_{'_'.join(words[:1])}" if len(nodes) == 1 else path
    return "_".join(words[:3])
