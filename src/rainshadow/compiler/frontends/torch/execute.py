"""Runs captured graphs on the device: as NKI kernels, and on the host what has no kernel.

A graph arrives as FX nodes of functional ATen operators with static shapes. Views are metadata:
an output that is a view of an input or of a computed value costs nothing. Nodes the importer
cannot lower run on the host and are listed in the session; the rest is cut into as few kernels as
their dependencies allow. Lowering itself is left to `importer` and `compiler.build`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from rainshadow.compiler.frontends.torch import lowering
from rainshadow.compiler.frontends.torch.host import is_draw, run_node
from rainshadow.compiler.frontends.torch.phases import eager_phase
from rainshadow.compiler.frontends.torch.storage import (
    allocate,
    block_of,
    host_view,
    is_device_tensor,
    kernel_argument,
)
from rainshadow.compiler.frontends.torch.transfers import to_device
from rainshadow.compiler.session import Phase, current_session
from rainshadow.sim.options import SimOptions

aten = torch.ops.aten

#: Operators whose result is another view of their input.
VIEWS = frozenset({
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.permute.default,
    aten.transpose.int, aten.t.default, aten.expand.default, aten.unsqueeze.default,
    aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.slice.Tensor,
    aten.select.int, aten.alias.default, aten.detach.default, aten.as_strided.default,
    aten.diagonal.default, aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int,
})  # fmt: skip

#: Views whose shape may not fit the strides their input really has.
_RESHAPES = frozenset({aten.view.default, aten._unsafe_view.default, aten.reshape.default})

#: Under these keys operators record neither gradients nor view relations.
_QUIET_KEYS = torch._C.DispatchKeySet(torch._C.DispatchKey.AutogradPrivateUse1) | (
    torch._C.DispatchKeySet(torch._C.DispatchKey.ADInplaceOrView)
)


def is_view(node: Node) -> bool:
    """True if the node is metadata only, by itself or as an item of such a node."""
    if node.op != "call_function":
        return False
    if getattr(node.target, "__name__", "") == "getitem":
        return isinstance(node.args[0], Node) and is_view(node.args[0])
    return node.target in VIEWS


def root_of(node: Node) -> Node:
    """The node whose memory a chain of views looks at."""
    while is_view(node):
        node = node.args[0]  # type: ignore[assignment]
    return node


@dataclass(slots=True)
class KernelStep:
    """A part of the graph that is one program."""

    program: Any
    inputs: list[Node]
    outputs: list[Node]
    #: output -> input whose memory it may overwrite
    over: dict[Node, Node] = field(default_factory=dict)
    overwriting_tried: bool = False


@dataclass(slots=True)
class HostStep:
    """One node that runs on the host."""

    node: Node
    reason: str


class DeviceGraph:
    """A captured graph, compiled on its first call and run with device tensors.

    updates: output number -> input number: that output is written into that input and not
    returned. phase: of its launches; None asks autograd and the optimizer hooks at each call,
    with `differentiable` as `eager_phase` takes it.
    """

    def __init__(
        self,
        module: GraphModule,
        name: str,
        phase: Phase | None = None,
        updates: dict[int, int] | None = None,
        differentiable: bool = False,
    ) -> None:
        self.module = module
        self.name = name
        self.phase: Phase | None = phase
        self.differentiable = differentiable
        graph = module.graph
        self.placeholders = [node for node in graph.nodes if node.op == "placeholder"]
        self.outputs: list[Any] = _output_list(graph)
        self.updates = {self.outputs[o]: self.placeholders[i] for o, i in (updates or {}).items()}
        self.num_returned = len(self.outputs) - len(updates or {})
        self._strip_copies()
        self.constants = self._take_constants()
        #: strides of the inputs -> plan: kernels are compiled for one layout of their inputs
        self.plans: dict[Any, list[KernelStep | HostStep]] = {}

    def _take_constants(self) -> dict[Node, torch.Tensor]:
        """Tensors that tracing found in closures, moved to the device."""
        constants = {}
        for node in self.module.graph.nodes:
            if node.op == "get_attr":
                held = getattr(self.module, node.target)
                constants[node] = held if is_device_tensor(held) else to_device(held)
                node.meta.setdefault("val", constants[node])
        return constants

    def _strip_copies(self) -> None:
        """Turn copy_ into a placeholder, which functionalized graphs end with, into updates."""
        for node in list(self.module.graph.nodes):
            if node.target is not aten.copy_.default:
                continue
            target, value = node.args[:2]
            if isinstance(target, Node) and target.op == "placeholder":
                self.updates[value] = target
                node.replace_all_uses_with(value)
                self.outputs = [value if out is node else out for out in self.outputs]
                self.module.graph.erase_node(node)

    # -- execution ---------------------------------------------------------------------------

    def __call__(self, *inputs: Any) -> list[Any]:
        """Values of the outputs that are not updates, in order."""
        values: dict[Node, Any] = dict(zip(self.placeholders, inputs, strict=True))
        values.update(self.constants)
        layout = tuple(value.stride() for value in inputs if isinstance(value, torch.Tensor))
        steps = self.plans.get(layout)
        if steps is None:
            for node in self.placeholders:
                node.meta["val"] = layout_of(values[node])
            steps = self.plans[layout] = plan(self)
        phase = self.phase or eager_phase(self.differentiable)
        with torch._C._ExcludeDispatchKeyGuard(_QUIET_KEYS), torch._C.DisableTorchFunction():
            for step in steps:
                if isinstance(step, KernelStep):
                    _run_kernel(step, values, phase)
                else:
                    values[step.node] = run_node(
                        step.node, lambda node: _value(node, values), step.reason
                    )
            for output, placeholder in self.updates.items():
                _write_back(_value(output, values), values[placeholder])
            returned = self.outputs[: self.num_returned]
            return [_value(out, values) if isinstance(out, Node) else out for out in returned]


def layout_of(value: Any) -> Any:
    """Shape, strides and dtype of a tensor, without its data or offset."""
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


def _output_list(graph: Graph) -> list[Any]:
    (output,) = (node for node in graph.nodes if node.op == "output")
    listed = output.args[0]
    return list(listed) if isinstance(listed, list | tuple) else [listed]


def _value(node: Node, values: dict[Node, Any]) -> Any:
    """The value of a node; views of known values are made here, without touching data."""
    if node not in values:
        source = _value(node.args[0], values)  # type: ignore[arg-type]
        if node.op == "call_function" and node.target in _RESHAPES:
            values[node] = torch.reshape(source, node.args[1])  # type: ignore[arg-type]
        else:
            values[node] = node.target(source, *node.args[1:], **node.kwargs)  # type: ignore[operator]
    return values[node]


def _run_kernel(step: KernelStep, values: dict[Node, Any], phase: Phase) -> None:
    inputs = [_value(node, values) for node in step.inputs]
    targets = {
        node: values[placeholder]
        for node, placeholder in step.over.items()
        if _may_overwrite(values[placeholder], inputs)
    }
    arguments = [kernel_argument(tensor) for tensor in inputs]
    with_data = current_session().options.data == "full"
    if targets and with_data and not step.overwriting_tried:
        step.overwriting_tried = True
        outs = _launch(step, arguments, {}, phase)
        if not _overwrites_rightly(step, arguments, targets, outs):
            step.over.clear()
        outs.update(targets)
    else:
        outs = _launch(step, arguments, targets, phase)
    values.update(outs)


def _launch(
    step: KernelStep, arguments: list[Any], targets: dict[Node, torch.Tensor], phase: Phase
) -> dict[Node, torch.Tensor]:
    """Run the program; outputs go to their targets, or to new memory."""
    outs = {}
    for node in step.outputs:
        meta = node.meta["val"]
        outs[node] = targets[node] if node in targets else allocate(meta.shape, meta.dtype)
    results = [kernel_argument(tensor) for tensor in outs.values()]
    current_session().launch(step.program, arguments, results, phase=phase)
    return outs


def _overwrites_rightly(
    step: KernelStep,
    arguments: list[Any],
    targets: dict[Node, torch.Tensor],
    outs: dict[Node, torch.Tensor],
) -> bool:
    """Run once more with the targets as outputs and compare with the run that had its own.

    A program of several regions could read an input again after an output has replaced it. The
    targets hold the right values afterwards in either case.
    """
    session = current_session()
    everywhere = {**outs, **targets}
    expected = {node: host_view(outs[node]).clone() for node in step.outputs}
    results = [kernel_argument(everywhere[node]) for node in step.outputs]
    options = SimOptions(exact=session.options.exact, record=False)
    step.program.run(arguments, results, chip=session.chip, options=options)
    same = True
    for node, value in expected.items():
        found = host_view(everywhere[node])
        same = same and torch.allclose(found, value, rtol=0, atol=0, equal_nan=True)
        found.copy_(value)
        host_view(outs[node]).copy_(value)
    return same


def _may_overwrite(target: torch.Tensor, inputs: Sequence[torch.Tensor]) -> bool:
    """False if an input looks at the target's memory in another way: it would see new values."""
    block = block_of(target)
    geometry = (target.storage_offset(), target.shape, target.stride())
    for tensor in inputs:
        same = (tensor.storage_offset(), tensor.shape, tensor.stride()) == geometry
        if block_of(tensor) is block and not same:
            return False
    # A tensor that holds one element several times (expand) has no element of its own to write.
    axes = zip(target.shape, target.stride(), strict=True)
    return all(step > 0 or extent <= 1 for extent, step in axes)


