"""Knows what a device keeps in memory while it trains: exact sums over weights and activations.

bf16 weights and gradients, fp32 master weights and two Adam moments (mixed-precision AdamW: 16 or
18 bytes a parameter); activations after Korthikanti et al. 2022 with fused attention, gated MLPs,
experts and pipelines. Left out: fragmentation, except for the reserve; buffers of collectives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.cluster.assumptions import assumed
from rainshadow.cluster.compute import local_experts, stage_layers
from rainshadow.cluster.layout import PRECISIONS, Layout, Workload
from rainshadow.cluster.model import TransformerModel
from rainshadow.cluster.parallelism import offload as offloading
from rainshadow.cluster.parallelism import pipeline, recompute, zero
from rainshadow.cluster.software import Software

_BF16, _FP32 = 2, 4
#: Adam: master weight and two moments.
_STATE_BYTES = 12
_FLOAT32 = PRECISIONS.index("float32")
_FP8 = PRECISIONS.index("float8")
#: A matmul's input as it is kept, with its scales, by index of PRECISIONS: MX has one byte for 32
#: values, NVFP4 one for 16.
_OPERAND_BYTES = np.array([4.0, 2.0, 1.0, 1 + 1 / 32, 1 / 2 + 1 / 16])
#: Dropout's mask, after attention and after the MLP, in the stacks before fused attention.
_MASK_BYTES = 1


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes of the fullest device."""

    weights: Any
    gradients: Any
    optimizer: Any
    activations: Any
    logits: Any
    gathered: Any
    reserved: Any
    state_crossing: Any

    @property
    def total(self) -> Any:
        return (
            self.weights
            + self.gradients
            + self.optimizer
            + self.activations
            + self.logits
            + self.gathered
            + self.reserved
        )


@dataclass(frozen=True, slots=True)
class DeviceParameters:
    """Parameters of the fullest device before ZeRO. layer: its largest layer."""

    dense: Any
    expert: Any
    layer: Any

    @property
    def total(self) -> Any:
        return self.dense + self.expert


def device_parameters(model: TransformerModel, layout: Layout) -> DeviceParameters:
    """Weights of the first stage: its layers and the embedding, split by tensor parallelism."""
    tensor = np.asarray(layout.tensor_parallel, dtype=np.float64)
    layers, _ = stage_layers(model, layout)
    count = model.layers + model.prediction_layers
    moe_share = (count - model.dense_layers) / count if model.moe else 0.0
    dense = (1 - moe_share) * model.dense_layer_parameters
    dense = (dense + moe_share * model.moe_shared_parameters) / tensor
    experts = local_experts(model.moe.experts, layout) if model.moe else 0.0
    expert = moe_share * experts * model.expert_parameters
    single = np.asarray(layout.pipeline_parallel) == 1
    one_table = model.hidden * model.vocab
    embedding = np.where(single, model.embedding_parameters, one_table) / tensor
    return DeviceParameters(
        dense=layers * dense + embedding + model.encoder_parameters / tensor,
        expert=layers * expert + 0 * tensor,
        layer=dense + expert,
    )


def memory_use(
    model: TransformerModel, layout: Layout, workload: Workload, software: Software
) -> MemoryUse:
    """Every part of a device's memory."""
    held = device_parameters(model, layout)
    stage = np.asarray(layout.zero)
    replicas = np.asarray(layout.data_parallel) * layout.context_parallel
    shard = zero.shard_ranks(replicas, layout.shard_size)
    expert_shard = np.maximum(1, shard * layout.tensor_parallel / layout.expert_parallel)
    expert_shard = np.where(np.asarray(layout.expert_parallel) > 1, expert_shard, shard)

    def shared(from_stage: int) -> Any:
        """Parameters left on a device when ZeRO shares them from `from_stage` on."""
        split = held.dense / shard + held.expert / expert_shard
        return np.where(stage >= from_stage, split, held.total)

    trained = 0.01 if workload.lora_rank else 1.0
    fp32 = np.equal(layout.precision, _FLOAT32)
    per_weight = weight_bytes(layout, workload)
    state = trained * shared(1) * np.where(fp32, 2 * _FP32, _STATE_BYTES)
    on_chip, kept = offloading.on_chip_fractions(layout.offload)
    activations, logits = _activations(model, layout, workload, software)
    gathered = np.where(stage >= 3, 2 * held.layer * per_weight, 0.0)
    gradient_bytes = np.where(fp32, _FP32, _BF16 if software.bf16_gradients else _FP32)
    return MemoryUse(
        weights=shared(3) * per_weight,
        gradients=trained * shared(2) * gradient_bytes,
        optimizer=state * on_chip,
        activations=activations * kept,
        logits=logits,
        gathered=gathered,
        reserved=assumed("reserved_memory"),
        state_crossing=state,
    )


