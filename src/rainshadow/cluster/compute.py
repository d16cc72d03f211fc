"""Knows what a chip computes in one micro-batch: FLOPs and bytes per device, forward, per stage.

Counting only; how fast a chip works is `cluster.rates`. Every quantity may be an array over
layouts. Model of a pass: matmuls at the rate their precision and shape allow, attention at its own
rate, everything elementwise at memory speed, and a fixed time per layer for starting kernels;
these add up, because they follow one another on the chip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.cluster.layout import PRECISIONS, Layout, Workload
from rainshadow.cluster.model import TransformerModel
from rainshadow.cluster.software import Software

_BF16, _FP32 = 2, 4
_FLOAT32 = PRECISIONS.index("float32")
_FLOAT8 = PRECISIONS.index("float8")
#: Values of hidden size that pass through memory per token and layer between matmuls, forward,
#: fused kernels: two norms, each with its residual addition (two reads, two writes).
_RESIDUAL_VALUES = 8
#: With several residual streams: each half of a layer reads all and writes their mixture, then
#: reads all and its own result, and writes all (arXiv 2512.24880).
_STREAM_VALUES, _MIXTURE_VALUES = 6, 4
#: Of a state space's channels: convolution and scan, each read and written; the gate, its product.
_STATE_VALUES = 7
#: The same for the MLP's inner width: the gate and its product; and for queries and keys: rotary.
_GATED_VALUES, _PLAIN_VALUES, _ROTARY_VALUES = 3, 2, 2
#: Bytes per score of attention that is not fused: scores, mask, softmax, dropout in 16 bits.
_UNFUSED_SCORE_BYTES = 12
#: Bytes per matmul input below 16 bits: largest value, cast, and its transpose for the backward.
_QUANTIZE_BYTES = 6
#: Bytes per logit: fp32 softmax and loss, two reads and one write.
_LOGIT_BYTES = 12
#: Head width from which attention runs at its rate, and the width of a matmul's output tile.
_FULL_HEAD, _TILE = 128, 256
#: Values of hidden size moved per routed copy of a token: permute, expert in and out, unpermute.
_ROUTED_VALUES = 6


@dataclass(frozen=True, slots=True)
class StageWork:
    """Forward work of one device for one micro-batch, all layers of its stage.

    linear_flops, expert_flops: matmuls that may run at low precision. attention_flops,
    picked_flops (attention that picks its keys), state_flops, logits_flops: that may not.
    vector_bytes: elementwise traffic. matmul_bytes: weights and activations the matmuls read and
    write. layers: layers of the fullest stage. logits_*: of the last stage. rows: tokens of the
    device, the matmuls' long side; narrow: their short side. local_experts: experts a device
    starts kernels for.
    """

    linear_flops: Any
    expert_flops: Any
    attention_flops: Any
    picked_flops: Any
    state_flops: Any
    vector_bytes: Any
    expert_vector_bytes: Any
    matmul_bytes: Any
    expert_matmul_bytes: Any
    logits_flops: Any
    logits_bytes: Any
    layers: Any
    last_layers: Any
    rows: Any
    expert_rows: Any
    expert_narrow: Any
    local_experts: Any
    narrow: Any
    fused_attention: Any
    selective_matmuls: Any


def stage_layers(model: TransformerModel, layout: Layout) -> tuple[Any, Any]:
    """(layers of the fullest stage, layers of the last stage).

    Layers go to pipeline x virtual chunks; where they do not divide, the last chunk is short and
    leaves room for the logits, as NeMo lays out Llama 405B's 126 layers.
    """
    total = model.layers + model.prediction_layers
    chunks = layout.pipeline_parallel * np.asarray(layout.virtual_stages)
    full = np.ceil(total / chunks) * layout.virtual_stages
    last = np.maximum(total - full * (np.asarray(layout.pipeline_parallel) - 1), 0)
    return full, np.minimum(full, last)


def stage_work(
    model: TransformerModel, layout: Layout, workload: Workload, software: Software
) -> StageWork:
    """The forward pass of one micro-batch on one device of the fullest stage."""
    tensor = np.asarray(layout.tensor_parallel, dtype=np.float64)
    rows = np.asarray(layout.micro_batch) * workload.sequence / np.asarray(layout.context_parallel)
    spread = np.where(layout.sequence_parallel, tensor, 1.0)
    full, last = stage_layers(model, layout)
    total = model.layers + model.prediction_layers
    moe_share = (model.moe_layers + (model.prediction_layers if model.moe else 0)) / total
    dense_share = 1 - moe_share
    attention = 2 * sum(share * i * o for i, o, split, share in model.mixer_matrices if split)
    unsplit = 2 * sum(share * i * o for i, o, split, share in model.mixer_matrices if not split)
    matrices = 3 if model.gated else 2
    shared = model.moe.shared_ffn if model.moe else 0
    inner = dense_share * model.ffn + moe_share * shared
    mlp = 2 * (matrices * model.hidden * inner + moe_share * model.latent_parameters)
    linear = rows * ((attention + mlp) / tensor + unsplit / spread)
    layer_vector = _vector_bytes(model, inner)
    vector = rows * (layer_vector[0] / spread + layer_vector[1] / tensor)
    low = np.asarray(layout.precision) >= _FLOAT8
    width = np.where(np.equal(layout.precision, _FLOAT32), _FP32 / _BF16, 1.0)
    operands = 2 * model.hidden / spread + (model.mixed_width + inner) / tensor
    vector = vector + np.where(low, rows * operands * _QUANTIZE_BYTES, 0.0)
    scores = model.attention_flops(workload.sequence)
    if not software.fused_attention:
        scores *= 2 if model.causal else 1
        keys = workload.sequence * rows * model.heads / tensor
        vector = vector + keys * _UNFUSED_SCORE_BYTES
    plain, picked = _scores_by_kernel(model, scores)
    if workload.lora_rank:
        vector = vector + rows * _adapter_values(model) * _BF16 / spread
    experts = _expert_work(model, layout, rows, tensor, moe_share, software)
    weights = (attention + mlp) / 2 * _BF16 / tensor
    widths = sum(share * (i + o) for i, o, _, share in model.mixer_matrices)
    widths += matrices * (model.hidden + inner)
    return StageWork(
        linear_flops=full * linear,
        expert_flops=full * experts[0],
        attention_flops=full * rows * plain / tensor,
        picked_flops=full * rows * picked / tensor,
        state_flops=full * rows * model.state_flops / tensor,
        vector_bytes=full * vector * software.vector_traffic * width,
        expert_vector_bytes=full * experts[1] * width,
        matmul_bytes=full * (weights + rows * widths * _BF16 / tensor) * width,
        expert_matmul_bytes=full * experts[2] * width,
        logits_flops=rows * model.outputs * model.logits_flops / tensor,
        logits_bytes=rows * model.outputs * model.vocab * _LOGIT_BYTES / tensor,
        layers=full,
        last_layers=last,
        rows=rows,
        expert_rows=experts[3],
        expert_narrow=_whole_tiles(
            min(model.expert_width, model.moe.expert_ffn) if model.moe else model.hidden
        ),
        local_experts=local_experts(model.moe.experts, layout) if model.moe else 0.0,
        narrow=_whole_tiles(np.minimum(model.hidden, (model.ffn or model.hidden)) / tensor),
        fused_attention=software.fused_attention,
        selective_matmuls=software.selective_matmuls,
    )


def _scores_by_kernel(model: TransformerModel, flops: float) -> tuple[float, float]:
    """(flops of kernels that see every key, of those that pick their keys)."""
    if model.compressed is not None:
        return 0.0, flops
    return flops / _head_fraction(model.head_dim), 0.0


def _adapter_values(model: TransformerModel) -> int:
    """Values per token and layer that LoRA's adapters of the projections read and add to."""
    return round(sum(share * (i + 2 * o) for i, o, _, share in model.mixer_matrices))


