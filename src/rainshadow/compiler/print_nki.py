"""Prints regions as a Python module of NKI: one function each, and the driver that calls them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rainshadow.compiler.graph import Graph, Node, Tensor, View
from rainshadow.compiler.operators.attention import emit_attention
from rainshadow.compiler.operators.attention_backward import emit_attention_backward
from rainshadow.compiler.operators.attention_heads import AttentionSpec
from rainshadow.compiler.operators.copy import emit_cat, emit_copy
from rainshadow.compiler.operators.flat_batch import FlatBatchEmitter
from rainshadow.compiler.operators.matmul import (
    BiasActivationEpilogue,
    MatmulOperand,
    MatmulSpec,
    emit_matmul,
)
from rainshadow.compiler.operators.rows_by_index import emit_gather_rows, emit_scatter_add_rows
from rainshadow.compiler.operators.rowwise import RowwiseEmitter
from rainshadow.compiler.operators.tiling import CoreLimits
from rainshadow.compiler.region import Region
from rainshadow.compiler.source_writer import Names, SourceWriter
from rainshadow.isa.strides import contiguous_strides

_PLACEHOLDER = "THE_FUNCTION"

Argument = View | tuple[View, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A printed function and the views the driver passes to it, some in tuples."""

    source: str
    arguments: Sequence[Argument]


def print_module(graph: Graph, regions: Sequence[Region], limits: CoreLimits) -> str:
    """The module's text. Functions with the same text are printed once."""
    tensors = {tensor.name for node in graph.nodes for tensor in node.outputs}
    tensors |= {tensor.name for tensor in graph.inputs}
    names = Names(frozenset({graph.name, "nki", "nl", "nisa", *tensors}))
    functions: dict[str, str] = {}
    calls: list[tuple[str, Region, Sequence[Argument]]] = []
    for region in regions:
        call = _PRINTERS[region.kind](region, limits)
        if call.source not in functions:
            functions[call.source] = names.fresh(region.name)
        calls.append((functions[call.source], region, call.arguments))
    writer = SourceWriter()
    writer.line(f'"""{graph.name}: NKI kernels printed by Rainshadow."""')
    writer.line()
    writer.line("import nki")
    writer.line("import nki.isa as nisa")
    writer.line("import nki.language as nl")
    for source, name in functions.items():
        writer.line()
        writer.line()
        for line in source.rstrip().replace(_PLACEHOLDER, name).split("\n"):
            writer.line(line)
    writer.line()
    writer.line()
    _print_driver(graph, calls, writer)
    return writer.text


def _print_driver(
    graph: Graph, calls: Sequence[tuple[str, Region, Sequence[Argument]]], writer: SourceWriter
) -> None:
    outputs = _distinct_outputs(graph)
    arguments = [tensor.name for tensor in graph.inputs] + [t.name for t in outputs]
    writer.line("@nki.jit")
    writer.line(f"def {graph.name}(")
    with writer.indent():
        for name in arguments:
            writer.line(f"{name},")
    writer.line("):")
    with writer.indent():
        writer.line('"""Calls the functions above in order; results are written to the last '
                    f'{len(outputs)} arguments."""')  # fmt: skip
        known = {*graph.inputs, *outputs}
        for name, region, arguments_ in calls:
            _print_comment(region, writer)
            for argument in arguments_:
                for view in argument if isinstance(argument, tuple) else (argument,):
                    if view.root not in known:
                        known.add(view.root)
                        _print_allocation(view.root, writer)
            _print_call(name, arguments_, writer)
        returned = ", ".join(tensor.name for tensor in outputs)
        writer.line(f"return {returned}{',' if len(outputs) == 1 else ''}")


