"""Knows which layouts are possible: the degrees divide what they must, and memory suffices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rainshadow.cluster.assumptions import assumed
from rainshadow.cluster.layout import PRECISIONS, Layout, Workload
from rainshadow.cluster.memory import MemoryUse, micro_batches
from rainshadow.cluster.model import TransformerModel
from rainshadow.machine import System


def rules(
    model: TransformerModel, system: System, layout: Layout, workload: Workload
) -> list[tuple[str, Any]]:
    """(what must hold, where it holds) for every rule; the second may be an array."""
    tensor = np.asarray(layout.tensor_parallel)
    pipe, virtual = np.asarray(layout.pipeline_parallel), np.asarray(layout.virtual_stages)
    data, con = np.asarray(layout.data_parallel), np.asarray(layout.context_parallel)
    expert = np.asarray(layout.expert_parallel)
    per_step = data * np.asarray(layout.micro_batch)
    count = micro_batches(layout, workload)
    layers = model.layers + model.prediction_layers
    experts = model.moe.experts if model.moe is not None else 1
    inside = tensor * con * data
    return [
        (
            f"tensor x context x pipeline x data is the system's {system.num_chips} chips",
            layout.num_chips == system.num_chips,
        ),
        (f"tensor_parallel divides {model.heads} heads", model.heads % tensor == 0),
        (
            f"pipeline_parallel x virtual_stages is at most {layers} layers",
            pipe * virtual <= layers,
        ),
        ("virtual stages need a pipeline", (virtual == 1) | (pipe > 1)),
        (
            "interleaving needs micro-batches in multiples of the pipeline",
            (virtual == 1) | (np.mod(count, pipe) == 0),
        ),
        (
            f"data_parallel x micro_batch divides the global batch of {workload.global_batch}",
            workload.global_batch % np.maximum(per_step, 1) == 0,
        ),
        (
            f"twice context_parallel divides the sequence of {workload.sequence}",
            (con == 1) | (workload.sequence % (2 * con) == 0),
        ),
        (f"expert_parallel divides {experts} experts", experts % np.maximum(expert, 1) == 0),
        (
            "expert_parallel divides tensor x context x data",
            np.mod(inside, np.maximum(expert, 1)) == 0,
        ),
        ("ZeRO-3 and pipelines are not combined", (np.asarray(layout.zero) < 3) | (pipe == 1)),
    ]


def possible(
    model: TransformerModel, system: System, layout: Layout, workload: Workload
) -> NDArray[np.bool_]:
    """Where every rule holds."""
    mask = np.ones(np.broadcast(*layout.columns().values()).shape, dtype=bool)
    for _, holds in rules(model, system, layout, workload):
        mask = mask & holds
    return mask


def broken_rules(
    model: TransformerModel, system: System, layout: Layout, workload: Workload
) -> list[str]:
    """What a single layout breaks, in words."""
    return [what for what, holds in rules(model, system, layout, workload) if not np.all(holds)]


def usable_bytes(system: System) -> float:
    """What a plan may fill of a chip's memory."""
    return system.chip.hbm.capacity.value * (1 - assumed("free_memory"))


def fits(memory: MemoryUse, system: System) -> Any:
    """Where the fullest device holds everything, with what fragmentation takes left free."""
    return np.asarray(memory.total) <= usable_bytes(system)


def precision_known(system: System, layout: Layout) -> Any:
    """Where the chip has a peak for the layout's precision."""
    peaks = system.chip.peak_flops
    known = np.array(
        [
            bool({"tfloat32", "float32"} & peaks.keys()),
            "bfloat16" in peaks,
            bool({"float8_e4m3fn", "float8_e4m3", "int8"} & peaks.keys()),
            bool({"float8_e4m3fn", "float8_e4m3"} & peaks.keys()),
            "float4_e2m1fn_x4" in peaks,
        ]
    )
    assert len(known) == len(PRECISIONS)
    return known[np.asarray(layout.precision)]