def _head_fraction(head_dim: int) -> float:
    """Attention's rate over that with heads of 128: narrow ones leave matmul units half empty.

    FlashAttention-3 (arXiv 2407.08608, figures 5 and 6) reaches about two thirds at 64.
    """
    return min(1.0, 2 * head_dim / (head_dim + _FULL_HEAD))


def _whole_tiles(width: Any) -> Any:
    """The width that counts: kernels work in tiles, and an unfilled last one is lost."""
    tiles = np.ceil(np.asarray(width) / _TILE)
    return np.where(np.asarray(width) > _TILE, width**2 / (tiles * _TILE), width)


def _vector_bytes(model: TransformerModel, inner: float) -> tuple[float, float]:
    """Elementwise bytes per token and layer: (outside tensor-parallel regions, inside)."""
    streams = _STREAM_VALUES * model.streams + _MIXTURE_VALUES
    outside = (_RESIDUAL_VALUES if model.streams == 1 else streams) * model.hidden * _BF16
    gate = _GATED_VALUES if model.gated else _PLAIN_VALUES
    rotary = 0 if model.max_positions else _ROTARY_VALUES
    mixed = rotary * model.query_width * model.attention_layers / model.layers
    if model.ssm is not None:
        mixed += _STATE_VALUES * model.ssm.inner * model.ssm.layers / model.layers
    return outside, (gate * inner + mixed) * _BF16


def _expert_work(
    model: TransformerModel,
    layout: Layout,
    rows: Any,
    tensor: Any,
    moe_share: float,
    software: Software,
) -> tuple[Any, Any, Any, Any]:
    """(FLOPs, elementwise bytes, matmul bytes, rows per expert) of a layer's routed experts."""
    moe = model.moe
    if moe is None:
        return 0.0, 0.0, 0.0, np.asarray(rows)
    matrices = 3 if model.gated else 2
    routed = rows / tensor * moe.top_k
    width = model.expert_width
    flops = routed * 2 * matrices * width * moe.expert_ffn
    flops = flops + rows / tensor * 2 * model.hidden * moe.experts
    inner = _GATED_VALUES * moe.expert_ffn if model.gated else _PLAIN_VALUES * moe.expert_ffn
    values = _ROUTED_VALUES * width + inner
    if model.bias:
        # Grouped matmuls cannot add a bias on their way out: every output is read and written.
        values += 2 * (width + (matrices - 1) * moe.expert_ffn)
    vector = routed * values * _BF16
    low = np.asarray(layout.precision) >= _FLOAT8
    operands = _QUANTIZE_BYTES * (width + moe.expert_ffn) * software.expert_casts
    vector = vector + np.where(low, routed * operands, 0.0)
    local = local_experts(moe.experts, layout)
    traffic = local * model.expert_parameters * _BF16
    traffic = traffic + routed * matrices * (width + moe.expert_ffn) * _BF16
    return moe_share * flops, moe_share * vector, moe_share * traffic, routed / local


def local_experts(experts: int, layout: Layout) -> Any:
    """Whole experts' worth of weights on a device; without expert parallelism TP splits them."""
    expert = np.asarray(layout.expert_parallel, dtype=np.float64)
    return experts / np.where(expert > 1, expert, layout.tensor_parallel)