def weight_bytes(layout: Layout, workload: Workload) -> Any:
    """Bytes of a weight as the matmuls' stack keeps it: LoRA's frozen ones in the low precision."""
    fp32 = np.equal(layout.precision, _FLOAT32)
    frozen_fp8 = bool(workload.lora_rank) & (np.asarray(layout.precision) >= _FP8)
    return np.where(fp32, _FP32, np.where(frozen_fp8, 1, _BF16))


def _activations(
    model: TransformerModel, layout: Layout, workload: Workload, software: Software
) -> tuple[Any, Any]:
    """(layers' activations, logits) of the first and of the last stage: the larger each."""
    tensor = np.asarray(layout.tensor_parallel, dtype=np.float64)
    spread = np.where(layout.sequence_parallel, tensor, 1.0)
    rows = np.asarray(layout.micro_batch) * workload.sequence / np.asarray(layout.context_parallel)
    layers, _ = stage_layers(model, layout)
    # Matmul inputs are kept in the matmuls' precision, the rest in 16 bits, or all in 32.
    operand = _OPERAND_BYTES[np.asarray(layout.precision)]
    value = np.where(np.equal(layout.precision, _FLOAT32), _FP32, _BF16)
    norms = 2 * model.hidden
    outside = norms * model.streams * value + norms * operand
    if not software.fused_attention:
        outside = outside + 2 * model.hidden * _MASK_BYTES
    moe = model.moe
    moe_share = model.moe_layers / model.layers
    inner = (1 - moe_share) * model.ffn
    routed = 0.0
    if moe is not None:
        inner += moe_share * moe.shared_ffn
        made = (2 if model.gated else 1) * moe.expert_ffn * value
        routed = (
            moe_share * moe.top_k * (made + (moe.expert_ffn + 2 * model.expert_width) * operand)
        )
    inside = (model.mixer_width + (2 if model.gated else 1) * inner) * value + inner * operand
    scores = 0.0 if software.fused_attention else 5.0 * model.heads * workload.sequence
    cheap = rows * scores / tensor
    if software.fused_attention:
        cheap = rows * (norms * operand / spread + inner * operand / tensor)
    everything = rows * (outside / spread + (inside + routed + scores) / tensor)
    layer = recompute.activation_bytes(
        layout.recompute, everything, cheap, rows * model.streams * model.hidden * value / spread
    )
    flying = pipeline.in_flight(
        layout.pipeline_parallel,
        layout.virtual_stages,
        micro_batches(layout, workload),
        layout.schedule,
    )
    # While a recomputed layer runs again, all of its activations are there once.
    again = np.where(np.asarray(layout.recompute) > 0, everything, 0.0)
    logits = rows * model.vocab / tensor * (_FP32 + value)
    last = np.asarray(layout.pipeline_parallel) == 1
    return layers * layer * flying + again, np.where(last, logits, 0.0)


def micro_batches(layout: Layout, workload: Workload) -> Any:
    """Micro-batches of a pipeline in a step."""
    each = np.asarray(layout.data_parallel, dtype=np.float64) * layout.micro_batch
    return np.maximum(workload.global_batch / each, 1.0)