def _write_back(value: torch.Tensor, target: torch.Tensor) -> None:
    """Copy a result into the tensor it updates, unless the kernel wrote it there."""
    same_place = value.data_ptr() == target.data_ptr() and block_of(value) is block_of(target)
    if same_place and value.shape == target.shape and value.stride() == target.stride():
        return
    target.copy_(value)


# -- planning ------------------------------------------------------------------------------------


#: Level of random draws: they read no values, so they do not cut a kernel in two.
_DRAWN_FIRST = -1


def plan(graph: DeviceGraph) -> list[KernelStep | HostStep]:
    """Cut the graph into kernels and host operators.

    A node's level is even on the device and odd on the host, and at least that of its inputs;
    each even level is one kernel.
    """
    levels: dict[Node, int] = {}
    reasons: dict[Node, str] = {}
    for node in graph.module.graph.nodes:
        if node.op != "call_function":
            levels[node] = 0
            continue
        needed = max((levels[source] for source in node.all_input_nodes), default=0)
        needed = max(needed, 0)
        if is_view(node):
            levels[node] = needed
            continue
        reason = _host_reason(node, reasons)
        if reason:
            reasons[node] = reason
        levels[node] = needed + (needed % 2 == 0) if reason else needed + needed % 2
        if reason and is_draw(node):
            levels[node] = _DRAWN_FIRST
    wanted = {root_of(out) for out in [*graph.outputs, *graph.updates] if isinstance(out, Node)}
    steps: list[KernelStep | HostStep] = []
    for level in range(_DRAWN_FIRST, max(levels.values(), default=0) + 1):
        members = [n for n in graph.module.graph.nodes if levels[n] == level and _computes(n)]
        if level % 2:
            steps += [HostStep(node, reasons[node]) for node in members if node in reasons]
        elif members:
            name = graph.name if max(levels.values()) == 0 else f"{graph.name}_part{level // 2}"
            steps += _kernel_step(graph, members, wanted, name)
    return steps


