"""Knows which deployments can serve a model, and which of them keeps a service's promise best.

Searched: replica sizes, how attention is divided, how requests share the chips, and every batch
that memory leaves room for. The promise: a request's time to first token and its time per output
token, as `batching` defines them, at the chosen batch and without a queue.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rainshadow.cluster.model import TransformerModel
from rainshadow.cluster.network import links_of
from rainshadow.cluster.serving import batching
from rainshadow.cluster.serving.batching import Request, Served
from rainshadow.cluster.serving.latency import Replica, Serving, rates_of
from rainshadow.cluster.serving.stack import stack_for
from rainshadow.cluster.serving.work import Precision, Work
from rainshadow.machine import System
from rainshadow.sources import GRADES, SCENARIOS, Estimate, Ledger, Picker

#: How requests share chips, in the order they are tried.
MODES = ("continuous", "chunked", "disaggregated", "speculative")
#: Tokens of a chunk that are tried.
CHUNKS = (256, 512, 1024, 2048, 8192)
LEFT_OUT = (
    "queueing: latencies are of a request that has a slot",
    "requests of unequal lengths",
    "pipeline parallelism over replicas' chips",
)
FEW_TRAINIUM2_POINTS = "Trainium 2 serving rests on 8 public latencies of one vendor's tutorials"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """Limits of a request's latency; None: none."""

    ttft_s: float | None = None
    tpot_s: float | None = None

    def kept(self, served: Served) -> NDArray[np.bool_]:
        """Where both hold."""
        good = np.ones(len(served.batch), dtype=bool)
        if self.ttft_s is not None:
            good &= served.time_to_first_token_s <= self.ttft_s
        if self.tpot_s is not None:
            good &= served.time_per_output_token_s <= self.tpot_s
        return good


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is served, how weights are stored, which modes may be used.

    draft: the small model of speculative decoding, None without; draft_tokens, acceptance: how
    many it proposes and the chance that one is taken.
    """

    model: TransformerModel
    precision: Precision
    request: Request
    promise: Promise = Promise()
    modes: Sequence[str] = ("continuous", "chunked", "disaggregated")
    chunks: Sequence[int] = CHUNKS
    draft: TransformerModel | None = None
    draft_tokens: int = 4
    acceptance: float = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One deployment without its batch. chunk: tokens of a prompt a step takes; 0 for all."""

    system: System
    replica: Replica
    mode: str
    chunk: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A way to serve with its best batch. chips: of a replica, prefill replicas included.

    max_batch: sequences that fit.  memory_bytes: of a chip, weights and full caches, of
    capacity_bytes that the engine may use.
    """

    way: Way
    batch: float
    max_batch: int
    chips: float
    prefill_per_decode: float
    ttft_s: Estimate
    tpot_s: Estimate
    tokens_per_s: Estimate
    tokens_per_s_per_chip: Estimate
    memory_bytes: float
    capacity_bytes: float
    ledger: Ledger
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a system serves nothing. ttft_s, tpot_s: the least that any way reaches; None if the
    weights fit nowhere, then short_bytes is what the largest replica lacks on each chip.
    """

    system: System
    ttft_s: float | None = None
    tpot_s: float | None = None
    both: bool = False
    short_bytes: float = 0.0


def replica_sizes(system: System) -> list[int]:
    """Powers of two up to a scale-up domain, and the domain itself."""
    whole = system.chips_per_domain
    sizes = [2**power for power in range(int(math.log2(whole)) + 1)]
    return sorted({*sizes, whole} if not whole & (whole - 1) else set(sizes))


def ways(job: Job, system: System) -> Iterator[Way]:
    """Every deployment of a system."""
    for chips in replica_sizes(system):
        kinds = ["tensor"] if job.model.heads % chips == 0 else []
        if job.model.moe is not None and chips > 1 and job.model.moe.experts % chips == 0:
            kinds.append("data")
        for attention in kinds:
            replica = Replica(chips=chips, attention=attention, ranks=_head_ranks(system, chips))
            for mode in job.modes:
                for chunk in job.chunks if mode == "chunked" else (0,):
                    if chunk < job.request.new_prompt or mode != "chunked":
                        yield Way(system=system, replica=replica, mode=mode, chunk=chunk)


