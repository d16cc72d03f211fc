"""Knows how requests share a replica: static, continuous, chunked, disaggregated, speculative.

All times are of a full machine in steady state with requests of equal lengths.

time_to_first_token_s: from a request's arrival at a free slot to its first token. It holds the
rest of the step that runs, the prompt's own passes and, disaggregated, the transfer of its cache;
not the wait for a slot. time_per_output_token_s: time from the first to the last token of a
request over (tokens - 1): what a reader sees, interruptions by other prompts included.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rainshadow.cluster.serving.latency import Serving
from rainshadow.cluster.serving.work import Real
from rainshadow.errors import InputError

Array = NDArray[np.float64]
_STEPS_OF_A_REQUEST = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """prompt, output: tokens. cached_prompt: of these, found in a prefix cache."""

    prompt: int
    output: int
    cached_prompt: int = 0

    @property
    def new_prompt(self) -> int:
        """Tokens that prefill computes; at least the last one."""
        return max(1, self.prompt - self.cached_prompt)

    @property
    def mean_context(self) -> float:
        return self.prompt + self.output / 2

    @property
    def full_context(self) -> int:
        return self.prompt + self.output


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a replica delivers at each batch size. output_tokens_per_s: whole replica."""

    batch: Array
    time_to_first_token_s: Array
    time_per_output_token_s: Array
    output_tokens_per_s: Array


def mean_step_s(serving: Serving, batch: Array, request: Request) -> Array:
    """Decode step averaged over a request's life; caches grow, in buckets by doubling."""
    if serving.rates.buckets == "exact":
        return np.asarray(serving.decode_step_s(batch, request.mean_context))
    steps = np.linspace(request.prompt + 1, request.full_context, _STEPS_OF_A_REQUEST)
    return np.asarray(serving.decode_step_s(batch[:, None], steps[None, :])).mean(axis=1)


def _prompt_s(serving: Serving, request: Request) -> float:
    """One prompt's work inside a running server."""
    whole = serving.prefill_work_s(request.prompt)
    if not request.cached_prompt:
        return whole
    return whole - serving.prefill_work_s(request.prompt - request.new_prompt)


def static_batches(serving: Serving, batch: Array, request: Request) -> Served:
    """All requests of a batch start and end together, as fixed benchmarks do."""
    first = np.asarray(serving.prefill_s(batch, request.new_prompt))
    step = mean_step_s(serving, batch, request)
    return Served(
        batch=batch,
        time_to_first_token_s=first,
        time_per_output_token_s=step,
        output_tokens_per_s=batch * request.output / (first + request.output * step),
    )


def continuous(serving: Serving, batch: Array, request: Request) -> Served:
    """A finished request's slot is given to the next; its prompt runs whole between two steps."""
    prompt = _prompt_s(serving, request)
    step = mean_step_s(serving, batch, request)
    cycle = batch * prompt + request.output * step
    alone = prompt + serving.work.model.layers * serving.rates.prefill_layer_s
    return Served(
        batch=batch,
        time_to_first_token_s=step / 2 + alone,
        # Between two tokens of one request, batch / output other prompts run.
        time_per_output_token_s=cycle / request.output,
        output_tokens_per_s=batch * request.output / cycle,
    )