def _print_call(name: str, arguments: Sequence[Argument], writer: SourceWriter) -> None:
    if not any(isinstance(argument, tuple) for argument in arguments):
        writer.line(f"{name}({', '.join(view_text(view) for view in arguments)})")  # type: ignore[arg-type]
        return
    writer.line(f"{name}(")
    with writer.indent():
        for argument in arguments:
            if not isinstance(argument, tuple):
                writer.line(f"{view_text(argument)},")
                continue
            writer.line("(")
            with writer.indent():
                for view in argument:
                    writer.line(f"{view_text(view)},")
            writer.line("),")
    writer.line(")")


def _distinct_outputs(graph: Graph) -> list[Tensor]:
    roots = [view.root for view in graph.outputs]
    assert len(set(roots)) == len(roots), "the importer copies an output that is given twice"
    return roots


def _print_comment(region: Region, writer: SourceWriter) -> None:
    for source in region.sources[:1]:
        writer.line(f"# {source.file.rsplit('/', 1)[-1]}:{source.line}: {source.text}")


def _print_allocation(tensor: Tensor, writer: SourceWriter) -> None:
    dtype = "uint8" if tensor.dtype == "bool_" else tensor.dtype
    shape = tensor.shape or (1,)
    writer.line(f"{tensor.name} = nl.ndarray({shape}, nl.{dtype}, buffer=nl.private_hbm)")


def view_text(view: View) -> str:
    """Source text of a view of a tensor in the driver."""
    root = view.root
    if view.offset == 0 and view.shape == (root.shape or (1,)) and view.strides == root.strides:
        return root.name
    contiguous_root = root.strides == contiguous_strides(root.shape)
    if view.is_whole and contiguous_root:
        return f"{root.name}.reshape({_tuple(view.shape)})"
    pattern = ", ".join(
        f"[{stride}, {count}]" for stride, count in zip(view.strides, view.shape, strict=True)
    )
    offset = f", offset={view.offset}" if view.offset else ""
    return f"{root.name}.ap([{pattern}]{offset})"


def _tuple(values: Sequence[int]) -> str:
    return f"({', '.join(map(str, values))}{',' if len(values) == 1 else ''})"


# -- one printer per kind of region ----------------------------------------------------------------


def _rowwise(region: Region, limits: CoreLimits) -> Call:
    emitter = RowwiseEmitter(region, limits)
    source = emitter.emit(_PLACEHOLDER)
    return Call(source, [parameter.view for parameter in emitter.parameters])


def _flat_batch(region: Region, limits: CoreLimits) -> Call:
    emitter = FlatBatchEmitter(region.members, limits)
    return Call(emitter.emit(_PLACEHOLDER), emitter.arguments)


def _matrix(view: View, swapped_is_k_major: bool) -> tuple[View, bool]:
    """(the view with its contiguous axis last, whether K comes first in it).

    swapped_is_k_major: the view as given has K last (A), not first (B).
    """
    ndim = len(view.shape)
    order = [*range(ndim - 2), ndim - 1, ndim - 2]
    as_it_is = view.strides[-1] == 1 or view.shape[-1] == 1
    if as_it_is:
        return view, not swapped_is_k_major
    return view.permute(order), swapped_is_k_major


def _without_batch_of_one(view: View) -> View:
    return view.squeeze([0]) if len(view.shape) == 3 and view.shape[0] == 1 else view


def _matmul(region: Region, limits: CoreLimits) -> Call:
    node = region.nodes[0]
    a, b = (_without_batch_of_one(view) for view in node.views[:2])
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    batch = max([view.shape[0] for view in (a, b) if len(view.shape) == 3], default=1)
    a, a_k_major = _matrix(a, True)
    b, b_k_major = _matrix(b, False)
    epilogue = None
    arguments = [a, b]
    if len(node.views) == 3:
        epilogue = BiasActivationEpilogue(columns=n, bias="bias", partitions=limits.partitions)
        arguments.append(View(node.views[2].root, (n,), (1,), node.views[2].offset))
    shape = (batch, m, n) if batch > 1 else (m, n)
    arguments.append(View(node.output, shape, contiguous_strides(shape), 0))
    writer = SourceWriter()
    emit_matmul(
        MatmulSpec(
            name=_PLACEHOLDER,
            m=m,
            n=n,
            k=k,
            a=MatmulOperand(
                name="lhs", dtype=a.dtype, k_major=a_k_major, batched=len(a.shape) == 3
            ),
            b=MatmulOperand(
                name="rhs", dtype=b.dtype, k_major=b_k_major, batched=len(b.shape) == 3
            ),
            limits=limits,
            out_dtype=node.output.dtype,
            compute_dtype="float32" if "float32" in (a.dtype, b.dtype) else a.dtype,
            batch=batch,
            epilogue=epilogue,
        ),
        writer,
    )
    return Call(writer.text, arguments)


