"""The torch.compile backend "rainshadow": Dynamo and AOTAutograd capture, our graphs execute.

AOTAutograd gives a forward and a backward graph in functional ATen, decomposed by our own table.
Device tensors go in and come out as they are. How a graph runs is left to `execute`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import torch
from torch._dynamo import trace_rules
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.backends.registry import list_backends, register_backend
from torch.fx import GraphModule

from rainshadow.compiler.frontends.torch.decompositions import decomposition_table
from rainshadow.compiler.frontends.torch.execute import DeviceGraph
from rainshadow.compiler.session import Phase
from rainshadow.errors import InputError

BACKEND = "rainshadow"
#: AWS's name for its own backend; ours answers to it where AWS's is not installed.
ALIAS = "neuron"

_numbers = itertools.count()


def backend(module: GraphModule, example_inputs: list[Any], **_: Any) -> Callable[..., Any]:
    """What torch.compile(model, backend="rainshadow") calls for every captured graph."""
    symbolic = [str(value) for value in example_inputs if isinstance(value, torch.SymInt)]
    if symbolic:
        raise InputError(
            f"torch.compile was asked for a graph with variable sizes ({', '.join(symbolic)})",
            allowed="a kernel for Trainium has fixed shapes; each shape is compiled once",
            fix="remove dynamic=True and torch._dynamo.mark_dynamic",
        )
    number = next(_numbers)
    name = f"{root_name(module)}_{number}"
    from torch._functorch.partitioners import min_cut_rematerialization_partition

    compiler = aot_autograd(
        fw_compiler=_compiler(f"{name}_forward", "forward"),
        bw_compiler=_compiler(f"{name}_backward", "backward"),
        inference_compiler=_compiler(name, None),
        decompositions=decomposition_table(),
        partition_fn=min_cut_rematerialization_partition,
    )
    return compiler(module, example_inputs)


def _compiler(name: str, phase: Phase | None) -> Callable[..., Any]:
    def compile_graph(module: GraphModule, example_inputs: list[Any]) -> Callable[..., Any]:
        graph = DeviceGraph(module, name, phase)

        def run(inputs: list[Any]) -> list[Any]:
            arguments = list(inputs)
            inputs.clear()  # boxed call: let the caller's references go before the kernel runs
            return graph(*arguments)

        run._boxed_call = True  # type: ignore[attr-defined]
        return run

    return compile_graph


def root_name(module: GraphModule) -> str:
    """What was compiled, in snake case: the class whose forward it is, or the function's name."""
    from torch._dynamo.symbolic_convert import InstructionTranslator

    try:
        qualified = InstructionTranslator.current_tx().f_code.co_qualname
    except (AttributeError, RuntimeError):
        return "graph"
    parts = [part for part in qualified.split(".") if part not in ("<locals>", "forward")]
    name = parts[-1] if parts else "graph"
    return re.sub(r"\W", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).strip("_").lower()


def register() -> None:
    """Make the backend known to torch.compile under its names."""
    # Device kernels are Python, and between captured graphs Dynamo would compile their frames.
    # Not the whole package: Dynamo has to trace through the redirection of CUDA (porting).
    for layer in ("compiler", "nki", "sim", "isa"):
        trace_rules.add(f"rainshadow.{layer}")
    known = list_backends(exclude_tags=())
    for name in (BACKEND, ALIAS):
        if name not in known:
            register_backend(compiler_fn=backend, name=name)
    # A kernel's shapes are fixed when it is written, so every shape is a compilation of its own.
    # Left alone, Dynamo makes sizes and numbers symbolic at the second value it sees.
    torch._dynamo.config.automatic_dynamic_shapes = False
