"""The compiler's one representation: tensors in HBM, views of them, and what is computed.

A node makes new contiguous tensors from views; a view is (tensor, shape, strides, offset) and
costs nothing. Graphs are static-shaped and in execution order. Nothing here knows torch or NKI.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rainshadow.errors import SourceLine
from rainshadow.isa.strides import contiguous_strides, merge_axes, reshape_strides

#: op -> what it computes. "map" and "reduce" name their function in attrs["fn"].
OPERATIONS = {
    "map": "elementwise function of broadcast inputs",
    "iota": "position along the last axis",
    "reduce": "row: over the last axis; column: over the rows; all: to one element",
    "copy": "the elements of a view, laid out contiguously",
    "cat": "tensors one after another along attrs['dim']",
    "matmul": "a[b, M, K] @ b[b, K, N] (+ bias[N])",
    "gather_rows": "rows of a table by index",
    "scatter_add_rows": "rows added up by index into a new table",
    "attention": "softmax(scale * q k^T) v and its log-sum-exp",
    "attention_backward": "gradients of attention",
}


@dataclass(frozen=True, eq=False, slots=True)
class Tensor:
    """A buffer in HBM. strides: row-major unless it is an input that lies otherwise."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...]

    @staticmethod
    def new(name: str, shape: Sequence[int], dtype: str) -> Tensor:
        """A contiguous tensor."""
        return Tensor(name, tuple(shape), dtype, contiguous_strides(tuple(shape)))

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def view(self) -> View:
        """All of it."""
        return View(self, self.shape, self.strides, 0)