def _attention_spec(node: Node, limits: CoreLimits) -> AttentionSpec:
    q, k = node.views[:2]
    batch, heads, q_len, head_dim = q.shape
    return AttentionSpec(
        name=_PLACEHOLDER,
        batch=batch,
        heads=heads,
        q_len=q_len,
        kv_len=k.shape[2],
        head_dim=head_dim,
        scale=node.attrs["scale"],
        limits=limits,
        causal=node.attrs["causal"],
        dtype=q.dtype,
        out_dtype=node.output.dtype,
        compute_dtype="float32" if q.dtype == "float32" else q.dtype,
    )


def _attention(region: Region, limits: CoreLimits) -> Call:
    node = region.nodes[0]
    writer = SourceWriter()
    emit_attention(_attention_spec(node, limits), writer)
    return Call(writer.text, [*node.views, *(tensor.view() for tensor in node.outputs)])


def _attention_backward(region: Region, limits: CoreLimits) -> Call:
    node = region.nodes[0]
    writer = SourceWriter()
    emit_attention_backward(_attention_spec(node, limits), writer)
    return Call(writer.text, [*node.views, *(tensor.view() for tensor in node.outputs)])


def _gather_rows(region: Region, limits: CoreLimits) -> Call:
    node = region.nodes[0]
    table, index = node.views
    rows, columns = node.output.shape
    writer = SourceWriter()
    emit_gather_rows(_PLACEHOLDER, rows, columns, node.output.dtype, limits, writer)
    return Call(writer.text, [table, _as_column(index, rows), node.output.view()])


def _scatter_add_rows(region: Region, limits: CoreLimits) -> Call:
    node = region.nodes[0]
    grad, index = node.views
    rows, columns = grad.shape
    writer = SourceWriter()
    emit_scatter_add_rows(
        _PLACEHOLDER, rows, columns, node.output.shape[0], node.output.dtype,
        node.attrs["padding"], limits, writer,
    )  # fmt: skip
    return Call(writer.text, [grad, _as_column(index, rows), node.output.view()])


def _as_column(index: View, rows: int) -> View:
    return View(index.root, (rows, 1), (1, 1), index.offset)


def _copy(region: Region, limits: CoreLimits) -> Call:
    node = region.nodes[0]
    source = node.views[0]
    writer = SourceWriter()
    emit_copy(_PLACEHOLDER, writer)
    shape = source.shape or (1,)
    strides = source.strides or (1,)
    target = View(node.output, shape, contiguous_strides(shape), 0)
    return Call(writer.text, [View(source.root, shape, strides, source.offset), target])


def _cat(region: Region, limits: CoreLimits) -> Call:
    node = region.nodes[0]
    dim = node.attrs["dim"]
    writer = SourceWriter()
    sizes = [view.shape[dim] for view in node.views]
    emit_cat(_PLACEHOLDER, sizes, dim, len(node.output.shape), writer)
    return Call(writer.text, [*node.views, node.output.view()])


_PRINTERS: dict[str, Callable[[Region, CoreLimits], Call]] = {
    "rowwise": _rowwise,
    "flat_batch": _flat_batch,
    "matmul": _matmul,
    "attention": _attention,
    "attention_backward": _attention_backward,
    "gather_rows": _gather_rows,
    "scatter_add_rows": _scatter_add_rows,
    "copy": _copy,
    "cat": _cat,
}
