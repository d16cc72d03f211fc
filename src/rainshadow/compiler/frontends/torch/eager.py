"""Runs operators as the script issues them: each becomes a small graph, compiled once and kept.

An operator is traced with our decompositions into functional form; in-place and out= forms write
the result back into the tensor's memory. Compiled graphs are kept by operator, shapes, strides,
dtypes and scalars; a scalar that keeps changing (a learning rate) becomes a tensor input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from rainshadow.compiler.frontends.torch import host
from rainshadow.compiler.frontends.torch.decompositions import decomposition_table
from rainshadow.compiler.frontends.torch.importer import foreign_dtype
from rainshadow.compiler.frontends.torch.optimizers import UPDATES
from rainshadow.compiler.frontends.torch.source_lines import calling_line
from rainshadow.compiler.frontends.torch.storage import (
    DEVICE_TYPE,
    allocate,
    as_vector,
    has_data,
    host_view,
    is_device_tensor,
)
from rainshadow.compiler.session import current_session

aten = torch.ops.aten

#: Distinct values of a call's float arguments before they become tensor inputs.
MAX_SPECIALISATIONS = 3

#: Composite operators taken whole, which torch would otherwise run as several smaller ones.
_WHOLE = (
    "abs", "abs_", "add.Scalar", "add_.Scalar", "addr", "celu", "clone", "constant_pad_nd",
    "convolution", "convolution_backward", "div.Scalar", "div_.Scalar", "embedding",
    "huber_loss_backward", "index_put", "index_put_", "isinf", "logical_and", "logical_and_",
    "logical_not", "logical_not_", "logical_or", "logical_or_", "logical_xor", "logsumexp",
    "masked_fill.Scalar", "masked_fill.Tensor", "mean", "mul.Scalar", "mul_.Scalar", "nan_to_num",
    "nan_to_num_", "_native_batch_norm_legit_functional", "_native_batch_norm_legit_no_training",
    "_native_batch_norm_legit.no_stats", "native_group_norm", "native_layer_norm",
    "remainder.Scalar", "repeat", "rsub.Scalar", "_safe_softmax", "slice_backward",
    "smooth_l1_loss_backward", "stack", "sub.Scalar", "sub_.Scalar", "sum", "_unsafe_index.Tensor",
    "where.ScalarSelf",
)  # fmt: skip


def register(library: torch.library.Library, everything_else: torch.library.Library) -> None:
    """Install the device's fall-back for all operators, and take over composite ones."""
    everything_else.fallback(_fallback, "PrivateUse1")
    for name in _taken_over():
        library.impl(name, _kernel(_overload(name)), "PrivateUse1")


def _taken_over() -> list[str]:
    """Operators with a composite kernel that would split them; views and factories are not."""
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    chosen = []
    for full in torch._C._dispatch_get_all_op_names():
        name = full.removeprefix("aten::")
        if name == full or has(full, "PrivateUse1"):
            continue
        structured = has(full, "CompositeExplicitAutogradNonFunctional")
        foreach = name.startswith("_foreach_") and ".out" not in name and "_out" not in name
        if name in _WHOLE or foreach or (structured and not _is_out(name)):
            chosen.append(name)
    return chosen


def _is_out(name: str) -> bool:
    return any(argument.is_out for argument in _overload(name)._schema.arguments)


def _overload(name: str) -> Any:
    packet, _, kind = name.partition(".")
    return getattr(getattr(aten, packet), kind or "default")


def _kernel(op: Any) -> Callable[..., Any]:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        return run(op, args, kwargs)

    return kernel


def _fallback(op: Any, *args: Any, **kwargs: Any) -> Any:
    return run(op, args, kwargs)


@dataclass(slots=True)
class Compiled:
    """An operator's graph. inputs: leaf numbers it takes. overwritten: leaves it updates.

    returns: per returned value, the leaf it is ("leaf", i) or the graph's value ("value", i).
    """

    graph: Any
    inputs: list[int]
    spec: TreeSpec
    returns: list[tuple[str, int]]