@dataclass(frozen=True, slots=True)
class View:
    """Elements of a tensor: element (i, j, ...) is at offset + i * strides[0] + ..."""

    root: Tensor
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    @property
    def dtype(self) -> str:
        return self.root.dtype

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def is_whole(self) -> bool:
        """Exactly the tensor's elements in the tensor's order, whatever the shape."""
        return (
            self.offset == 0
            and self.size == self.root.size
            and self.root.strides == contiguous_strides(self.root.shape)
            and self.is_contiguous
        )

    @property
    def is_contiguous(self) -> bool:
        merged = merge_axes(list(zip(self.shape, self.strides, strict=True)))
        return not merged or (len(merged) == 1 and merged[0][1] == 1)

    def reshape(self, shape: Sequence[int]) -> View | None:
        """The same elements in the same order, or None if no strides express that."""
        strides = reshape_strides(self.shape, self.strides, tuple(shape))
        return None if strides is None else View(self.root, tuple(shape), strides, self.offset)

    def permute(self, dims: Sequence[int]) -> View:
        shape = tuple(self.shape[d] for d in dims)
        return View(self.root, shape, tuple(self.strides[d] for d in dims), self.offset)

    def expand(self, shape: Sequence[int]) -> View:
        """NumPy broadcasting to `shape`."""
        missing = len(shape) - len(self.shape)
        sizes = (1,) * missing + self.shape
        strides = (0,) * missing + self.strides
        spread = tuple(
            0 if old == 1 and new != 1 else stride
            for old, new, stride in zip(sizes, shape, strides, strict=True)
        )
        return View(self.root, tuple(shape), spread, self.offset)

    def slice(self, dim: int, start: int, stop: int, step: int = 1) -> View:
        shape, strides = list(self.shape), list(self.strides)
        shape[dim] = max(0, -(-(stop - start) // step))
        offset = self.offset + start * strides[dim]
        strides[dim] *= step
        return View(self.root, tuple(shape), tuple(strides), offset)

    def select(self, dim: int, index: int) -> View:
        offset = self.offset + index * self.strides[dim]
        shape = self.shape[:dim] + self.shape[dim + 1 :]
        return View(self.root, shape, self.strides[:dim] + self.strides[dim + 1 :], offset)

    def unsqueeze(self, dim: int) -> View:
        shape = (*self.shape[:dim], 1, *self.shape[dim:])
        return View(self.root, shape, (*self.strides[:dim], 0, *self.strides[dim:]), self.offset)

    def squeeze(self, dims: Sequence[int]) -> View:
        kept = [i for i in range(len(self.shape)) if i not in dims or self.shape[i] != 1]
        shape = tuple(self.shape[i] for i in kept)
        return View(self.root, shape, tuple(self.strides[i] for i in kept), self.offset)

    def as_rows(self, rows: int, columns: int) -> tuple[int, int] | None:
        """(row stride, column stride) of the view as a matrix, or None if rows don't merge."""
        shaped = self.reshape((rows, columns))
        if shaped is None:
            return None
        return (0 if rows == 1 else shaped.strides[0]), (0 if columns == 1 else shaped.strides[1])


Operand = View | float | int


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """One computation. inputs: views or numbers.  source: the user's line.  module: its path."""

    op: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Tensor, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    source: SourceLine | None = None
    module: str = ""

    @property
    def output(self) -> Tensor:
        return self.outputs[0]

    @property
    def views(self) -> list[View]:
        """The inputs that are tensors."""
        return [operand for operand in self.inputs if isinstance(operand, View)]


@dataclass(slots=True)
class Graph:
    """inputs, nodes in order, outputs; updates: (input, new value) written back at the end."""

    name: str
    inputs: list[Tensor] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    outputs: list[View] = field(default_factory=list)
    updates: list[tuple[View, View]] = field(default_factory=list)

    def verify(self) -> None:
        """Every view reads a tensor that exists by then and lies inside it."""
        known = set(self.inputs)
        for node in self.nodes:
            assert node.op in OPERATIONS, f"{self.name}: unknown operation {node.op}"
            for view in node.views:
                assert view.root in known, f"{self.name}: {view.root.name} is read too early"
                _assert_inside(view)
            known.update(node.outputs)
        for view in [*self.outputs, *(new for _, new in self.updates)]:
            assert view.root in known, f"{self.name}: output {view.root.name} is never computed"

    def dump(self) -> str:
        """The graph as text, one line per node."""
        lines = [f"graph {self.name}"]
        lines += [f"  input {t.name}: {t.dtype}{list(t.shape)}" for t in self.inputs]
        for node in self.nodes:
            made = ", ".join(f"{t.name}: {t.dtype}{list(t.shape)}" for t in node.outputs)
            read = ", ".join(
                f"{v.root.name}{list(v.shape)}" if isinstance(v, View) else f"{v}"
                for v in node.inputs
            )
            lines.append(f"  {made} = {node.op} {node.attrs.get('fn', '')}({read})")
        lines += [f"  output {view.root.name}{list(view.shape)}" for view in self.outputs]
        return "\n".join(lines)


def _assert_inside(view: View) -> None:
    reach = sum((n - 1) * s for n, s in zip(view.shape, view.strides, strict=True))
    last = sum((n - 1) * s for n, s in zip(view.root.shape, view.root.strides, strict=True))
    assert 0 <= view.offset <= view.offset + reach <= last or view.size == 0, (
        f"view {view.shape} of {view.root.name} reaches outside"
    )


class GraphBuilder:
    """Adds nodes to a graph; what front ends call."""

    def __init__(self, name: str) -> None:
        self.graph = Graph(name)
        self.source: SourceLine | None = None
        self.module = ""
        self._count: dict[str, int] = {}
        self._taken: set[str] = set()

    def fresh(self, stem: str) -> str:
        """A name nothing else in the graph has."""
        number = self._count.get(stem, 0)
        self._count[stem] = number + 1
        name = stem if number == 0 else f"{stem}_{number}"
        if name in self._taken:
            return self.fresh(stem)
        self._taken.add(name)
        return name

    def input(self, name: str, shape: Sequence[int], dtype: str, strides: Sequence[int]) -> View:
        tensor = Tensor(self.fresh(name), tuple(shape), dtype, tuple(strides))
        self.graph.inputs.append(tensor)
        return tensor.view()

    def add(
        self, op: str, inputs: Sequence[Operand], outputs: Sequence[Tensor], **attrs: Any
    ) -> Node:
        node = Node(op, tuple(inputs), tuple(outputs), attrs, self.source, self.module)
        self.graph.nodes.append(node)
        return node

    def tensor(self, stem: str, shape: Sequence[int], dtype: str) -> Tensor:
        return Tensor.new(self.fresh(stem), shape, dtype)

    def map(
        self, fn: str, *operands: Operand, dtype: str, shape: Sequence[int] | None = None
    ) -> View:
        """Elementwise `fn` of broadcast operands; the result has `dtype`."""
        if shape is None:
            shape = broadcast_shape([v.shape for v in operands if isinstance(v, View)])
        spread = [v.expand(shape) if isinstance(v, View) else v for v in operands]
        out = self.tensor(fn, shape, dtype)
        self.add("map", spread, [out], fn=fn)
        return out.view()

    def cast(self, view: View, dtype: str) -> View:
        return view if view.dtype == dtype else self.map("copy", view, dtype=dtype)

    def iota(self, shape: Sequence[int], dtype: str = "float32") -> View:
        """Position along the last axis, at every element of `shape`."""
        out = self.tensor("iota", shape, dtype)
        self.add("iota", [], [out])
        return out.view()

    def contiguous(self, view: View) -> View:
        """The same elements row-major; copies only if they are not."""
        if view.is_contiguous:
            return view
        out = self.tensor("copy", view.shape, view.dtype)
        self.add("copy", [view], [out])
        return out.view()

    def reshape(self, view: View, shape: Sequence[int]) -> View:
        """As `View.reshape`, with a copy where strides can't express it."""
        direct = view.reshape(shape)
        if direct is not None:
            return direct
        copied = self.contiguous(view).reshape(shape)
        assert copied is not None, "a contiguous view takes any shape of its size"
        return copied

    def reduce(self, fn: str, view: View, dims: Sequence[int], keepdim: bool, dtype: str) -> View:
        """Reduce `dims` by add, maximum or minimum in float32."""
        ndim = len(view.shape)
        axes = sorted({d % ndim for d in dims}) if ndim else []
        kept = [d for d in range(ndim) if d not in axes]
        result_shape = [1 if d in axes else n for d, n in enumerate(view.shape)]
        if not keepdim:
            result_shape = [view.shape[d] for d in kept]
        rows = math.prod(view.shape[d] for d in kept)
        columns = math.prod(view.shape[d] for d in axes)
        if columns == 1:
            return self.reshape(self.cast(view, dtype), result_shape)
        if rows == 1:
            kind, matrix = "all", self.reshape(view, (1, columns))
        elif kept and axes[-1] < kept[0]:
            kind, matrix = "column", self.reshape(view, (columns, rows))
        else:
            kind, matrix = "row", self.reshape(view.permute(kept + axes), (rows, columns))
        out = self.tensor({"add": "sum", "maximum": "max", "minimum": "min"}[fn], (rows,), dtype)
        self.add("reduce", [matrix], [out], fn=fn, kind=kind)
        return self.reshape(out.view(), result_shape)

    def matmul(self, a: View, b: View, dtype: str, bias: View | None = None) -> View:
        """a: [.., M, K], b: [.., K, N] with at most one batch axis; result [.., M, N]."""
        shape = (*a.shape[:-1], b.shape[-1])
        out = self.tensor("matmul", shape, dtype)
        self.add("matmul", [a, b] if bias is None else [a, b, bias], [out])
        return out.view()


def broadcast_shape(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """NumPy's broadcast of shapes."""
    ndim = max((len(shape) for shape in shapes), default=0)
    padded = [(1,) * (ndim - len(shape)) + shape for shape in shapes]
    return tuple(max(sizes) if min(sizes) else 0 for sizes in zip(*padded, strict=True))


def space_of(shape: Sequence[int]) -> tuple[int, int]:
    """(rows, columns) of an elementwise result: the last axis is the columns."""
    return (math.prod(shape[:-1]), shape[-1]) if shape else (1, 1)