def _head_ranks(system: System, chips: int) -> int:
    """Ranks that split heads: on Trainium the logical cores, two physical ones each where the
    software joins them.
    """
    core = system.chip.core
    if core is None:
        return chips
    cores = int(core.count.value)
    return chips * (cores // 2 if cores > 2 else cores)


def _serving(job: Job, way: Way, pick: Picker, model: TransformerModel | None = None) -> Serving:
    system = way.system
    rates = rates_of(system, stack_for(system.chip), job.precision, way.replica.chips, pick)
    return Serving(
        work=Work(model or job.model), precision=job.precision, rates=rates, replica=way.replica
    )


def _run(
    job: Job, way: Way, batch: NDArray[np.float64], pick: Picker
) -> tuple[Served, NDArray[np.float64]]:
    """(what is delivered, prefill replicas per decoding one) at each batch."""
    serving = _serving(job, way, pick)
    none = np.zeros(len(batch))
    if way.mode == "disaggregated":
        split = batching.disaggregated(serving, serving, batch, job.request, _outward(way, pick))
        return split.served, split.prefill_per_decode
    if way.mode == "chunked":
        return batching.chunked(serving, batch, job.request, way.chunk), none
    if way.mode == "speculative":
        assert job.draft is not None
        draft = _serving(job, way, pick, job.draft)
        return batching.speculative(
            serving, draft, batch, job.request, job.draft_tokens, job.acceptance
        ), none
    return batching.continuous(serving, batch, job.request), none


def _outward(way: Way, pick: Picker) -> float:
    """Bytes/s out of a replica: the scale-out network, or the domain's own links without one."""
    links = links_of(way.system, pick, achieved=True)
    per_chip = links.outer_bandwidth_bytes_per_s or float(links.inside_bytes_per_s)
    return per_chip * way.replica.chips


def _room(job: Job, way: Way, pick: Picker) -> int:
    """Sequences of full length that fit, a draft model's weights and caches beside them."""
    serving = _serving(job, way, pick)
    if way.mode != "speculative":
        return serving.max_batch(job.request.full_context)
    assert job.draft is not None
    draft = _serving(job, way, pick, job.draft)
    free = serving.rates.memory_bytes - serving.weight_bytes_per_chip()
    free -= draft.weight_bytes_per_chip()
    each = float(serving.cache_bytes(job.request.full_context))
    each += float(draft.cache_bytes(job.request.full_context))
    room = free * way.replica.chips / each
    return max(0, math.floor(min(room, serving.rates.max_sequences)))


def best_of_way(job: Job, way: Way) -> tuple[Deployment | None, Served | None]:
    """(the way at its best batch within the promise, all its batches); None where none is."""
    ledger = Ledger()
    room = _room(job, way, Picker(ledger))
    batch = batching.batches_up_to(room)
    if not len(batch):
        return None, None
    served, prefill = _run(job, way, batch, Picker(ledger))
    chips = way.replica.chips * (1 + prefill)
    good = job.promise.kept(served)
    if not good.any():
        return None, served
    rate = np.where(good, served.output_tokens_per_s / chips, -np.inf)
    number = int(rate.argmax())
    return _deployment(job, way, batch[number : number + 1], room, ledger), served


def _deployment(
    job: Job, way: Way, batch: NDArray[np.float64], room: int, ledger: Ledger
) -> Deployment:
    rows = []
    for scenario in SCENARIOS:
        served, prefill = _run(job, way, batch, Picker(ledger, scenario))
        chips = way.replica.chips * (1 + float(prefill[0]))
        rate = float(served.output_tokens_per_s[0])
        rows.append(
            (
                float(served.time_to_first_token_s[0]),
                float(served.time_per_output_token_s[0]), rate, rate / chips, chips,
                float(prefill[0]),
            )
        )  # fmt: skip
    grade = max("derived", ledger.grade, key=GRADES.index)
    columns = list(zip(*rows, strict=True))
    serving = _serving(job, way, Picker(Ledger()))
    held = serving.weight_bytes_per_chip()
    held += float(serving.cache_bytes(job.request.full_context)) * batch[0] / way.replica.chips
    return Deployment(
        way=way,
        batch=float(batch[0]),
        max_batch=room,
        chips=columns[4][0],
        prefill_per_decode=columns[5][0],
        ttft_s=Estimate.over(columns[0], grade),
        tpot_s=Estimate.over(columns[1], grade),
        tokens_per_s=Estimate.over(columns[2], grade),
        tokens_per_s_per_chip=Estimate.over(columns[3], grade),
        memory_bytes=held,
        capacity_bytes=serving.rates.memory_bytes,
        ledger=ledger,
        notes=_notes(way.system),
    )


def _notes(system: System) -> tuple[str, ...]:
    if stack_for(system.chip).name == "transferred":
        return (
            f"no public serving measurement of {system.chip.title}: middle and spread of the "
            "fitted stacks",
        )
    return (FEW_TRAINIUM2_POINTS,) if system.chip.name == "trainium2" else ()


def deployments(job: Job, system: System) -> tuple[list[Deployment], Refusal | None]:
    """The best batch of every way, most tokens/s a chip first; why there is none."""
    found: list[Deployment] = []
    curves: list[Served] = []
    for way in ways(job, system):
        best, served = best_of_way(job, way)
        if best is not None:
            found.append(best)
        if served is not None:
            curves.append(served)
    if found:
        return sorted(found, key=lambda entry: -entry.tokens_per_s_per_chip.value), None
    return [], _refusal(job, system, curves)


def _refusal(job: Job, system: System, curves: Sequence[Served]) -> Refusal:
    if curves:
        ttft = min(float(curve.time_to_first_token_s.min()) for curve in curves)
        tpot = min(float(curve.time_per_output_token_s.min()) for curve in curves)
        late = job.promise.ttft_s is not None and ttft > job.promise.ttft_s
        slow = job.promise.tpot_s is not None and tpot > job.promise.tpot_s
        return Refusal(system=system, ttft_s=ttft, tpot_s=tpot, both=not (late or slow))
    largest = max(replica_sizes(system))
    serving = _serving(
        job, Way(system=system, replica=Replica(chips=largest), mode="continuous"),
        Picker(Ledger()),
    )  # fmt: skip
    need = serving.weight_bytes_per_chip()
    need += float(serving.cache_bytes(job.request.full_context)) / largest
    return Refusal(system=system, short_bytes=max(0.0, need - serving.rates.memory_bytes))
