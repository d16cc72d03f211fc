"""Knows how long prefill and one decode step take on the chips of one replica.

Decode step: weights stream from HBM or matmuls run, whichever is longer; then the KV cache is
read; then all-reduces; plus fixed time per layer and per step. Prefill: matmuls, attention,
collectives, one pass over the weights, fixed time per layer. Nothing overlaps, because the fixed
times were fitted that way. Left out: queueing, tokenization, sampling beyond the fixed time,
pipeline parallelism, uneven routing, and latency growing with the number of chips.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rainshadow.cluster.network import links_of, place
from rainshadow.cluster.serving.stack import ServingStack
from rainshadow.cluster.serving.work import Precision, Real, Work
from rainshadow.errors import InputError, NotModelled
from rainshadow.machine import Chip, System
from rainshadow.sources import Figure, Picker

_ACTIVATION_BYTES = 2
#: The hidden size that sequence_latency is stated for.
_REFERENCE_HIDDEN = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """Chips that hold one copy of the model. attention: "tensor" splits heads over all chips;
    "data" gives every chip its own sequences and all attention weights, experts are split
    (attention data parallelism with expert parallelism). ranks: cores or chips that split heads.
    """

    chips: int
    attention: str = "tensor"
    ranks: int = 0

    @property
    def head_ranks(self) -> int:
        return self.ranks or self.chips


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """One chip under one stack in one scenario: bytes/s, FLOP/s, seconds."""

    hbm_bytes_per_s: float
    kv_bytes_per_s: float
    matmul_flops_per_s: float
    expert_flops_per_s: float
    attention_flops_per_s: float
    link_bytes_per_s: float
    layer_s: float
    step_s: float
    prefill_layer_s: float
    sequence_s: float
    memory_bytes: float
    max_sequences: int
    expert_block: int
    buckets: str
    copies_kv_heads: bool


def matmul_peak(chip: Chip, precision: Precision) -> tuple[str, Figure]:
    """(dtype, dense peak) that matmuls of this precision run at.

    Errors: `NotModelled` for a chip without any peak for it.
    """
    for dtype in (*precision.dtypes, "bfloat16"):
        if dtype in chip.peak_flops:
            return dtype, chip.peak_flops[dtype]
    raise NotModelled(
        f"{chip.name} has no peak for {' or '.join(precision.dtypes)}",
        fix=f"add peak_flops.{precision.dtypes[0]} to data/machines/{chip.name}.toml",
    )


def rates_of(
    system: System, stack: ServingStack, precision: Precision, chips: int, pick: Picker
) -> Rates:
    """Every rate of a system's chip, in a replica of `chips`.

    Errors: `NotModelled` where a peak is missing.
    """
    chip = system.chip
    up, down = pick.higher_is_better, pick.lower_is_better

    def fraction(name: str) -> float:
        return up(getattr(stack, name), f"{stack.name} {name}")

    def latency(name: str) -> float:
        return down(getattr(stack, name), f"{stack.name} {name}")

    hbm = up(chip.hbm.bandwidth, f"{chip.name} HBM bandwidth")
    dtype, peak = matmul_peak(chip, precision)
    matmul = up(peak, f"{chip.name} {dtype} peak") * fraction("matmul_fraction")
    inside = float(place(links_of(system, pick), chips, 1).inside_bytes_per_s)
    bf16 = up(chip.peak_flops["bfloat16"], f"{chip.name} bfloat16 peak")
    return Rates(
        hbm_bytes_per_s=hbm * fraction("hbm_fraction"),
        kv_bytes_per_s=hbm * fraction("kv_fraction"),
        matmul_flops_per_s=matmul,
        expert_flops_per_s=matmul * fraction("expert_fraction"),
        attention_flops_per_s=bf16 * fraction("attention_fraction"),
        link_bytes_per_s=inside * fraction("link_fraction"),
        layer_s=latency("layer_latency"),
        step_s=latency("step_latency"),
        prefill_layer_s=latency("prefill_layer_latency"),
        sequence_s=latency("sequence_latency"),
        memory_bytes=up(chip.hbm.capacity, f"{chip.name} HBM capacity")
        * fraction("memory_fraction"),
        max_sequences=int(fraction("max_sequences")),
        expert_block=int(down(stack.expert_block, f"{stack.name} expert_block")),
        buckets=stack.buckets,
        copies_kv_heads=stack.kv_heads == "copied",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A model on a replica at a precision: the formulas of prefill, decode and memory."""

    work: Work
    precision: Precision
    rates: Rates
    replica: Replica

    @property
    def is_data_parallel(self) -> bool:
        return self.replica.attention == "data"

    @property
    def _batch_shares(self) -> int:
        """Parts that the batch is divided into."""
        return self.replica.chips if self.is_data_parallel else 1

    @property
    def _weight_shares(self) -> int:
        """Parts that attention and dense weights are divided into."""
        return 1 if self.is_data_parallel else self.replica.chips

    def collective_s(self, tokens: Real) -> Real:
        """Two all-reduces of activations a layer; with data-parallel attention two all-to-alls."""
        chips, model = self.replica.chips, self.work.model
        if chips == 1:
            return 0.0
        payload = np.asarray(tokens, dtype=float) * model.hidden * _ACTIVATION_BYTES
        if self.is_data_parallel:
            copies = min(model.moe.top_k if model.moe else 1, chips)
            moved = payload * copies / chips
        else:
            moved = payload * 2 * (chips - 1) / chips
        return model.layers * 2 * moved / self.rates.link_bytes_per_s

    def matmul_s(self, tokens: Real, chunk: float = 0.0) -> Real:
        """Matmuls of a pass over `tokens`: streaming or computing, whichever is longer.

        chunk: of these, tokens of a prompt.
        """
        work, rates, chips = self.work, self.rates, self.replica.chips
        wide = self.precision.bytes_per_weight
        tokens = np.asarray(tokens, dtype=float)
        stream = work.shared_parameters * wide / self._weight_shares / rates.hbm_bytes_per_s
        compute = 2 * work.shared_parameters * tokens / chips / rates.matmul_flops_per_s
        total = np.maximum(stream, compute)
        if work.model.moe is not None:
            touched = work.touched_expert_parameters(tokens)
            stream = touched * wide / chips / rates.hbm_bytes_per_s
            routed = self._computed_by_experts(tokens - chunk) + chunk * self._padding(chunk)
            compute = 2 * work.active_expert_parameters * routed / chips / rates.expert_flops_per_s
            total = total + np.maximum(stream, compute)
        return total

    def attention_decode_s(self, batch: Real, context: Real) -> Real:
        """One new token for each sequence against its cache."""
        work, chips = self.work, self.replica.chips
        read = 2.0 ** np.ceil(np.log2(context)) if self.rates.buckets == "power_of_two" else context
        batch = np.asarray(batch, dtype=float)
        size = batch * work.read_values(read) * self.precision.bytes_per_cached
        stream = size * self._kv_copies / chips / self.rates.kv_bytes_per_s
        flops = batch * work.decode_attention_flops(read)
        return np.maximum(stream, flops / chips / self.rates.attention_flops_per_s)

    @property
    def _kv_copies(self) -> float:
        """KV heads are copied where more ranks than heads split them."""
        model = self.work.model
        if not self.rates.copies_kv_heads or model.mla is not None or self.is_data_parallel:
            return 1.0
        return max(1.0, self.replica.head_ranks / model.kv_heads)

    def decode_step_s(self, batch: Real, context: Real) -> Real:
        """One token for each of `batch` sequences that hold `context` tokens on average."""
        return self.mixed_step_s(batch, context, 0.0, 0.0)

    def mixed_step_s(self, batch: Real, context: Real, chunk: float, seen: Real) -> Real:
        """A decode step that also carries `chunk` prompt tokens, `seen` of which came before."""
        model, rates = self.work.model, self.rates
        tokens = np.asarray(batch, dtype=float) + chunk
        scale = model.hidden / _REFERENCE_HIDDEN / self._batch_shares
        each = rates.sequence_s * scale * np.asarray(batch, dtype=float)
        fixed = model.layers * (rates.layer_s + each) + rates.step_s
        return (
            self.matmul_s(tokens, chunk)
            + self.attention_decode_s(batch, context)
            + self.prompt_attention_s(chunk, seen)
            + self.collective_s(tokens)
            + fixed
        )

    def prompt_attention_s(self, tokens: Real, seen: Real = 0.0) -> Real:
        """Attention of `tokens` of a prompt after `seen` earlier ones."""
        start, end = np.asarray(seen, dtype=float), np.asarray(seen, dtype=float) + tokens
        flops = np.vectorize(self.work.prefill_attention_flops)
        pairs = flops(end) - flops(start)
        return pairs / self.replica.chips / self.rates.attention_flops_per_s

    def prefill_work_s(self, prompt: float) -> float:
        """What one more prompt adds to a pass: matmuls, attention, collectives."""
        work, rates, chips = self.work, self.rates, self.replica.chips
        flops = 2 * work.shared_parameters * prompt
        total = flops / chips / rates.matmul_flops_per_s
        if work.model.moe is not None:
            experts = 2 * work.active_expert_parameters * prompt * self._padding(prompt)
            total += experts / chips / rates.expert_flops_per_s
        return float(total + self.prompt_attention_s(prompt) + self.collective_s(prompt))

    def _computed_by_experts(self, tokens: Real) -> Real:
        """Tokens in decode that count as computed: each by its own experts.

        Neuron loads the experts it needs while they are few; from where all are needed on, every
        expert computes every token (its guide to mixtures of experts).
        """
        moe = self.work.model.moe
        if moe is None or self.rates.expert_block == 1:
            return tokens
        all_needed = np.asarray(tokens) * moe.top_k >= moe.experts
        return np.where(all_needed, tokens * (moe.experts / moe.top_k), tokens)

    def _padding(self, prompt: float) -> float:
        """Tokens that experts compute over those they are sent.

        Blocks hold tokens of one expert each, and there are enough for the worst spread: Neuron's
        ceil(tokens x top_k / block) + experts - 1 (its guide to mixtures of experts).
        """
        moe, block = self.work.model.moe, self.rates.expert_block
        if moe is None or block == 1 or prompt == 0:
            return 1.0
        sent = prompt * moe.top_k
        return (math.ceil(sent / block) + moe.experts - 1) * block / sent

    def prefill_s(self, batch: Real, prompt: float) -> Real:
        """`batch` prompts in one pass, alone on the chips: time to first token without a queue."""
        stream = self.work.shared_parameters * self.precision.bytes_per_weight
        once = stream / self._weight_shares / self.rates.hbm_bytes_per_s
        fixed = self.work.model.layers * self.rates.prefill_layer_s
        return np.asarray(batch, dtype=float) * self.prefill_work_s(prompt) + once + fixed

    # Memory.

    def weight_bytes_per_chip(self) -> float:
        """Weights on one chip; the input table is kept at 2 bytes a value."""
        wide = self.precision.bytes_per_weight
        shared = self.work.shared_parameters * wide
        table = max(0, self.work.input_table_parameters) * _ACTIVATION_BYTES
        experts = self.work.expert_parameters * wide / self.replica.chips
        return (shared + table) / self._weight_shares + experts

    def cache_bytes(self, context: Real) -> Real:
        """KV cache of one sequence over the whole replica, copies included."""
        values = self.work.cached_values(context)
        return values * self.precision.bytes_per_cached * self._kv_copies

    def max_batch(self, context: float) -> int:
        """Sequences of `context` tokens whose cache fits beside the weights; 0 if none does."""
        free = self.rates.memory_bytes - self.weight_bytes_per_chip()
        if free <= 0:
            return 0
        room = free * self.replica.chips / float(self.cache_bytes(context))
        return math.floor(min(room, self.rates.max_sequences * self._batch_shares))


def check_request(prompt: int, output: int) -> None:
    """Errors: `InputError` for lengths that are no request."""
    for name, value in (("--isl", prompt), ("--osl", output)):
        if value < 1:
            raise InputError(f"{name} {value}", allowed="1 token or more")