@dataclass(slots=True)
class Family:
    """Calls that differ in float scalars only."""

    values: set[tuple[float, ...]] = field(default_factory=set)
    general: bool = False


@torch._dynamo.disable  # Dynamo would try to compile the simulator between two captured graphs
def run(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Execute one operator on device tensors.

    Errors: `NotModelled` when it has no kernel and the session forbids the host.
    """
    with torch._C.DisableTorchFunction():
        op, args, kwargs, nothing = with_vectors(op, args, kwargs)
        result = _run(op, args, kwargs)
        return None if nothing else result


def _run(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    leaves, spec = tree_flatten((args, kwargs))
    foreign = foreign_dtype(leaves)
    if foreign is not None:
        return host.run_operator(op, args, kwargs, foreign)
    floats = tuple(i for i, leaf in enumerate(leaves) if type(leaf) is float)
    key = (op, spec, tuple(map(_leaf_key, leaves)))
    if floats and _are_general(op, spec, leaves, floats):
        key = (op, spec, tuple(_leaf_key(x) if type(x) is not float else float for x in leaves))
    else:
        floats = ()
    kept: dict[Any, Compiled | str] = current_session().operators
    compiled = kept.get(key)
    if compiled is None:
        compiled = _compile(op, leaves, spec, floats)
        if isinstance(compiled, str) and floats:
            compiled = _compile(op, leaves, spec, ())
            key = (op, spec, tuple(map(_leaf_key, leaves)))
        kept[key] = compiled
    if isinstance(compiled, str):
        return host.run_operator(op, args, kwargs, compiled)
    results = compiled.graph(*(_as_tensor(leaves[i]) for i in compiled.inputs))
    chosen = [leaves[i] if kind == "leaf" else results[i] for kind, i in compiled.returns]
    return tree_unflatten(chosen, compiled.spec)


def _leaf_key(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        place = leaf.device.type == DEVICE_TYPE
        return (tuple(leaf.shape), leaf.stride(), leaf.dtype, place)
    return (type(leaf), leaf)


def _are_general(op: Any, spec: Any, leaves: list[Any], floats: tuple[int, ...]) -> bool:
    """True when this call's float scalars should be inputs rather than constants."""
    if op in UPDATES:
        return True
    shapes = tuple(_leaf_key(x) if type(x) is not float else None for x in leaves)
    families: dict[Any, Family] = current_session().operator_families
    family = families.setdefault((op, spec, shapes), Family())
    if not family.general:
        family.values.add(tuple(leaves[i] for i in floats))
        family.general = len(family.values) > MAX_SPECIALISATIONS
    return family.general


def _as_tensor(leaf: Any) -> torch.Tensor:
    """Device tensors as they are; scalars and CPU scalars as 0-d float32 device tensors."""
    if is_device_tensor(leaf):
        return leaf
    dtype = leaf.dtype if isinstance(leaf, torch.Tensor) else torch.float32
    scalar = allocate((), dtype)
    if has_data(scalar):
        host_view(scalar).fill_(leaf.item() if isinstance(leaf, torch.Tensor) else leaf)
    return scalar


# -- lists of scalars ------------------------------------------------------------------------------

#: In-place operators on lists -> the operator that does the same to a vector.
_VECTOR_FORMS = {
    aten._foreach_add_.Scalar: aten.add_.Scalar,
    aten._foreach_sub_.Scalar: aten.sub_.Scalar,
    aten._foreach_mul_.Scalar: aten.mul_.Scalar,
    aten._foreach_div_.Scalar: aten.div_.Scalar,
    aten._foreach_add_.Tensor: aten.add_.Tensor,
    aten._foreach_mul_.Tensor: aten.mul_.Tensor,
    aten._foreach_div_.Tensor: aten.div_.Tensor,
    aten._foreach_add_.List: aten.add_.Tensor,
    aten._foreach_sub_.List: aten.sub_.Tensor,
}
_STEPS = 5  # position of state_steps in the arguments of _fused_adam_ and _fused_adamw_


def with_vectors(
    op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, tuple[Any, ...], dict[str, Any], bool]:
    """The same call with lists of neighbouring scalars as vectors; True if it returns nothing."""
    if op in UPDATES and len(args) > _STEPS and isinstance(args[_STEPS], list | tuple):
        vector = as_vector(args[_STEPS])
        if vector is not None:
            args = (*args[:_STEPS], vector, *args[_STEPS + 1 :])
    elif op is aten.stack.default and len(args) == 1:
        vector = as_vector(args[0])
        if vector is not None:
            return aten.clone.default, (vector,), {}, False
    elif op in _VECTOR_FORMS:
        vector = as_vector(args[0])
        other = args[1]
        if isinstance(other, list | tuple):
            other = other[0] if all(item is other[0] for item in other) else None
        if vector is not None and other is not None:
            return _VECTOR_FORMS[op], (vector, other, *args[2:]), kwargs, True
    return op, args, kwargs, False


# -- tracing -------------------------------------------------------------------------------------


def _compile(op: Any, leaves: list[Any], spec: TreeSpec, floats: tuple[int, ...]) -> Compiled | str:
    """The operator's graph, or why it cannot be traced (then it runs on the host)."""
    from rainshadow.compiler.frontends.torch.execute import DeviceGraph

    if op in UPDATES:
        given = _by_name(op, *tree_unflatten(list(range(len(leaves))), spec))
        fixed = {given[name] for name in _CONSTANT_FLOATS if name in given}
        floats = tuple(i for i in floats if i not in fixed)
    inputs = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor) or i in floats]
    tracer = _Tracer(op, leaves, spec, inputs)
    try:
        module = tracer.trace()
    except Exception as error:  # any failure of a decomposition means: no graph, so the host
        return f"it cannot be traced: {type(error).__name__}: {str(error).splitlines()[0]}"
    line = calling_line()
    for node in module.graph.nodes:
        node.meta["rainshadow_source"] = line
    graph = DeviceGraph(
        module,
        operator_name(op),
        updates=tracer.updates,
        differentiable=op.namespace == "rainshadow",
    )
    return Compiled(graph, inputs, tracer.result_spec, tracer.returns)


