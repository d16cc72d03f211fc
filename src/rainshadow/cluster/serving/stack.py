"""Knows what serving software reaches of a chip: constants fitted on published measurements.

One file of data/serving per stack, written by tools/fit_serving.py. A chip that no
stack names is given the middle and the whole spread of all stacks, graded assumed.
"""

from __future__ import annotations

import dataclasses
import statistics
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from rainshadow.errors import MachineDataError
from rainshadow.machine import Chip, load_sources
from rainshadow.machine.chip import quantity
from rainshadow.machine.read import Reader
from rainshadow.sources import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingStack:
    """One serving software on some chips.

    hbm_fraction, kv_fraction: of the HBM rate, reading weights and KV cache.  matmul_fraction: of
    the dense peak; expert_fraction: of that again, for routed experts.  attention_fraction: of
    the bf16 peak, in prefill.  link_fraction: of a chip's scale-up bandwidth, in all-reduce and
    all-to-all.  layer_latency, step_latency: fixed time of a decode step per layer and per step;
    prefill_layer_latency: of a prompt's pass; sequence_latency: per layer and sequence, for a
    hidden size of 8,192.  memory_fraction: of HBM, for weights and cache.  max_sequences: in
    one batch.  expert_block: tokens of one expert that a prompt's matmuls take at once, and then
    decode computes every expert for every token once all are needed; 1: no more than is sent.
    buckets: cache lengths that attention reads.  kv_heads: kept once, or copied until every core
    has one.
    """

    name: str
    title: str
    software: str
    chips: tuple[str, ...]
    buckets: Literal["exact", "power_of_two"]
    kv_heads: Literal["once", "copied"]
    hbm_fraction: Figure = quantity("count")
    kv_fraction: Figure = quantity("count")
    matmul_fraction: Figure = quantity("count")
    expert_fraction: Figure = quantity("count")
    attention_fraction: Figure = quantity("count")
    link_fraction: Figure = quantity("count")
    layer_latency: Figure = quantity("s")
    step_latency: Figure = quantity("s")
    prefill_layer_latency: Figure = quantity("s")
    sequence_latency: Figure = quantity("s")
    memory_fraction: Figure = quantity("count")
    max_sequences: Figure = quantity("count")
    expert_block: Figure = quantity("count")


@cache
def serving_stacks() -> tuple[ServingStack, ...]:
    """Every stack of data/serving.

    Errors: `MachineDataError` with every fault of a file.
    """
    folder = resources.files("rainshadow") / "data" / "serving"
    found = []
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if not entry.name.endswith(".toml"):
            continue
        reader = Reader(f"serving/{entry.name}", load_sources(), {})
        raw = tomllib.loads(entry.read_text("utf-8"))
        stack = reader.build(ServingStack, {"name": entry.name.removesuffix(".toml"), **raw})
        if reader.faults:
            raise MachineDataError(reader.faults)
        found.append(stack)
    return tuple(found)


def stack_for(chip: Chip) -> ServingStack:
    """The stack fitted on this chip, or the transfer of all of them."""
    for stack in serving_stacks():
        if chip.name in stack.chips:
            return stack
    return _transferred()


@cache
def _transferred() -> ServingStack:
    """Middle and spread of all stacks, for chips without a published serving measurement."""
    stacks = serving_stacks()
    values: dict[str, Figure] = {}
    for field in dataclasses.fields(ServingStack):
        if "dimension" not in field.metadata:
            continue
        figures = [getattr(stack, field.name) for stack in stacks]
        middle = statistics.median(figure.value for figure in figures)
        values[field.name] = Figure(
            value=middle,
            text=f"{middle:.4g}",
            dimension=field.metadata["dimension"],
            source="rainshadow",
            grade="assumed",
            low=min(figure.low for figure in figures),
            high=max(figure.high for figure in figures),
            note="no serving measurement of this chip: middle and spread of the fitted stacks",
        )
    return ServingStack(
        name="transferred", title="Middle of all fitted stacks", software="any", chips=(),
        buckets="exact", kv_heads="once", **values,
    )  # fmt: skip
