"""How long a token budget takes on chips that fail, and what the job needs to get through.

Three ways to go on after a stop: `whole`, every process loads the last checkpoint from storage;
`partial`, a spare takes the failed place and its state from a peer's memory, the others wait;
`elastic`, the other data-parallel replicas go on and the failed one joins again later.
Left out: stops that come together, chips that fail early in their life, silent corruption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rainshadow.cluster.assumptions import assumed
from rainshadow.cluster.goodput import (
    best_interval_s,
    elastic_fraction,
    kept_fraction,
    shortage,
    spares_needed,
)
from rainshadow.cluster.reliability import Reliability
from rainshadow.errors import InputError
from rainshadow.machine import System
from rainshadow.sources import SCENARIOS, Estimate, Ledger, Picker

Policy = Literal["whole", "partial", "elastic"]
POLICIES: tuple[Policy, ...] = ("whole", "partial", "elastic")
#: A checkpoint: the fp32 master weight and two moments, and the bf16 weight.
_STATE_BYTES_PER_PARAMETER = 14
_DAY_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What runs: the chips in use, a step's time and tokens, the budget.

    step_low_s, step_high_s: the step's own range.  replicas: data-parallel copies of the model.
    """

    system: System
    num_parameters: int
    step_s: float
    step_low_s: float
    step_high_s: float
    tokens_per_step: int
    tokens: float
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LongRun:
    """One policy's answer.

    goodput: work that lasts over time.  interval_s, stall_s, write_s: of checkpoints; nan for
    `elastic`, whose replicas hold each other's state.  wait: chance that a stop finds no spare.
    """

    policy: Policy
    goodput: Estimate
    days: Estimate
    interval_s: float
    stall_s: float
    write_s: float
    stops_per_day: Estimate
    spare_chips: int
    chip_hours: Estimate


@dataclass(frozen=True, slots=True)
class _Rates:
    """The figures in one scenario. between_s: mean time between stops of the whole job."""

    between_s: float
    broken_per_s: float
    restart_s: dict[Policy, float]
    repair_s: float
    copy_s: float
    write_s: float
    send_s: float


def long_runs(
    job: Job, reliability: Reliability, *, spares: int | None = None
) -> tuple[list[LongRun], Ledger]:
    """The answer for every policy the job allows, and the figures it rests on.

    spares: chips held ready, None for as many as 99 % of the stops need.

    Errors: `InputError` for a job without tokens or steps.
    """
    for name, value in (("tokens", job.tokens), ("step_s", job.step_s)):
        if not value > 0:
            raise InputError(f"{name} is {value}", allowed="more than 0")
    ledger = Ledger()
    scenarios = [_rates(job, reliability, Picker(ledger, name)) for name in SCENARIOS]
    policies = [policy for policy in POLICIES if policy != "elastic" or job.replicas > 1]
    return [_answer(job, policy, scenarios, ledger, spares) for policy in policies], ledger


def _rates(job: Job, given: Reliability, pick: Picker) -> _Rates:
    chips = job.system.num_chips
    state = job.num_parameters * _STATE_BYTES_PER_PARAMETER
    between = pick.higher_is_better(given.chip_hours_per_stop, "chip-time between stops") / chips
    link = job.system.chip.host_link
    host = assumed("host_link") if link is None else pick.higher_is_better(link, "host link")
    storage = min(
        pick.higher_is_better(given.storage_bandwidth, "storage"),
        chips * pick.higher_is_better(given.storage_bandwidth_per_chip, "storage per chip"),
    )
    network = job.system.network
    outer = host
    if network is not None:
        outer = pick.higher_is_better(network.bandwidth, f"{job.system.name} {network.name}")
    share = pick.lower_is_better(given.hardware_share, "share of stops with a broken part")
    restarts: dict[Policy, float] = {
        "whole": pick.lower_is_better(given.whole_restart, "restart of the whole job"),
        "partial": pick.lower_is_better(given.partial_restart, "restart of a part"),
        "elastic": pick.lower_is_better(given.elastic_pause, "pause of an elastic job"),
    }
    return _Rates(
        between_s=between,
        broken_per_s=share / between,
        restart_s=restarts,
        repair_s=pick.lower_is_better(given.repair, "repair"),
        copy_s=state / chips / host + pick.lower_is_better(given.checkpoint_pause, "checkpoint"),
        write_s=state / storage,
        send_s=state / chips / outer,
    )


def _answer(
    job: Job, policy: Policy, scenarios: Sequence[_Rates], ledger: Ledger, spares: int | None
) -> LongRun:
    central = scenarios[0]
    unit = job.system.chips_per_instance
    needed = spares_needed(central.broken_per_s, central.repair_s)
    held = needed if spares is None else spares // unit
    kept = [_kept(job, policy, rates, None if spares is None else held) for rates in scenarios]
    steps_s = dict(zip(SCENARIOS, (job.step_s, job.step_low_s, job.step_high_s), strict=True))
    work = job.tokens / job.tokens_per_step
    days = [
        work * steps_s[name] / max(fraction, 1e-12) / _DAY_S
        for name, fraction in zip(SCENARIOS, kept, strict=True)
    ]
    chips = job.system.num_chips + held * unit
    grade = ledger.grade
    write = central.write_s if policy == "whole" else central.send_s
    return LongRun(
        policy=policy,
        goodput=Estimate.over(kept, grade),
        days=Estimate.over(days, grade),
        interval_s=_interval_s(job, policy, central),
        stall_s=float("nan") if policy == "elastic" else central.copy_s,
        write_s=float("nan") if policy == "elastic" else write,
        stops_per_day=Estimate.over([_DAY_S / rates.between_s for rates in scenarios], grade),
        spare_chips=held * unit,
        chip_hours=Estimate.over([24 * day * chips for day in days], grade),
    )


def _interval_s(job: Job, policy: Policy, rates: _Rates) -> float:
    """Work between checkpoints: the best, no shorter than a step and than writing one takes."""
    if policy == "elastic":
        return float("nan")
    write = rates.write_s if policy == "whole" else rates.send_s
    return best_interval_s(rates.copy_s, rates.between_s, max(write, job.step_s))


def _kept(job: Job, policy: Policy, rates: _Rates, spares: int | None) -> float:
    """Goodput in one scenario. spares: None for as many as it needs there."""
    restart = rates.restart_s[policy]
    held = spares_needed(rates.broken_per_s, rates.repair_s) if spares is None else spares
    missing = shortage(held, rates.broken_per_s, rates.repair_s)
    # Of the parts in repair, spares and one more, the first is back after this long on average.
    wait = missing * rates.repair_s / (held + 1)
    if policy == "elastic":
        absent = rates.restart_s["partial"] + rates.send_s + wait
        return elastic_fraction(restart, absent, rates.between_s, job.replicas, job.step_s)
    write = rates.write_s if policy == "whole" else rates.send_s
    # Copies leave the chips at once and are complete after `write`; until then the one before
    # is what a stop falls back on, so that much more work is done again.
    interval = _interval_s(job, policy, rates)
    kept = kept_fraction(interval, rates.copy_s, restart + write, rates.between_s)
    return kept / (1 + wait / rates.between_s)
