"""The planner's answer for given layouts: step time, where it goes, memory, range and evidence.

One layout or a table of them: every number of the answer is an array then. The range spans the
figures' own ranges and what the model's error was on runs it had not seen.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.cluster.feasibility import fits, possible, precision_known
from rainshadow.cluster.layout import Layout, Workload
from rainshadow.cluster.memory import MemoryUse
from rainshadow.cluster.model import TransformerModel
from rainshadow.cluster.network import Links, links_of
from rainshadow.cluster.rates import Rates, calibration, error_fraction, rates_of, stated_peaks
from rainshadow.cluster.software import Software, newest_software
from rainshadow.cluster.training import StepTimes, step_seconds, step_work
from rainshadow.machine import System
from rainshadow.sources import GRADES, SCENARIOS, Grade, Ledger, Picker, Scenario

LEFT_OUT = (
    "other jobs on the network, and heat or power limits that slow a chip down",
    "the input pipeline: data are ready when a step starts",
    "uneven experts, unless the workload states an imbalance",
)
NO_TRAINIUM2_TABLE = (
    "no public table of Trainium 2 training exists (Neuron documentation of August 2026): this "
    "transfers from Trainium 1 training and other chips"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMachine:
    """A system under a software stack in one scenario, reduced to numbers, for many calls."""

    system: System
    software: Software
    links: Links
    rates: Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStep:
    """One step. step_s with low_s and high_s; possible: the degrees divide; fits: memory suffices.

    mfu: model FLOPs over the chips' peak in the layout's precision.  notes: what to say beside the
    numbers.
    """

    step_s: Any
    low_s: Any
    high_s: Any
    times: StepTimes
    memory: MemoryUse
    possible: Any
    fits: Any
    tokens_per_s: Any
    mfu: Any
    grade: Grade
    ledger: Ledger
    notes: tuple[str, ...]


def machine_of(
    system: System,
    software: Software | None = None,
    *,
    scenario: Scenario = "central",
    ledger: Ledger | None = None,
) -> TrainingMachine:
    """The numbers of a system; software: the newest stack for its chips if none is given.

    Errors: `NotModelled` for a host processor; `UnknownNameError` for a chip family that no
    training stack runs on.
    """
    pick = Picker(ledger if ledger is not None else Ledger(), scenario)
    stack = software or newest_software(system.chip.family)
    rates = rates_of(system.chip, stack, pick)
    return TrainingMachine(
        system=system,
        software=stack,
        links=training_links(system, stack, pick),
        rates=rates,
    )


def training_links(system: System, software: Software, pick: Picker) -> Links:
    """The links at achieved rates, as far as the stack uses them."""
    links = links_of(system, pick, achieved=True)
    if software.single_rail:
        rate = links.outer_bandwidth_bytes_per_s / links.chips_per_domain
        return dataclasses.replace(links, outer_bandwidth_bytes_per_s=rate)
    return links


def step_times(
    model: TransformerModel, machine: TrainingMachine, layout: Layout, workload: Workload
) -> tuple[StepTimes, MemoryUse]:
    """The bare formulas, for searches: times by cause, and memory, of a table of layouts."""
    work = step_work(model, machine.links, layout, workload, machine.software)
    return step_seconds(work, machine.rates, layout, workload), work.memory


def predict_training(
    model: TransformerModel,
    system: System,
    layout: Layout,
    workload: Workload,
    software: Software | None = None,
) -> TrainingStep:
    """A step under each layout, with range, evidence and the figures it rests on.

    Errors: as `machine_of`.
    """
    ledger = Ledger()
    answers = [
        step_times(
            model,
            machine_of(system, software, scenario=scenario, ledger=ledger),
            layout,
            workload,
        )
        for scenario in SCENARIOS
    ]
    times, memory = answers[0]
    totals = [np.asarray(answer.total) for answer, _ in answers]
    spread = error_fraction(system.chip, model.moe is not None)
    central = totals[0]
    peak = stated_peaks(system.chip)[np.asarray(layout.precision)] * system.num_chips
    least_s = workload.tokens * _least_flops(model, workload) / peak
    notes = (NO_TRAINIUM2_TABLE,) if system.chip.name in ("trainium2", "trainium3") else ()
    return TrainingStep(
        step_s=central,
        # No range reaches below the work at the maker's peak.
        low_s=np.minimum(np.maximum(np.minimum.reduce(totals) / (1 + spread), least_s), central),
        high_s=np.maximum.reduce(totals) * (1 + spread),
        times=times,
        memory=memory,
        possible=possible(model, system, layout, workload) & precision_known(system, layout),
        fits=fits(memory, system),
        tokens_per_s=workload.tokens / central,
        mfu=workload.tokens * _least_flops(model, workload) / central / peak,
        grade=max("derived", ledger.grade, key=GRADES.index),
        ledger=ledger,
        notes=notes,
    )


def _least_flops(model: TransformerModel, workload: Workload) -> float:
    """Model FLOPs of a trained token; frozen weights under LoRA have no gradients."""
    passes = 2 / 3 if workload.lora_rank else 1.0
    return passes * model.train_flops(workload.sequence)


__all__ = [
    "LEFT_OUT",
    "NO_TRAINIUM2_TABLE",
    "TrainingMachine",
    "TrainingStep",
    "calibration",
    "machine_of",
    "predict_training",
    "step_times",
]
