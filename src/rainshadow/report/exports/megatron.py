"""Megatron-LM's command-line arguments for a training plan.

Source of the names: NVIDIA/Megatron-LM, megatron/training/arguments.py (core 0.14); what
Megatron-FSDP needs besides: its user guide, docs/discussions/megatron-fsdp-user-guide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rainshadow.cluster.model import TransformerModel
from rainshadow.errors import NotModelled

KIND = "training"
FILE = "megatron_args.txt"
_FP8 = {"float8": "hybrid", "mxfp8": "e4m3"}


def export(plan: Mapping[str, Any], model: TransformerModel) -> str:
    """One argument a line.

    Errors: `NotModelled` for choices that Megatron-LM cannot be told.
    """
    layout, work = plan["layout"], plan["workload"]
    if layout["schedule"] != "1f1b" or layout["offload"] not in ("none", "optimizer"):
        raise NotModelled(
            f"Megatron-LM has no schedule {layout['schedule']} with offload {layout['offload']}",
            fix="plan with --space mainstream",
        )
    if model.unusual_mixers:
        raise NotModelled(
            f"{model.title} has {model.unusual_mixers}: its stack is not described by "
            "Megatron-LM's transformer arguments",
            fix="take megatron_bridge_overrides.txt with Megatron-Bridge's recipe of the model",
        )
    return "\n".join([*_model(model, work), *_parallel(layout), *_memory(layout, work), ""])


def _model(model: TransformerModel, work: Mapping[str, Any]) -> list[str]:
    words = [
        f"--num-layers {model.layers}",
        f"--hidden-size {model.hidden}",
        f"--ffn-hidden-size {model.ffn or model.hidden * 4}",
        f"--num-attention-heads {model.heads}",
        f"--seq-length {work['sequence']}",
        f"--max-position-embeddings {max(work['sequence'], model.max_positions)}",
        f"--global-batch-size {work['global_batch']}",
    ]
    if model.kv_heads != model.heads and model.mla is None:
        words += ["--group-query-attention", f"--num-query-groups {model.kv_heads}"]
    if model.mla is not None:
        words += [
            "--multi-latent-attention",
            f"--kv-lora-rank {model.mla.kv_rank}",
            f"--qk-head-dim {model.mla.nope_dim}",
            f"--qk-pos-emb-head-dim {model.mla.rope_dim}",
            f"--v-head-dim {model.mla.value_dim}",
        ]
        words += [f"--q-lora-rank {model.mla.q_rank}"] if model.mla.q_rank else []
    if model.gated:
        words.append("--swiglu")
    if not model.tied_embeddings:
        words.append("--untie-embeddings-and-output-weights")
    if not model.bias:
        words.append("--disable-bias-linear")
    words.append(f"--normalization {'LayerNorm' if model.layer_norm else 'RMSNorm'}")
    if model.moe is not None:
        words += [
            f"--num-experts {model.moe.experts}",
            f"--moe-router-topk {model.moe.top_k}",
            f"--moe-ffn-hidden-size {model.moe.expert_ffn}",
            "--moe-grouped-gemm",
        ]
        if model.moe.shared_ffn:
            words.append(f"--moe-shared-expert-intermediate-size {model.moe.shared_ffn}")
    return words


def _parallel(layout: Mapping[str, Any]) -> list[str]:
    words = [
        f"--tensor-model-parallel-size {layout['tensor_parallel']}",
        f"--pipeline-model-parallel-size {layout['pipeline_parallel']}",
    ]
    if layout["virtual_stages"] > 1:
        words.append(f"--num-virtual-stages-per-pipeline-rank {layout['virtual_stages']}")
    if layout["context_parallel"] > 1:
        method = {"ring": "p2p", "all_gather": "all_gather"}[layout["context_method"]]
        words += [
            f"--context-parallel-size {layout['context_parallel']}",
            f"--cp-comm-type {method}",
        ]
    if layout["expert_parallel"] > 1:
        words += [
            f"--expert-model-parallel-size {layout['expert_parallel']}",
            "--expert-tensor-parallel-size 1",
        ]
    if layout["sequence_parallel"] and layout["tensor_parallel"] > 1:
        words.append("--sequence-parallel")
    if layout["overlap_tensor"] and layout["tensor_parallel"] > 1:
        words.append("--tp-comm-overlap")
    if layout["pipeline_parallel"] > 1 and not layout["overlap_pipeline"]:
        words.append("--no-overlap-p2p-communication")
    return words


def _memory(layout: Mapping[str, Any], work: Mapping[str, Any]) -> list[str]:
    words = [f"--micro-batch-size {layout['micro_batch']}"]
    zero, shard = layout["zero"], layout["shard_size"]
    if zero:
        words.append("--use-distributed-optimizer")
    if zero >= 2:
        strategy = {2: "optim_grads", 3: "optim_grads_params"}[zero]
        words += [
            "--use-megatron-fsdp",
            f"--data-parallel-sharding-strategy {strategy}",
            "--no-gradient-accumulation-fusion",
            "--ckpt-format fsdp_dtensor",
        ]
    replicas = layout["data_parallel"] * layout["context_parallel"]
    if zero and shard:
        words.append(f"--num-distributed-optimizer-instances {replicas // shard}")
    if layout["overlap_data"] and replicas > 1:
        words += ["--overlap-grad-reduce"]
        words += ["--overlap-param-gather"] if zero else []
    if layout["recompute"] == "full":
        words += [
            "--recompute-granularity full",
            "--recompute-method uniform",
            "--recompute-num-layers 1",
        ]
    elif layout["recompute"] == "selective":
        words.append("--recompute-granularity selective")
    if layout["offload"] == "optimizer":
        words.append("--optimizer-cpu-offload")
    if layout["precision"] != "float32":
        words.append("--bf16")
    if layout["precision"] in _FP8:
        words.append(f"--fp8-format {_FP8[layout['precision']]}")
        if layout["precision"] == "mxfp8":
            words.append("--fp8-recipe mxfp8")
    if layout["precision"] == "nvfp4":
        words += ["--fp4-format e2m1", "--fp4-recipe nvfp4"]
    return words
