"""Megatron-Bridge's configuration overrides for a training plan, one a line.

Source of the names: NVIDIA-NeMo/Megatron-Bridge, ConfigContainer and its model provider (0.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rainshadow.cluster.model import TransformerModel
from rainshadow.errors import NotModelled

KIND = "training"
FILE = "megatron_bridge_overrides.txt"


def export(plan: Mapping[str, Any], model: TransformerModel) -> str:
    """key=value lines.

    Errors: `NotModelled` for choices that it cannot be told.
    """
    layout, work = plan["layout"], plan["workload"]
    if layout["schedule"] != "1f1b" or layout["offload"] != "none":
        raise NotModelled(
            f"Megatron-Bridge has no schedule {layout['schedule']} with offload "
            f"{layout['offload']}",
            fix="plan with --space mainstream",
        )
    virtual = layout["virtual_stages"]
    values: dict[str, Any] = {
        "model.tensor_model_parallel_size": layout["tensor_parallel"],
        "model.pipeline_model_parallel_size": layout["pipeline_parallel"],
        "model.virtual_pipeline_model_parallel_size": virtual if virtual > 1 else "null",
        "model.context_parallel_size": layout["context_parallel"],
        "model.expert_model_parallel_size": layout["expert_parallel"],
        "model.sequence_parallel": layout["sequence_parallel"] and layout["tensor_parallel"] > 1,
        "model.seq_length": work["sequence"],
        "train.global_batch_size": work["global_batch"],
        "train.micro_batch_size": layout["micro_batch"],
        "ddp.use_distributed_optimizer": layout["zero"] >= 1,
        "ddp.use_megatron_fsdp": layout["zero"] >= 2,
        "ddp.overlap_grad_reduce": layout["overlap_data"],
        # Without a distributed optimizer there are no parameters to gather, and Bridge refuses.
        "ddp.overlap_param_gather": layout["overlap_data"] and layout["zero"] >= 1,
        "comm_overlap.tp_comm_overlap": layout["overlap_tensor"],
    }
    if model.moe is not None:
        values["model.expert_tensor_parallel_size"] = 1
    if layout["zero"] >= 2:
        strategy = {2: "optim_grads", 3: "optim_grads_params"}[layout["zero"]]
        values |= {
            "ddp.data_parallel_sharding_strategy": strategy,
            "ddp.average_in_collective": False,
            "model.gradient_accumulation_fusion": False,
            "checkpoint.ckpt_format": "fsdp_dtensor",
        }
    if layout["recompute"] != "none":
        values["model.recompute_granularity"] = layout["recompute"]
    if layout["recompute"] == "full":
        values |= {"model.recompute_method": "uniform", "model.recompute_num_layers": 1}
    mixed = {"float8": "bf16_with_fp8_current_scaling_mixed", "mxfp8": "bf16_with_mxfp8_mixed"}
    mixed |= {"nvfp4": "bf16_with_nvfp4_mixed", "float32": "32"}
    values["mixed_precision"] = mixed.get(layout["precision"], "bf16_mixed")
    return "\n".join(f"{key}={_word(value)}" for key, value in values.items()) + "\n"


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
