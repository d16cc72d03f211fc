"""Knows how a budget of tokens becomes a job: a batch, the fastest layout that fits, a step time.

Where no batch is asked for, the one nearest to 16 million tokens is taken that the chips can share
out evenly with a model's degrees: Llama 3 405B trained with 16 million.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rainshadow.cluster.assumptions import assumed
from rainshadow.cluster.layout import Layout, Workload, precision_code
from rainshadow.cluster.long_run import Job
from rainshadow.cluster.model import TransformerModel
from rainshadow.cluster.planner.search import Progress, search
from rainshadow.cluster.planner.space import MAINSTREAM, Choices, Space, divisors
from rainshadow.cluster.predict import predict_training
from rainshadow.errors import InputError
from rainshadow.machine import System

_MAX_TENSOR, _MAX_PIPELINE = 64, 32


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job with the layout and the batch it was planned with. notes: of the prediction."""

    job: Job
    model: TransformerModel
    layout: Layout
    workload: Workload
    notes: tuple[str, ...]


def job_of(
    model: TransformerModel,
    system: System,
    tokens: float,
    *,
    sequence: int,
    global_batch: int = 0,
    precision: str = "bfloat16",
    progress: Progress | None = None,
) -> PlannedJob:
    """The job on all chips of the system.

    Errors: `UnknownNameError` for a precision; `InputError` where no layout fits.
    """
    batch = global_batch or usual_batch(system.num_chips, model, sequence)
    workload = Workload(sequence=sequence, global_batch=batch)
    allowed = Choices(
        schedules=MAINSTREAM.schedules,
        offload=MAINSTREAM.offload,
        hsdp=False,
        overlaps=(True,),
        sequence_parallel=(True,),
        tensor=[d for d in divisors(system.num_chips) if d <= _MAX_TENSOR],
        pipeline=[d for d in divisors(system.num_chips) if d <= _MAX_PIPELINE],
        precision=precision_code(precision),
    )
    best = search(Space(model, system, workload, allowed), top=1, progress=progress).best
    if best is None:
        raise InputError(
            f"no layout of {model.title} on {system.num_chips:,} chips of {system.title} fits "
            f"with {batch:,} sequences of {sequence:,}",
            allowed="a batch that data parallelism divides, and enough memory",
            fix=f"ask for --global-batch {usual_batch(system.num_chips, model, sequence):,} "
            "or other --chips",
        )
    step = predict_training(model, system, best.layout, workload)
    job = Job(
        system=system,
        num_parameters=model.num_parameters,
        step_s=float(step.step_s),
        step_low_s=float(step.low_s),
        step_high_s=float(step.high_s),
        tokens_per_step=workload.tokens,
        tokens=tokens,
        replicas=int(best.layout.data_parallel),
    )
    return PlannedJob(job, model, best.layout, workload, step.notes)


def usual_batch(chips: int, model: TransformerModel, sequence: int) -> int:
    """Sequences a step, so that degrees of a usual size leave replicas that divide it."""
    wanted = assumed("batch_tokens") / sequence
    layers = model.layers + model.prediction_layers
    sizes = set()
    for tensor in divisors(chips):
        if tensor > _MAX_TENSOR or model.heads % tensor:
            continue
        for pipe in divisors(chips // tensor):
            if pipe > min(_MAX_PIPELINE, layers):
                break
            replicas = chips // tensor // pipe
            # A pipeline needs several micro-batches for each of its stages.
            least = replicas * (4 * pipe if pipe > 1 else 1)
            sizes.add(least * max(1, round(wanted / least)))
    if not sizes:
        return max(1, round(wanted))
    return min(sizes, key=lambda size: (abs(math.log(size / wanted)), size))
