"""One training step of a model under a layout on a system: seconds, where they go, memory.

`step_work` counts what a step does and how long its collectives last; `step_seconds` puts it
together with a chip's rates. Both work on tables of layouts. `predict_training` is both, with
checks, ranges and the ledger of figures.

t = m micro-batches x (forward + backward + recomputed), the pipeline's bubble, exposed collectives,
the optimizer, a fixed start; times 1 + jitter sqrt(2 ln n) for the slowest of n chips.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.cluster.assumptions import assumed
from rainshadow.cluster.compute import StageWork, stage_work
from rainshadow.cluster.layout import PRECISIONS, Layout, Workload
from rainshadow.cluster.memory import (
    DeviceParameters,
    MemoryUse,
    device_parameters,
    memory_use,
    micro_batches,
    weight_bytes,
)
from rainshadow.cluster.model import TransformerModel
from rainshadow.cluster.network import Links
from rainshadow.cluster.parallelism import (
    context,
    data,
    expert,
    offload,
    pipeline,
    recompute,
    tensor,
    zero,
)
from rainshadow.cluster.rates import Rates
from rainshadow.cluster.software import Software

_FLOAT8 = PRECISIONS.index("float8")
#: Bytes an optimizer step moves per parameter: master weight, two moments read and written,
#: gradient read, bf16 weight written.
_OPTIMIZER_BYTES = 30
#: Backward work over forward work: a matmul's two gradients; fused attention recomputes scores.
_BACKWARD_MATMULS, _BACKWARD_FUSED_ATTENTION, _BACKWARD_VECTOR = 2.0, 2.5, 2.0


@dataclass(frozen=True, slots=True)
class StepWork:
    """What a step does on one device, and how long each of its collectives lasts alone.

    tensor_s, expert_s, context_s: one forward pass of a micro-batch through the stage.
    transfer_s: one hand-over between stages.  scatter_s, gather_s: gradients and weights, once a
    step, or once a micro-batch each way under ZeRO-3.  host_s: offloading.
    """

    stage: StageWork
    tensor_s: Any
    expert_s: Any
    context_s: Any
    transfer_s: Any
    scatter_s: Any
    gather_s: Any
    optimizer_bytes: Any
    micro_batches: Any
    bubble: Any
    memory: MemoryUse


def step_work(
    model: TransformerModel,
    links: Links,
    layout: Layout,
    workload: Workload,
    software: Software,
) -> StepWork:
    """Counts a step. links: of the whole system, at achieved rates."""
    stage = stage_work(model, layout, workload, software)
    memory = memory_use(model, layout, workload, software)
    held = device_parameters(model, layout)
    moe = model.moe
    split_layers = stage.layers * (1 - 0.5 * (moe is not None) * model.moe_layers / model.layers)
    of_layers = tensor.layer_s(
        links, stage.rows, model.hidden, layout.tensor_parallel, layout.sequence_parallel
    )
    width = model.kv_values_per_token
    if model.mla is not None:
        width = model.query_width + model.value_width
    attention_share = model.attention_layers / model.layers
    context_s = (
        stage.layers
        * attention_share
        * context.layer_s(links, stage.rows, width, layout.context_parallel, layout.tensor_parallel)
    )
    inner = np.asarray(layout.tensor_parallel) * layout.context_parallel
    spread = layout.tensor_parallel
    transfer_s = pipeline.transfer_s(
        links,
        stage.rows,
        model.streams * model.hidden,
        spread,
        layout.pipeline_parallel,
        inner * layout.data_parallel,
    )
    scatter_s, gather_s = _data_collectives(links, layout, workload, held, software)
    return StepWork(
        stage=stage,
        tensor_s=split_layers * of_layers,
        expert_s=_expert_exchange_s(model, links, layout, workload, stage),
        context_s=context_s,
        transfer_s=transfer_s,
        scatter_s=scatter_s,
        gather_s=gather_s,
        optimizer_bytes=_optimizer_bytes(layout, workload, held),
        micro_batches=micro_batches(layout, workload),
        bubble=pipeline.bubble_micro_batches(
            layout.pipeline_parallel, layout.virtual_stages, layout.schedule
        ),
        memory=memory,
    )


def _expert_exchange_s(
    model: TransformerModel, links: Links, layout: Layout, workload: Workload, stage: StageWork
) -> Any:
    """Seconds that tokens travel to their experts and back, forward, all layers of the stage."""
    moe = model.moe
    if moe is None:
        return 0.0
    of_layer = expert.layer_s(
        links,
        stage.rows,
        model.expert_width,
        moe.top_k,
        layout.expert_parallel,
        layout.tensor_parallel,
    )
    layers = stage.layers * model.moe_layers / model.layers
    return layers * of_layer * workload.expert_imbalance


def _optimizer_bytes(layout: Layout, workload: Workload, held: DeviceParameters) -> Any:
    """Traffic of the optimizer on this device's shard."""
    replicas = np.asarray(layout.data_parallel) * layout.context_parallel
    ranks = np.where(np.asarray(layout.zero) > 0, zero.shard_ranks(replicas, layout.shard_size), 1)
    apart = np.asarray(layout.expert_parallel) > 1
    expert_ranks = np.maximum(1, ranks * layout.tensor_parallel / layout.expert_parallel)
    mine = held.dense / ranks + held.expert / np.where(apart, expert_ranks, ranks)
    return mine * _OPTIMIZER_BYTES * _trained_share(workload)