#: Float arguments of optimizer updates that stay constants: they do not change in training.
_CONSTANT_FLOATS = (
    "beta1", "beta2", "weight_decay", "eps", "momentum", "dampening", "scale_growth_factor",
    "scale_backoff_factor",
)  # fmt: skip


def operator_name(op: Any) -> str:
    """A kernel name for an operator: "aten::add_.Tensor" -> "add"."""
    return op._schema.name.split("::")[1].strip("_")


class _Tracer:
    """Traces one call. After `trace`: updates, returns and result_spec describe its results."""

    def __init__(self, op: Any, leaves: list[Any], spec: TreeSpec, inputs: list[int]) -> None:
        self.op = op
        self.leaves = leaves
        self.spec = spec
        self.inputs = inputs
        self.updates: dict[int, int] = {}
        self.returns: list[tuple[str, int]] = []
        self.result_spec: Any = None

    def trace(self) -> GraphModule:
        mode = FakeTensorMode()
        with mode:
            stand_ins = [_stand_in(self.leaves[i]) for i in self.inputs]
            table = decomposition_table()
            module = make_fx(self._call, decomposition_table=table)(*stand_ins)
        if any(_is_mutable(node) for node in module.graph.nodes):
            raise NotImplementedError(f"{self.op} is not functional after decomposition")
        return module

    def _call(self, *tensors: torch.Tensor) -> list[Any]:
        leaves = list(self.leaves)
        for i, tensor in zip(self.inputs, tensors, strict=True):
            leaves[i] = tensor
        args, kwargs = tree_unflatten(leaves, self.spec)
        position = {id(tensor): i for i, tensor in zip(self.inputs, tensors, strict=True)}
        old, new, returned = functional_call(self.op, args, kwargs)
        flat, self.result_spec = tree_flatten(returned)
        values: list[Any] = []
        self.returns = []
        for value in flat:
            if id(value) in position:
                self.returns.append(("leaf", position[id(value)]))
            else:
                self.returns.append(("value", len(values)))
                values.append(value)
        place = {leaf: number for number, leaf in enumerate(self.inputs)}
        self.updates = {}
        for target, value in zip(old, new, strict=True):
            self.updates[len(values)] = place[position[id(target)]]
            values.append(value)
        return values