def chunked(serving: Serving, batch: Array, request: Request, chunk: int) -> Served:
    """Prompts are cut in chunks that ride along with decode steps and share their weight reads.

    Errors: `InputError` for a chunk below 1.
    """
    if chunk < 1:
        raise InputError(f"chunk of {chunk} tokens", allowed="1 or more")
    chunk = min(chunk, request.new_prompt)
    chunks = request.new_prompt / chunk
    plain = mean_step_s(serving, batch, request)
    middle = (request.prompt - request.new_prompt) + request.new_prompt / 2
    mixed = np.asarray(
        serving.mixed_step_s(
            batch, request.mean_context, float(chunk), max(0.0, middle - chunk / 2)
        )
    )
    # Chunks that arrive per step: each slot brings `chunks` once in `output` steps. Above one a
    # step the prompts set the pace, and slots wait for theirs.
    load = batch * chunks / request.output
    step = np.where(load <= 1, plain + load * (mixed - plain), mixed)
    cycle = np.where(load <= 1, request.output * step, batch * chunks * mixed)
    return Served(
        batch=batch,
        time_to_first_token_s=step / 2 + chunks * mixed,
        time_per_output_token_s=step,
        output_tokens_per_s=batch * request.output / cycle,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A disaggregated deployment: prefill replicas per decode replica, and what it delivers."""

    prefill_per_decode: Array
    served: Served


def disaggregated(
    prefill: Serving, decode: Serving, batch: Array, request: Request, link_bytes_per_s: float
) -> Split:
    """Prompts run on replicas of their own and send their cache to the decoding ones.

    link_bytes_per_s: out of one prefill replica. The transfer starts when the prompt is done.
    Errors: `InputError` without a link.
    """
    if link_bytes_per_s <= 0:
        raise InputError(
            "disaggregated serving on a system without a network",
            fix="name a system with one, or add [network] to its file",
        )
    alone = float(prefill.prefill_s(1.0, request.new_prompt))
    moved = float(decode.cache_bytes(request.prompt)) / link_bytes_per_s
    step = mean_step_s(decode, batch, request)
    requests_per_s = batch / (request.output * step)
    busy = max(_prompt_s(prefill, request), moved)
    return Split(
        prefill_per_decode=requests_per_s * busy,
        served=Served(
            batch=batch,
            time_to_first_token_s=alone + moved + step / 2,
            time_per_output_token_s=step,
            output_tokens_per_s=batch / step,
        ),
    )


def tokens_per_verification(draft_tokens: int, acceptance: float) -> float:
    """Mean tokens that one verification yields: drafts are accepted until the first refusal.

    Source: Leviathan, Kalman, Matias 2023, "Fast Inference from Transformers via Speculative
    Decoding", equation 1: (1 - a^(g+1)) / (1 - a).
    Errors: `InputError` for an acceptance outside 0..1 or a negative draft.
    """
    if not 0 <= acceptance <= 1 or draft_tokens < 0:
        raise InputError(
            f"{draft_tokens} drafted tokens, acceptance {acceptance:g}",
            allowed="0 or more tokens; acceptance from 0 to 1",
        )
    if acceptance == 1:
        return draft_tokens + 1.0
    return float((1 - acceptance ** (draft_tokens + 1)) / (1 - acceptance))


def speculative(
    target: Serving, draft: Serving, batch: Array, request: Request,
    draft_tokens: int, acceptance: float,
) -> Served:  # fmt: skip
    """A small model drafts `draft_tokens`, the large one checks them in one pass."""
    gained = tokens_per_verification(draft_tokens, acceptance)
    context = request.mean_context
    check = target.decode_step_s(batch, context)
    extra = np.asarray(target.matmul_s(batch * (draft_tokens + 1))) - target.matmul_s(batch)
    drafts = draft_tokens * np.asarray(draft.decode_step_s(batch, context))
    step = (np.asarray(check) + extra + drafts) / gained
    first = np.asarray(target.prefill_s(batch, request.new_prompt)) + draft.prefill_s(
        batch, request.new_prompt
    )
    return Served(
        batch=batch,
        time_to_first_token_s=first,
        time_per_output_token_s=step,
        output_tokens_per_s=batch * request.output / (first + request.output * step),
    )


def batches_up_to(limit: int) -> Array:
    """Batch sizes to try: 1, 2, 3, 4, then eight to a doubling, and the limit itself."""
    if limit < 1:
        return np.empty(0)
    steps = np.unique(np.round(2 ** np.arange(0, np.log2(limit) + 1e-9, 1 / 8)))
    return np.unique(np.append(steps, limit)).astype(float)


def best_throughput(serving: Serving, request: Request, concurrency: Real | None) -> Served:
    """Continuous batching at the batch with most tokens/s, or at a given concurrency.

    The batch is bounded by what caches of mean length leave room for.
    """
    limit = max(1, serving.max_batch(request.mean_context))
    batch = batches_up_to(limit) if concurrency is None else np.minimum(
        np.atleast_1d(np.asarray(concurrency, dtype=float)), limit
    )  # fmt: skip
    served = continuous(serving, batch, request)
    best = int(served.output_tokens_per_s.argmax())
    return Served(
        batch=served.batch[best : best + 1],
        time_to_first_token_s=served.time_to_first_token_s[best : best + 1],
        time_per_output_token_s=served.time_per_output_token_s[best : best + 1],
        output_tokens_per_s=served.output_tokens_per_s[best : best + 1],
    )