def _trained_share(workload: Workload) -> float:
    """Of the weights: frozen ones have no gradient."""
    return assumed("lora_weights") if workload.lora_rank else 1.0


def _data_collectives(
    links: Links, layout: Layout, workload: Workload, held: DeviceParameters, software: Software
) -> tuple[Any, Any]:
    """(gradient sum, weight gather) seconds, experts over their own replicas."""
    replicas = np.asarray(layout.data_parallel) * layout.context_parallel
    stride = np.asarray(layout.tensor_parallel)
    share = _trained_share(workload)
    size = 2 if software.bf16_gradients else 4
    parts = [(held.dense, replicas, stride)]
    if np.any(np.asarray(held.expert) > 0):
        apart = np.asarray(layout.expert_parallel)
        ranks = np.where(apart > 1, np.maximum(1, replicas * stride / apart), replicas)
        parts.append((held.expert, ranks, np.where(apart > 1, apart, stride)))
    scatter: Any = 0.0
    gather: Any = 0.0
    for parameters, degree, apart_by in parts:
        gradients = parameters * size * share
        summed = data.reduce_s(links, gradients, degree, apart_by)
        scattered = zero.scatter_s(links, gradients, degree, apart_by, layout.shard_size)
        weights = parameters * _gathered_bytes(layout, workload, software)
        gathered = zero.gather_s(links, weights, degree, apart_by, layout.shard_size)
        stage = np.asarray(layout.zero)
        scatter = scatter + np.where(stage > 0, scattered, summed)
        gather = gather + np.where(stage > 2, gathered, np.where(stage > 0, gathered * share, 0.0))
    return scatter, gather


