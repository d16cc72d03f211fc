"""Training plans with time, price and energy: the best of many systems and sizes, and why.

On one system and number of chips time, price and energy rise together, so the fastest layout is
also the cheapest and the thriftiest: `cluster.planner` finds it exactly, and what is left here is
to compare systems and sizes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rainshadow.cluster.layout import Layout
from rainshadow.cluster.model import TransformerModel
from rainshadow.cluster.model_files import load_model
from rainshadow.cluster.planner.search import Proof
from rainshadow.cluster.planner.sweep import Outcome, Task, sized_system
from rainshadow.cluster.predict import TrainingStep, predict_training
from rainshadow.cluster.software import load_software
from rainshadow.cost.price import ChipPrice, chip_price
from rainshadow.errors import InputError, NotModelled
from rainshadow.facility.power import kwh, power_of
from rainshadow.machine import Site, System, load_system
from rainshadow.sources import GRADES, SCENARIOS, Estimate, Ledger, Picker

Objective = Literal["time", "cost", "energy"]
OBJECTIVES: tuple[Objective, ...] = ("time", "cost", "energy")
_S_PER_HOUR, _S_PER_DAY = 3600.0, 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a plan must keep to; None: no limit. region: where prices must be known."""

    max_chips: int | None = None
    budget_usd: float | None = None
    deadline_s: float | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One way to train: a layout on chips. price, cost_usd, energy_kwh: None where unknown.

    why: what could not be computed, and the file to fill.  proof: of the search that found it.
    """

    task: Task
    model: TransformerModel
    system: System
    layout: Layout
    step: TrainingStep
    time_s: Estimate
    price: ChipPrice | None
    cost_usd: Estimate | None
    energy_kwh: Estimate | None
    why: tuple[str, ...]
    proof: Proof
    ledger: Ledger

    @property
    def chips(self) -> int:
        return self.system.num_chips

    def value(self, objective: Objective) -> float:
        """What is minimised; infinite where it is unknown."""
        found = {"time": self.time_s, "cost": self.cost_usd, "energy": self.energy_kwh}[objective]
        return found.value if found is not None else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTable:
    """Plans within the limits, best first; those no other beats on every count; the rest.

    best_of_each: the best of every model and system.
    rejected: (what was tried, why not, what to change).  complete: the search was not cut short.
    """

    objective: Objective
    plans: tuple[Plan, ...]
    best_of_each: tuple[Plan, ...]
    pareto: tuple[Plan, ...]
    rejected: tuple[tuple[str, str, str | None], ...]
    complete: bool


def plan_of(
    outcome: Outcome, index: int, tokens: float, site: Site, prices: Mapping[str, float],
    limits: Limits,
) -> Plan:  # fmt: skip
    """A found layout with its time, price and energy for `tokens`."""
    task = outcome.task
    assert outcome.result is not None
    system = sized_system(load_system(task.system), task.chips)
    model = load_model(task.model)
    layout = outcome.result.found[index].layout
    software = load_software(task.software) if task.software else None
    step = predict_training(model, system, layout, task.workload, software)
    ledger = Ledger()
    ledger.merge(step.ledger)
    steps = math.ceil(tokens / task.workload.tokens)
    time = Estimate(
        value=steps * float(step.step_s), low=steps * float(step.low_s),
        high=steps * float(step.high_s), grade=step.grade,
    )  # fmt: skip
    why: list[str] = []
    price, cost = None, None
    try:
        price = chip_price(system, prices, limits.region)
        cost = _cost(time, price, system)
    except NotModelled as error:
        why.append(f"{error.what}: {error.fix}")
    energy = None
    try:
        energy = _energy(time, system, site, ledger)
    except NotModelled as error:
        why.append(f"{error.what}: {error.fix}")
    return Plan(
        task=task, model=model, system=system, layout=layout, step=step, time_s=time,
        price=price, cost_usd=cost, energy_kwh=energy, why=tuple(why),
        proof=outcome.result.proof, ledger=ledger,
    )  # fmt: skip


def _cost(time: Estimate, price: ChipPrice, system: System) -> Estimate:
    hours = system.num_chips / _S_PER_HOUR
    return Estimate(
        value=time.value * hours * price.usd_per_hour,
        low=time.low * hours * price.low,
        high=time.high * hours * price.high,
        grade=max(time.grade, price.grade, key=GRADES.index),
    )


def _energy(time: Estimate, system: System, site: Site, ledger: Ledger) -> Estimate:
    times = dict(zip(SCENARIOS, (time.value, time.low, time.high), strict=True))
    powers = {
        scenario: power_of(system, site, Picker(ledger, scenario)).facility_power_w
        for scenario in SCENARIOS
    }
    values = [kwh(powers[scenario], times[scenario]) for scenario in SCENARIOS]
    return Estimate.over(values, max(time.grade, ledger.grade, key=GRADES.index))


def rank(
    outcomes: Sequence[Outcome], *, tokens: float, objective: Objective, limits: Limits,
    site: Site, prices: Mapping[str, float], top: int = 5,
) -> PlanTable:  # fmt: skip
    """The best plans of many searches.

    Errors: `InputError` where nothing satisfies the limits, saying which of them binds and by how
    much; the reason of the first rejection where nothing was found at all; `NotModelled` where no
    plan has what the objective needs.
    """
    every = [
        plan_of(outcome, index, tokens, site, prices, limits)
        for outcome in outcomes
        if outcome.result is not None
        for index in range(len(outcome.result.found))
    ]
    rejected = tuple(
        (outcome.task.title, outcome.rejected, outcome.fix)
        for outcome in outcomes
        if outcome.rejected is not None
    )
    if not every:
        _raise_nothing_found(outcomes)
    within = [plan for plan in every if not broken_limits(plan, limits)]
    if not within:
        raise InputError(
            "no plan satisfies all limits", allowed="; ".join(what_binds(every, limits)),
            fix="relax the limit named, or add systems or sizes",
        )  # fmt: skip
    known = [plan for plan in within if math.isfinite(plan.value(objective))]
    if not known:
        raise NotModelled(
            f"no plan has a known {objective}", fix=within[0].why[0] if within[0].why else None
        )
    ordered = sorted(known, key=lambda plan: (plan.value(objective), plan.chips))
    best: dict[tuple[str, str], Plan] = {}
    for plan in ordered:
        best.setdefault((plan.task.model, plan.task.system), plan)
    unknown = {plan.task.title: plan for plan in within if plan not in known}
    rejected += tuple(
        (title, f"its {objective} is not known", "; ".join(plan.why))
        for title, plan in unknown.items()
    )
    return PlanTable(
        objective=objective,
        plans=tuple(ordered[:top]),
        best_of_each=tuple(best.values()),
        pareto=tuple(pareto(within)),
        rejected=rejected,
        complete=all(
            outcome.rejected != "interrupted"
            and (outcome.result is None or outcome.result.proof.complete)
            for outcome in outcomes
        ),
    )


def _raise_nothing_found(outcomes: Sequence[Outcome]) -> None:
    reasons = [f"{entry.task.title}: {entry.rejected}" for entry in outcomes]
    kind = NotModelled if all(entry.exit_code == 2 for entry in outcomes) else InputError
    raise kind(
        "no layout is possible\n  " + "\n  ".join(reasons[:8]),
        fix=next((entry.fix for entry in outcomes if entry.fix), None),
    )


def broken_limits(plan: Plan, limits: Limits) -> list[str]:
    """Names of the limits a plan does not keep; an unknown price breaks a budget and a region."""
    broken = []
    if limits.max_chips is not None and plan.chips > limits.max_chips:
        broken.append("--max-chips")
    if limits.deadline_s is not None and plan.time_s.value > limits.deadline_s:
        broken.append("--deadline")
    cost = plan.cost_usd
    if limits.budget_usd is not None and (cost is None or cost.value > limits.budget_usd):
        broken.append("--budget")
    if limits.region is not None and plan.price is None:
        broken.append("--region")
    return broken


def what_binds(plans: Sequence[Plan], limits: Limits) -> list[str]:
    """For each limit that no plan keeps, how far the nearest is; else which of them conflict."""
    sentences = []
    if limits.deadline_s is not None:
        quick = min(plans, key=lambda plan: plan.time_s.value)
        over = quick.time_s.value / limits.deadline_s
        if over > 1:
            sentences.append(
                f"--deadline {limits.deadline_s / _S_PER_DAY:.3g} d: the quickest plan takes "
                f"{quick.time_s.value / _S_PER_DAY:.3g} d, {over:.3g} times as long "
                f"({_what(quick)})"
            )
    if limits.budget_usd is not None:
        cheap = min(plans, key=lambda plan: plan.value("cost"))
        over = cheap.value("cost") / limits.budget_usd
        if cheap.cost_usd is None:
            sentences.append(f"--budget: no plan has a price; {cheap.why[0]}")
        elif over > 1:
            sentences.append(
                f"--budget {limits.budget_usd:,.0f} USD: the cheapest plan costs "
                f"{cheap.cost_usd.value:,.0f} USD, {over:.3g} times as much ({_what(cheap)})"
            )
    if limits.max_chips is not None:
        fewest = min(plans, key=lambda plan: plan.chips)
        if fewest.chips > limits.max_chips:
            sentences.append(
                f"--max-chips {limits.max_chips:,}: the smallest plan has {fewest.chips:,} chips"
            )
    if limits.region is not None and all(plan.price is None for plan in plans):
        sentences.append(f"--region {limits.region}: {plans[0].why[0]}")
    return sentences or _conflicts(plans, limits)


def _what(plan: Plan) -> str:
    return f"{plan.chips:,} chips of {plan.system.name}"


def _conflicts(plans: Sequence[Plan], limits: Limits) -> list[str]:
    """Every limit can be kept alone: by how much each is missed once the others are kept."""
    sentences = []
    for name in sorted({name for plan in plans for name in broken_limits(plan, limits)}):
        rest = [plan for plan in plans if set(broken_limits(plan, limits)) <= {name}]
        over = min((_excess(plan, name, limits) for plan in rest), default=math.inf)
        if math.isfinite(over):
            sentences.append(f"with the other limits kept, {name} is exceeded {over:.3g} times")
    return sentences or ["the limits can be kept one by one, but no two of them together"]


def _excess(plan: Plan, name: str, limits: Limits) -> float:
    """How many times a plan exceeds a limit."""
    return {
        "--deadline": plan.time_s.value / (limits.deadline_s or math.nan),
        "--budget": plan.value("cost") / (limits.budget_usd or math.nan),
        "--max-chips": plan.chips / (limits.max_chips or math.nan),
    }.get(name, math.inf)


def pareto(plans: Sequence[Plan]) -> list[Plan]:
    """Plans that no other beats or equals on time, cost, energy and chips; by chips.

    An unknown price or energy counts as worse than any known one.
    """

    def key(plan: Plan) -> tuple[float, float, float, float]:
        return (plan.time_s.value, plan.value("cost"), plan.value("energy"), float(plan.chips))

    kept: list[Plan] = []
    for plan in sorted(plans, key=key):
        mine = key(plan)
        if not any(all(a <= b for a, b in zip(key(o), mine, strict=True)) for o in kept):
            kept.append(plan)
    return sorted(kept, key=lambda plan: (plan.chips, plan.time_s.value))
