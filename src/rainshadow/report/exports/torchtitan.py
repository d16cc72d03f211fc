"""torchtitan's TOML for a training plan.

Source of the names: pytorch/torchtitan, torchtitan/config/job_config.py (2025-10).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rainshadow.cluster.model import TransformerModel
from rainshadow.errors import NotModelled

KIND = "training"
FILE = "torchtitan.toml"
_SCHEDULES = {"1f1b": "1F1B", "gpipe": "GPipe", "zero_bubble": "ZBVZeroBubble"}


def export(plan: Mapping[str, Any], model: TransformerModel) -> str:
    """The tables that a plan decides; the rest of a job's file stays the user's.

    Errors: `NotModelled` for choices that torchtitan cannot be told.
    """
    layout, work = plan["layout"], plan["workload"]
    schedule = layout["schedule"]
    if schedule not in _SCHEDULES or layout["offload"] != "none":
        raise NotModelled(
            f"torchtitan has no schedule {schedule} with offload {layout['offload']}",
            fix="plan with --space mainstream",
        )
    if model.unusual_mixers:
        raise NotModelled(
            f"{model.title} has {model.unusual_mixers}, which torchtitan has no model for",
            fix="take megatron_bridge_overrides.txt",
        )
    name = _SCHEDULES[schedule]
    if schedule == "1f1b" and layout["virtual_stages"] > 1:
        name = "Interleaved1F1B"
    shard, replicate = _data_degrees(layout)
    pipe, virtual = layout["pipeline_parallel"], layout["virtual_stages"]
    local = work["global_batch"] // layout["data_parallel"]
    tables: dict[str, dict[str, Any]] = {
        "training": {
            "local_batch_size": local,
            "global_batch_size": work["global_batch"],
            "seq_len": work["sequence"],
        },
        "parallelism": {
            "data_parallel_replicate_degree": replicate,
            "data_parallel_shard_degree": shard,
            "fsdp_reshard_after_forward": "always" if layout["zero"] == 3 else "never",
            "tensor_parallel_degree": layout["tensor_parallel"],
            "enable_async_tensor_parallel": layout["overlap_tensor"]
            and layout["tensor_parallel"] > 1,
            "context_parallel_degree": layout["context_parallel"],
            "context_parallel_rotate_method": {"ring": "alltoall", "all_gather": "allgather"}[
                layout["context_method"]
            ],
            "expert_parallel_degree": layout["expert_parallel"],
            "pipeline_parallel_degree": pipe,
        },
        "activation_checkpoint": {"mode": layout["recompute"]},
    }
    if pipe > 1:
        layers = model.layers + model.prediction_layers
        tables["parallelism"] |= {
            "pipeline_parallel_schedule": name,
            "pipeline_parallel_microbatch_size": layout["micro_batch"],
            "pipeline_parallel_layers_per_stage": -(-layers // (pipe * virtual)),
        }
    else:
        tables["training"]["local_batch_size"] = layout["micro_batch"]
    return "\n".join(_table(name, values) for name, values in tables.items())


def _data_degrees(layout: Mapping[str, Any]) -> tuple[int, int]:
    """(shard, replicate) degrees; FSDP is torchtitan's only sharding."""
    data = layout["data_parallel"]
    if layout["zero"] == 0:
        return 1, data
    shard = layout["shard_size"] // layout["context_parallel"] or data
    return min(shard, data), max(1, data // shard)


def _table(name: str, values: Mapping[str, Any]) -> str:
    lines = [f"[{name}]"]
    for key, value in values.items():
        if isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, str):
            value = f'"{value}"'
        lines.append(f"{key} = {value}")
    return "\n".join(lines) + "\n"
