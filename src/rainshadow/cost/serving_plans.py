"""Deployments with price and energy per million tokens: the best of many systems, and why not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rainshadow.cluster.serving.plan import Deployment, Job, Refusal, deployments
from rainshadow.cost.price import ChipPrice, chip_price
from rainshadow.errors import InputError, NotModelled
from rainshadow.facility.power import kwh, power_of
from rainshadow.machine import Site, System
from rainshadow.sources import GRADES, SCENARIOS, Estimate, Ledger, Picker
from rainshadow.units import format_bytes

ServingObjective = Literal["cost", "energy", "throughput"]
SERVING_OBJECTIVES: tuple[ServingObjective, ...] = ("cost", "energy", "throughput")
_S_PER_HOUR, _MILLION = 3600.0, 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingPlan:
    """A deployment and what a million output tokens take, their prompts included.

    usd_per_million_tokens, kwh_per_million_tokens: None where a price or a power is unknown;
    why: which, and the file to fill.
    """

    deployment: Deployment
    price: ChipPrice | None
    usd_per_million_tokens: Estimate | None
    kwh_per_million_tokens: Estimate | None
    why: tuple[str, ...]

    def value(self, objective: ServingObjective) -> float:
        """What is minimised; infinite where it is unknown."""
        if objective == "throughput":
            return -self.deployment.tokens_per_s_per_chip.value
        found = {"cost": self.usd_per_million_tokens, "energy": self.kwh_per_million_tokens}
        estimate = found[objective]
        return math.inf if estimate is None else estimate.value


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingTable:
    """Plans within the promise, best first, at most one per system, mode and replica size.

    best_of_each: of every system.  front: no other plan is both faster for a reader and cheaper.
    rejected: (system, why, what to change).
    """

    objective: ServingObjective
    plans: tuple[ServingPlan, ...]
    best_of_each: tuple[ServingPlan, ...]
    front: tuple[ServingPlan, ...]
    rejected: tuple[tuple[str, str, str | None], ...]


def priced(
    deployment: Deployment, site: Site, prices: Mapping[str, float], region: str | None
) -> ServingPlan:
    """A deployment with its price and energy."""
    system, speed = deployment.way.system, deployment.tokens_per_s_per_chip
    why: list[str] = []
    price, cost, energy = None, None, None
    try:
        price = chip_price(system, prices, region)
        cost = Estimate(
            value=_per_million(price.usd_per_hour, speed.value),
            low=_per_million(price.low, speed.high),
            high=_per_million(price.high, speed.low),
            grade=max(speed.grade, price.grade, key=GRADES.index),
        )
    except NotModelled as error:
        why.append(f"{error.what}: {error.fix}")
    try:
        energy = _energy(speed, system, site)
    except NotModelled as error:
        why.append(f"{error.what}: {error.fix}")
    return ServingPlan(
        deployment=deployment, price=price, usd_per_million_tokens=cost,
        kwh_per_million_tokens=energy, why=tuple(why),
    )  # fmt: skip


def _per_million(usd_per_hour: float, tokens_per_s: float) -> float:
    return usd_per_hour / _S_PER_HOUR / tokens_per_s * _MILLION


def _energy(speed: Estimate, system: System, site: Site) -> Estimate:
    ledger = Ledger()
    speeds = dict(zip(SCENARIOS, (speed.value, speed.high, speed.low), strict=True))
    values = [
        kwh(
            power_of(system, site, Picker(ledger, scenario)).facility_power_w / system.num_chips,
            _MILLION / speeds[scenario],
        )
        for scenario in SCENARIOS
    ]
    return Estimate.over(values, max(speed.grade, ledger.grade, key=GRADES.index))


def serving_table(
    job: Job, systems: Sequence[System], *, objective: ServingObjective, site: Site,
    prices: Mapping[str, float], region: str | None = None, top: int = 5,
) -> ServingTable:  # fmt: skip
    """The best deployments on some systems.

    Errors: `InputError` where nothing keeps the promise or fits, saying what binds and by how
    much; `NotModelled` where no plan has what the objective needs.
    """
    plans: list[ServingPlan] = []
    rejected: list[tuple[str, str, str | None]] = []
    for system in systems:
        try:
            found, refusal = deployments(job, system)
        except NotModelled as error:
            rejected.append((system.name, error.what, error.fix))
            continue
        plans += [priced(entry, site, prices, region) for entry in found]
        if refusal is not None:
            rejected.append((system.name, _why(refusal, job), _mend(refusal)))
    if not plans:
        raise InputError(
            "no deployment keeps the promise",
            allowed="; ".join(f"{name}: {why}" for name, why, _ in rejected),
            fix=rejected[0][2] if rejected else None,
        )
    known = [plan for plan in plans if math.isfinite(plan.value(objective))]
    if not known:
        reasons = plans[0].why
        raise NotModelled(f"no plan has a known {objective}", fix=reasons[0] if reasons else None)
    ordered = sorted(known, key=lambda plan: plan.value(objective))
    best: dict[str, ServingPlan] = {}
    for plan in ordered:
        best.setdefault(plan.deployment.way.system.name, plan)
    missing = {plan.deployment.way.system.name: plan for plan in plans if plan not in known}
    rejected += [
        (name, f"its {objective} is not known", "; ".join(plan.why))
        for name, plan in missing.items()
    ]
    return ServingTable(
        objective=objective, plans=tuple(_diverse(ordered)[:top]),
        best_of_each=tuple(best.values()), front=tuple(_front(known, objective)),
        rejected=tuple(rejected),
    )  # fmt: skip


def _diverse(ordered: Sequence[ServingPlan]) -> list[ServingPlan]:
    """The best of every system, mode and replica size."""
    kept: dict[tuple[str, str, int], ServingPlan] = {}
    for plan in ordered:
        way = plan.deployment.way
        kept.setdefault((way.system.name, way.mode, way.replica.chips), plan)
    return list(kept.values())


def _front(plans: Sequence[ServingPlan], objective: ServingObjective) -> list[ServingPlan]:
    """Plans that no other beats in the objective and in time per output token at once."""
    kept: list[ServingPlan] = []
    for plan in sorted(plans, key=lambda entry: (entry.value(objective), _tpot(entry))):
        if not kept or _tpot(plan) < _tpot(kept[-1]):
            kept.append(plan)
    return kept


def _tpot(plan: ServingPlan) -> float:
    return plan.deployment.tpot_s.value


def _why(refusal: Refusal, job: Job) -> str:
    if refusal.ttft_s is None or refusal.tpot_s is None:
        return (
            "weights and one sequence do not fit: each chip of the largest replica lacks "
            f"{format_bytes(refusal.short_bytes)}"
        )
    promise = job.promise
    words = []
    for option, limit, least in (
        ("--ttft", promise.ttft_s, refusal.ttft_s),
        ("--tpot", promise.tpot_s, refusal.tpot_s),
    ):
        if limit is not None and least > limit:
            words.append(
                f"{option} {limit * 1e3:,.4g} ms binds: the least is {least * 1e3:,.4g} ms, "
                f"{least / limit:.3g} times as much"
            )
    if refusal.both:
        words.append("--ttft and --tpot can each be kept, but by no deployment together")
    return "; ".join(words)


def _mend(refusal: Refusal) -> str:
    if refusal.ttft_s is None:
        return "take a lower --precision, or a system with more memory in a domain"
    return "relax the limit named, or take another system"
