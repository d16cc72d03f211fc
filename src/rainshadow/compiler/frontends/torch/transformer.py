"""Reads the sizes of a transformer off a PyTorch module: `model.py:build` for a planner.

`build()` makes the module, on PyTorch's meta device, so that no size needs memory; it may return
(module, example inputs) where the inputs are not one row of token numbers. The module is exported
to a graph of ATen operators, which is read from attention to attention: the projections before,
the MLP after, embedding first, logits last. What is recognised must account for the module's
parameters. Left out: experts, windows, and attention written out instead of called.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.fx import Node

from rainshadow.errors import InputError, NotModelled, ScriptError, UnknownNameError

_ATEN = torch.ops.aten
_ATTENTION = _ATEN.scaled_dot_product_attention.default
_TOKENS = 128
#: Share of the parameters that may stay unexplained: buffers, small scales.
_SLACK = 0.01


@dataclass(frozen=True, slots=True)
class _Matmul:
    """A matmul with a weight. weight: its node."""

    node: Node
    weight: Node
    inputs: int
    outputs: int
    biased: bool


@dataclass(frozen=True, slots=True)
class _Layer:
    """What one layer's attention and MLP say; equal for all layers of a model."""

    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    gated: bool
    causal: bool
    bias: bool


def describe_transformer(text: str) -> dict[str, Any]:
    """The table of a model file for "FILE.py:FUNCTION".

    Errors: `InputError` and `UnknownNameError` for a file or function that is not there;
    `ScriptError` where it raises; `NotModelled` for what is no such transformer.
    """
    module, inputs = _build(text)
    try:
        exported = torch.export.export(module, inputs)
    except Exception as error:
        raise NotModelled(
            f"{text}: PyTorch cannot export it: {str(error).splitlines()[0]}",
            fix="return (module, example inputs), or describe the model in a TOML",
        ) from None
    nodes = [node for node in exported.graph.nodes if node.op == "call_function"]
    names = exported.graph_signature.inputs_to_parameters
    table = _table(text, nodes, {node: _owner(module, names, node) for node in _weights(nodes)})
    table["norms_are_layer_norms"] = any(n.target == _ATEN.layer_norm.default for n in nodes)
    return _checked(text, table, sum(p.numel() for p in module.parameters()))


def _build(text: str) -> tuple[torch.nn.Module, tuple[Any, ...]]:
    file, _, name = text.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise InputError(f"cannot read {file!r}", fix="name a Python file as FILE.py:FUNCTION")
    spec = importlib.util.spec_from_file_location("rainshadow_planned_model", path)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script
    try:
        with redirect_stdout(sys.stderr):
            spec.loader.exec_module(script)
        if not hasattr(script, name):
            known = [key for key in vars(script) if not key.startswith("_")]
            raise UnknownNameError(f"name in {file}", name, known)
        with torch.device("meta"), redirect_stdout(sys.stderr):
            made = getattr(script, name)()
            tokens = torch.zeros(1, _TOKENS, dtype=torch.long)
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise ScriptError(f"{text}: {type(error).__name__}: {error}") from None
    module, inputs = made if isinstance(made, tuple) else (made, (tokens,))
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"{text} made {type(module).__name__}", allowed="a torch.nn.Module")
    return module.eval(), tuple(inputs)


def _matmul(node: Node) -> _Matmul | None:
    """A linear, or a matmul whose second operand is a parameter."""
    if node.target == _ATEN.linear.default:
        weight = node.args[1]
        assert isinstance(weight, Node)
        outputs, inputs = _shape(weight)
        biased = len(node.args) > 2 and node.args[2] is not None
        return _Matmul(node, weight, inputs, outputs, biased)
    if node.target in (_ATEN.addmm.default, _ATEN.mm.default, _ATEN.matmul.default):
        weight = node.args[-1]
        if isinstance(weight, Node) and weight.op == "placeholder" and len(_shape(weight)) == 2:
            inputs, outputs = _shape(weight)
            return _Matmul(node, weight, inputs, outputs, node.target == _ATEN.addmm.default)
    return None


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in node.meta["val"].shape)


def _weights(nodes: list[Node]) -> Iterator[Node]:
    for node in nodes:
        found = _matmul(node)
        if found is not None:
            yield found.weight
        elif node.target == _ATEN.embedding.default and isinstance(node.args[0], Node):
            yield node.args[0]


def _owner(module: torch.nn.Module, names: Any, node: Node) -> int:
    """Which parameter a placeholder is: tied ones are the same."""
    name = names.get(node.name)
    return id(module.get_parameter(name)) if name else id(node)