def _gathered_bytes(layout: Layout, workload: Workload, software: Software) -> Any:
    """Bytes a weight travels as when shards are gathered."""
    cast = software.fp8_gather & (np.asarray(layout.precision) >= _FLOAT8)
    return np.where(cast, 1, weight_bytes(layout, workload))


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Seconds of a step by cause; they add up to `total`. hidden: collectives beside compute."""

    matmuls: Any
    experts: Any
    attention: Any
    elementwise: Any
    logits: Any
    overhead: Any
    tensor: Any
    expert: Any
    context: Any
    pipeline: Any
    bubble: Any
    data: Any
    optimizer: Any
    jitter: Any
    hidden: Any

    PARTS = (
        *("matmuls", "experts", "attention", "elementwise", "logits", "overhead", "tensor"),
        *("expert", "context", "pipeline", "bubble", "data", "optimizer", "jitter"),
    )

    @property
    def total(self) -> Any:
        return sum(getattr(self, part) for part in self.PARTS)

    def parts(self) -> dict[str, Any]:
        """Cause -> seconds, without `hidden`."""
        return {part: getattr(self, part) for part in self.PARTS}


@dataclass(frozen=True, slots=True)
class _Pass:
    """Seconds of one micro-batch on a stage: forward, backward, run again."""

    forward: Any
    backward: Any
    again: Any

    @property
    def total(self) -> Any:
        return self.forward + self.backward + self.again


def step_seconds(work: StepWork, rates: Rates, layout: Layout, workload: Workload) -> StepTimes:
    """A step's time by cause."""
    count = work.micro_batches
    passes = _compute_passes(work.stage, rates, layout, workload)
    compute = sum(part.total for part in passes.values())
    forward = sum(part.forward for part in passes.values())
    tensor_s, tensor_hidden = _shared_s(
        work.tensor_s * (2 + recompute.repeated_fraction(layout.recompute)[0]),
        layout.overlap_tensor,
        rates.hidden_tensor,
        compute,
    )
    expert_s, expert_hidden = _shared_s(
        work.expert_s * (2 + recompute.repeated_fraction(layout.recompute)[0]),
        layout.overlap_tensor,
        np.where(pipeline.hides_experts(layout.schedule), 1.0, rates.hidden_expert),
        compute,
    )
    context_s = 3 * context.exposed_s(
        work.context_s,
        passes["attention"].forward,
        layout.context_method,
        layout.context_parallel,
    )
    logits = _logits_s(work.stage, rates, layout)
    one = compute + tensor_s + expert_s + context_s + rates.tax * (tensor_hidden + expert_hidden)
    # A last stage with as many layers as the others is the slowest by its logits.
    spare = one * (work.stage.layers - work.stage.last_layers) / work.stage.layers
    logits = np.maximum(logits - spare, 0.0)
    busy = one + logits
    virtual = np.asarray(layout.virtual_stages)
    transfers = 2 * virtual * work.transfer_s
    hand_over = np.where(
        layout.overlap_pipeline, work.bubble * transfers / virtual, count * transfers
    )
    data_s, data_hidden = _data_s(work, rates, layout, busy, forward)
    optimizer = _optimizer_s(work, rates, layout, busy)
    bubble = work.bubble * busy
    steady = count * busy + bubble + hand_over + data_s + optimizer + rates.step_s
    slowest = rates.jitter * np.sqrt(2 * np.log(np.maximum(layout.num_chips, 1)))
    hidden = count * (tensor_hidden + expert_hidden)
    return StepTimes(
        **{name: count * part.total for name, part in passes.items()},
        logits=count * logits,
        tensor=count * (tensor_s + rates.tax * tensor_hidden),
        expert=count * (expert_s + rates.tax * expert_hidden),
        context=count * context_s,
        pipeline=hand_over,
        bubble=bubble,
        data=data_s,
        optimizer=optimizer + rates.step_s,
        jitter=steady * slowest,
        hidden=hidden + data_hidden,
    )


def _optimizer_s(work: StepWork, rates: Rates, layout: Layout, busy_s: Any) -> Any:
    """The optimizer's traffic, and what of the host's link compute does not hide."""
    crossing = offload.crossing_s(
        layout.offload,
        work.memory.state_crossing,
        work.memory.activations * work.micro_batches,
        rates.host_bytes_per_s,
    )
    exposed = np.maximum(crossing - busy_s * work.micro_batches, 0.0)
    return work.optimizer_bytes / rates.memory + exposed