def _stand_in(leaf: Any) -> torch.Tensor:
    if isinstance(leaf, torch.Tensor):
        return torch.empty_strided(
            leaf.shape, leaf.stride(), dtype=leaf.dtype, device=torch.device(DEVICE_TYPE, 0)
        )
    return torch.empty((), dtype=torch.float32, device=torch.device(DEVICE_TYPE, 0))


def _is_mutable(node: torch.fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def functional_call(
    op: Any, args: Any, kwargs: dict[str, Any]
) -> tuple[list[torch.Tensor], list[torch.Tensor], Any]:
    """Call an operator without side effects.

    Returns the tensors it would overwrite, their new values, and its result.
    """
    if op in UPDATES:
        given = _by_name(op, args, kwargs)
        positional, named = _split(op, given)
        old, new = UPDATES[op](*positional, **named)
        return old, new, _unchanged_result(op, given)
    if op is aten.copy_.default:
        target, source = args[:2]
        value = source.to(target.dtype).expand(target.shape).clone()
        return [target], [value], target
    schema = op._schema
    if not schema.is_mutable:
        return [], [], _flexible(op, args, kwargs)
    given = _by_name(op, args, kwargs)
    written = [a.name for a in schema.arguments if a.alias_info and a.alias_info.is_write]
    old_flat, _ = tree_flatten([given[name] for name in written])
    name = schema.name.split("::")[1]
    if any(argument.is_out for argument in schema.arguments):
        rest = {k: v for k, v in kwargs.items() if k not in written}
        result = getattr(aten, name)(*args, **rest)
    else:
        result = _flexible(getattr(getattr(aten, name.rstrip("_")), op._overloadname), args, kwargs)
    new_flat, _ = tree_flatten(result)
    new = [_fit(value, target) for value, target in zip(new_flat, old_flat, strict=True)]
    return old_flat, new, _unchanged_result(op, given)


def _flexible(op: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Call an overload; by its packet where a number it expects has become a tensor."""
    try:
        return op(*args, **kwargs)
    except (TypeError, RuntimeError):
        rules = decomposition_table()
        return rules[op](*args, **kwargs) if op in rules else op.overloadpacket(*args, **kwargs)


def _fit(value: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """A result in the dtype of the tensor it is written into."""
    if value.shape != target.shape:
        raise NotImplementedError(f"a result of shape {tuple(value.shape)} resizes its out=")
    return value if value.dtype == target.dtype else value.to(target.dtype)


def _by_name(op: Any, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    names = [argument.name for argument in op._schema.arguments]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _split(op: Any, given: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword-only arguments as the schema has them."""
    keyword = {a.name for a in op._schema.arguments if a.kwarg_only}
    positional = [value for name, value in given.items() if name not in keyword]
    return positional, {name: value for name, value in given.items() if name in keyword}


def _unchanged_result(op: Any, given: dict[str, Any]) -> Any:
    """What an in-place operator returns: its own arguments, or nothing."""
    returns = op._schema.returns
    if not returns:
        return None
    written = [a.name for a in op._schema.arguments if a.alias_info and a.alias_info.is_write]
    values = [given[name] for name in written]
    return values[0] if len(returns) == 1 else tuple(values)