def _computes(node: Node) -> bool:
    return node.op == "call_function" and not is_view(node)


def _host_reason(node: Node, reasons: dict[Node, str]) -> str:
    if getattr(node.target, "__name__", "") == "getitem":
        return reasons.get(node.args[0], "")  # type: ignore[arg-type]
    return lowering.unsupported(node) or ""


def _kernel_step(
    graph: DeviceGraph, members: list[Node], wanted: set[Node], name: str
) -> list[KernelStep | HostStep]:
    inside = set(members)
    outputs = [
        node
        for node in members
        if _is_tensor(node) and (node in wanted or _used_outside(node, inside))
    ]
    if not outputs:
        return []
    part, inputs = extract(graph.module, members, outputs)
    over = {}
    if lowering.is_elementwise(members):
        for output, placeholder in graph.updates.items():
            if output in outputs and _same_kind(output, placeholder):
                over[output] = placeholder
    program = lowering.compile_part(part, name, graph.phase)
    return [KernelStep(program, inputs, outputs, over)]


def _is_tensor(node: Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)


def _same_kind(value: Node, target: Node) -> bool:
    a, b = value.meta["val"], target.meta["val"]
    return a.shape == b.shape and a.dtype == b.dtype


def _used_outside(node: Node, inside: set[Node]) -> bool:
    """True if another part reads the node, directly or through views."""
    for user in node.users:
        if user.op == "output":
            continue  # `wanted` knows
        if is_view(user):
            if _used_outside(user, inside):
                return True
        elif user not in inside:
            return True
    return False


def extract(
    module: GraphModule, members: Sequence[Node], outputs: Sequence[Node]
) -> tuple[GraphModule, list[Node]]:
    """The members as a graph of their own, and the nodes of the whole graph that feed it."""
    part = Graph()
    copies: dict[Node, Node] = {}
    inputs: list[Node] = []
    inside = set(members)

    def copy_of(node: Node) -> Node:
        if node in copies:
            return copies[node]
        if node in inside or is_view(node):
            copies[node] = part.node_copy(node, copy_of)
        else:
            inputs.append(node)
            placeholder = Graph.placeholder(part, node.name)
            placeholder.meta = dict(node.meta)
            if node.op == "call_function":  # made by another part: kernels write row-major
                value = node.meta["val"]
                placeholder.meta["val"] = torch.empty(value.shape, dtype=value.dtype, device="meta")
            copies[node] = placeholder
        return copies[node]

    # Placeholders first: node_copy appends where the graph ends.
    for node in _external(members, inside):
        copy_of(node)
    for node in members:
        copy_of(node)
    part.output(tuple(copies[node] for node in outputs))
    return GraphModule(module, part), inputs


def _external(members: Sequence[Node], inside: set[Node]) -> list[Node]:
    """Roots outside that members read, in order of first use."""
    found: dict[Node, None] = {}
    for node in members:
        for source in node.all_input_nodes:
            root = root_of(source)
            if root not in inside:
                found[root] = None
    return list(found)