def _compute_passes(
    stage: StageWork, rates: Rates, layout: Layout, workload: Workload
) -> dict[str, _Pass]:
    """Each kind of work of one micro-batch on the fullest stage."""
    matmul, scores, vector = recompute.repeated_fraction(
        layout.recompute, stage.fused_attention, stage.selective_matmuls
    )
    backward = np.where(np.asarray(workload.lora_rank) > 0, 1.0, _BACKWARD_MATMULS)
    precision = np.asarray(layout.precision)
    wide = stage.linear_flops / (
        _of(rates.linear, precision) * _shape(stage.narrow, rates.half_width)
    )
    linear = wide / _shape(stage.rows, rates.half_rows) + stage.matmul_bytes / rates.memory
    gradients = wide + stage.matmul_bytes / rates.memory
    experts = stage.expert_flops * workload.expert_imbalance
    shape = _shape(stage.expert_rows, rates.half_rows)
    shape = shape * _shape(stage.expert_narrow, rates.half_width)
    experts = experts / (_of(rates.experts, precision) * shape)
    experts = experts + stage.expert_matmul_bytes / rates.memory
    attention = stage.attention_flops / rates.attention + stage.state_flops / rates.states
    attention = attention + stage.picked_flops / rates.picked
    fused = np.asarray(stage.fused_attention, dtype=bool)
    attention_back = np.where(fused, _BACKWARD_FUSED_ATTENTION, _BACKWARD_MATMULS)
    moving = stage.vector_bytes / rates.memory
    routing = stage.expert_vector_bytes / rates.memory
    start = stage.layers * (rates.layer_s + stage.local_experts * rates.expert_s)
    # The host runs ahead of the chip: only what it needs beyond the chip's own time is seen.
    device = linear + experts + attention + moving + routing
    power = assumed("host_exponent")
    start = (start**power + device**power) ** (1 / power) - device
    return {
        "matmuls": _Pass(linear, linear + (backward - 1) * gradients, matmul * linear),
        "experts": _Pass(
            experts + routing,
            backward * experts + _BACKWARD_VECTOR * routing,
            matmul * (experts + routing),
        ),
        "attention": _Pass(attention, attention_back * attention, scores * attention),
        "elementwise": _Pass(moving, _BACKWARD_VECTOR * moving, vector * moving),
        "overhead": _Pass(start, start, matmul * start),
    }


def _of(table: Any, precision: Any) -> Any:
    """The entry of a rate table by precision; tables may have a leading axis of points."""
    table = np.asarray(table)
    if table.ndim == 1:
        return table[precision]
    return table[np.arange(table.shape[0]), precision]


def _shape(size: Any, half: Any) -> Any:
    """Efficiency of a matmul with a short side: half of it at `half`."""
    return np.asarray(size) / (np.asarray(size) + half)


def _logits_s(stage: StageWork, rates: Rates, layout: Layout) -> Any:
    """Forward and backward of the output matrix and the loss, one micro-batch."""
    matmul = stage.logits_flops / (rates.logits * _shape(stage.rows, rates.half_rows))
    return 3 * matmul + stage.logits_bytes / rates.memory


def _shared_s(total_s: Any, overlapped: Any, hidden_fraction: Any, compute_s: Any) -> Any:
    """(exposed, hidden) seconds of collectives that may run beside compute."""
    hideable = np.minimum(total_s * hidden_fraction, compute_s)
    hidden = np.where(overlapped, hideable, 0.0)
    return total_s - hidden, hidden


def _data_s(
    work: StepWork, rates: Rates, layout: Layout, busy_s: Any, forward_s: Any
) -> tuple[Any, Any]:
    """(exposed, hidden) seconds of gradients and weights.

    Up to ZeRO-2 gradients leave behind the last backward pass and weights arrive before the first
    forward one, so a micro-batch's own time can hide them; under ZeRO-3 every micro-batch gathers
    twice and scatters once beside its own work.
    """
    count = work.micro_batches
    every = np.asarray(layout.zero) >= 3
    wanted = np.where(
        every, count * (2 * work.gather_s + work.scatter_s), work.gather_s + work.scatter_s
    )
    room = np.where(every, count, 1.0) * busy_s * rates.hidden_data
    hidden = np.where(layout.overlap_data, np.minimum(wanted, room), 0.0)
    return wanted - hidden + rates.tax * hidden, hidden