def _table(text: str, nodes: list[Node], owner: dict[Node, int]) -> dict[str, Any]:
    tables = [node for node in nodes if node.target == _ATEN.embedding.default]
    attention = [number for number, node in enumerate(nodes) if node.target == _ATTENTION]
    if not tables or not attention:
        raise NotModelled(
            f"{text}: no {'embedding' if not tables else 'attention'} in the module",
            allowed="nn.Embedding, and torch.nn.functional.scaled_dot_product_attention",
            fix="describe the model in a TOML like those of data/models",
        )
    largest = max(tables, key=lambda node: _shape(node.args[0])[0])
    vocab, hidden = _shape(largest.args[0])
    others = [_shape(node.args[0])[0] for node in tables if node is not largest]
    matmuls = [found for node in nodes if (found := _matmul(node)) is not None]
    last = matmuls[-1]
    if last.outputs != vocab:
        raise NotModelled(f"{text}: no logits of {vocab:,} entries at the end of the module")
    ends = [*attention[1:], len(nodes)]
    place = {node: number for number, node in enumerate(nodes)}
    layers = [
        _layer(
            text,
            nodes[start],
            [m for m in matmuls[:-1] if start < place[m.node] < end],
            hidden,
        )
        for start, end in zip(attention, ends, strict=True)
    ]
    if len(set(layers)) > 1:
        first, second = list(dict.fromkeys(layers))[:2]
        raise NotModelled(f"{text}: layers differ: {first} and {second}")
    one = layers[0]
    return {
        "layers": len(layers),
        "hidden": hidden,
        "heads": one.heads,
        "kv_heads": one.kv_heads,
        "head_dim": one.head_dim,
        "ffn": one.ffn,
        "vocab": vocab,
        "gated": one.gated,
        "bias": one.bias,
        "causal": one.causal,
        "max_positions": max(others, default=0),
        "tied_embeddings": owner[last.weight] == owner[largest.args[0]],  # type: ignore[index]
    }


def _layer(text: str, node: Node, after: list[_Matmul], hidden: int) -> _Layer:
    """One layer: its attention, and the matmuls until the next one's."""
    query, key, value = (node.args[number] for number in range(3))
    _, heads, _, head_dim = _shape(query)
    sources = [_nearest_matmul(operand) for operand in (query, key)]
    kv_heads = _shape(key)[1]
    if all(sources):
        width = sources[1].outputs  # type: ignore[union-attr]
        if sources[0].node is sources[1].node:  # type: ignore[union-attr]
            width = (width - heads * head_dim) // 2
        kv_heads = max(1, width // head_dim)
    down = next((m for m in after[1:] if m.outputs == hidden and m.inputs != hidden), None)
    if down is None or _shape(value)[-1] != head_dim:
        raise NotModelled(
            f"{text}: no MLP with one hidden layer after an attention of {heads} heads",
            allowed="attention with equal heads for keys and values, then a plain or gated MLP",
        )
    ups = [m for m in after[1 : after.index(down)] if m.inputs == hidden]
    gated = len(ups) == 2 or (len(ups) == 1 and ups[0].outputs == 2 * down.inputs)
    mask = node.args[3] if len(node.args) > 3 else node.kwargs.get("attn_mask")
    causal = node.args[5] if len(node.args) > 5 else node.kwargs.get("is_causal", False)
    return _Layer(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=down.inputs,
        gated=gated,
        causal=bool(causal) or mask is not None,
        bias=down.biased,
    )


def _nearest_matmul(start: Any) -> _Matmul | None:
    """The projection that an operand of attention comes from, through views and rotations."""
    waiting, seen = [start], set()
    while waiting:
        node = waiting.pop(0)
        if not isinstance(node, Node) or node in seen:
            continue
        seen.add(node)
        found = _matmul(node)
        if found is not None:
            return found
        waiting.extend(node.all_input_nodes)
    return None


def _checked(text: str, table: dict[str, Any], parameters: int) -> dict[str, Any]:
    """The table, if its sizes account for the module's parameters."""
    table["layer_norm"] = table.pop("norms_are_layer_norms")
    hidden, biased = table["hidden"], table["bias"]
    width = (2 * table["heads"] + 2 * table["kv_heads"]) * table["head_dim"]
    matrices = 3 if table["gated"] else 2
    norms = hidden * (2 if table["layer_norm"] else 1)
    layer = hidden * width + matrices * hidden * table["ffn"] + 2 * norms
    if biased:
        layer += width + matrices * table["ffn"]
    tables = (1 if table["tied_embeddings"] else 2) * table["vocab"] + table["max_positions"]
    found = table["layers"] * layer + tables * hidden + norms
    if abs(found - parameters) > _SLACK * parameters:
        raise NotModelled(
            f"{text}: the module has {parameters:,} parameters, and {found:,} of them are "
            f"recognised: {table}",
            fix="describe the model in a TOML like those of data/models",
        )
    return table
