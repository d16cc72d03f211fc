"""A device mesh in the style of NxD for a training plan: axes, their sizes, and ranks per axis.

NeuronX Distributed numbers ranks tensor first, then data, pipeline last; its degrees count logical
NeuronCores, so each chip's cores are added to the tensor axis.
Source of the order: aws-neuron/neuronx-distributed, parallel_layers/parallel_state.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rainshadow.cluster.model import TransformerModel
from rainshadow.errors import NotModelled
from rainshadow.machine import load_system

KIND = "training"
FILE = "nxd_mesh.json"


def export(plan: Mapping[str, Any], model: TransformerModel) -> str:
    """JSON.

    Errors: `NotModelled` for a system without NeuronCores.
    """
    core = load_system(plan["system"]).chip.core
    if core is None:
        raise NotModelled(
            f"{plan['system']} has no NeuronCores", fix="export plans for Trainium to NxD"
        )
    layout, work = plan["layout"], plan["workload"]
    cores = int(core.count.value)
    tensor = layout["tensor_parallel"] * cores
    axes = {
        "tensor": tensor,
        "context": layout["context_parallel"],
        "data": layout["data_parallel"],
        "pipeline": layout["pipeline_parallel"],
    }
    stride, mesh = 1, []
    for name, size in axes.items():
        mesh.append({"axis": name, "size": size, "stride": stride})
        stride *= size
    config = {
        "world_size": stride,
        "cores_per_chip": cores,
        "mesh": mesh,
        "tensor_parallel_size": tensor,
        "pipeline_parallel_size": layout["pipeline_parallel"],
        "expert_parallel_size": layout["expert_parallel"],
        "context_parallel_size": layout["context_parallel"],
        "sequence_parallel": layout["sequence_parallel"],
        "kv_replicator": max(1, tensor // model.kv_heads),
        "zero1": layout["zero"] >= 1,
        "activation_checkpoint": layout["recompute"],
        "micro_batch_size": layout["micro_batch"],
        "global_batch_size": work["global_batch"],
        "sequence_length": work["sequence"],
    }
    return json.dumps(config, indent=2) + "\n"
