"""Training plans as plain data: what JSON, text, pages and `rainshadow explain` are made of."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rainshadow import __version__
from rainshadow.cluster.layout import Layout, Workload
from rainshadow.cluster.planner.sweep import data_hash
from rainshadow.cluster.predict import LEFT_OUT
from rainshadow.cluster.training import StepTimes
from rainshadow.cost.plans import Limits, Plan, PlanTable
from rainshadow.errors import InputError
from rainshadow.sources import Estimate, Ledger

KIND = "rainshadow training plan"
#: Causes of time, in the order they are shown.
CAUSES = tuple(field.name for field in dataclasses.fields(StepTimes) if field.name != "hidden")
_MEMORY = ("weights", "gradients", "optimizer", "activations", "logits", "gathered", "reserved")


def summarize_plans(
    table: PlanTable, *, models: Sequence[str], tokens: float, limits: Limits, site: str,
    prices: Mapping[str, float], command: str,
) -> dict[str, Any]:  # fmt: skip
    """Everything about a table of plans, with the figures it rests on."""
    ledger = Ledger()
    for plan in (*table.plans, *table.best_of_each, *table.pareto):
        ledger.merge(plan.ledger)
    first = table.plans[0]
    proofs = {
        id(plan.proof): plan.proof for plan in (*table.plans, *table.best_of_each, *table.pareto)
    }
    return {
        "kind": KIND,
        "version": __version__,
        "data": data_hash(),
        "command": command,
        "models": list(models),
        "tokens": tokens,
        "objective": table.objective,
        "limits": dataclasses.asdict(limits),
        "site": site,
        "prices": dict(prices),
        "workload": dataclasses.asdict(first.task.workload),
        "complete": table.complete,
        "members_searched": sum(proof.members for proof in proofs.values()),
        "plans": [summarize_plan(plan) for plan in table.plans],
        "best_of_each": [summarize_plan(plan) for plan in table.best_of_each],
        "pareto": [summarize_plan(plan) for plan in table.pareto],
        "rejected": [{"what": what, "why": why, "fix": fix} for what, why, fix in table.rejected],
        "left_out": [*LEFT_OUT, "failures, checkpoints and restarts over the run"],
        "notes": sorted(
            {note for plan in (*table.plans, *table.pareto) for note in plan.step.notes}
        ),
        "figures": figures(ledger),
    }


def figures(ledger: Ledger) -> list[dict[str, Any]]:
    """The figures an answer used."""
    return [
        {
            "what": row.what,
            "value": row.figure.text,
            "low": row.figure.low,
            "high": row.figure.high,
            "si": row.figure.value,
            "grade": row.figure.grade,
            "source": row.figure.source,
        }
        for row in ledger.rows()
    ]


def summarize_plan(plan: Plan) -> dict[str, Any]:
    """One plan."""
    step = plan.step
    grade = step.grade
    return {
        "model": plan.task.model,
        "system": plan.task.system,
        "title": plan.system.title,
        "chips": plan.chips,
        "layout": plan.layout.describe(),
        "codes": plan.layout.columns(),
        "workload": dataclasses.asdict(plan.task.workload),
        "software": plan.task.software,
        "step_s": _estimate(
            Estimate(value=float(step.step_s), low=float(step.low_s), high=float(step.high_s),
                     grade=grade)
        ),
        "tokens_per_s": _estimate(
            Estimate(
                value=plan.task.workload.tokens / float(step.step_s),
                low=plan.task.workload.tokens / float(step.high_s),
                high=plan.task.workload.tokens / float(step.low_s),
                grade=grade,
            )
        ),
        "mfu_fraction": _estimate(
            Estimate(
                value=float(step.mfu),
                low=float(step.mfu * step.step_s / step.high_s),
                high=float(step.mfu * step.step_s / step.low_s),
                grade=grade,
            )
        ),
        "time_s": _estimate(plan.time_s),
        "cost_usd": _estimate(plan.cost_usd),
        "energy_kwh": _estimate(plan.energy_kwh),
        "price": dataclasses.asdict(plan.price) if plan.price else None,
        "causes_s": {name: float(getattr(step.times, name)) for name in CAUSES},
        "memory_bytes": {name: float(getattr(step.memory, name)) for name in _MEMORY},
        "memory_total_bytes": float(step.memory.total),
        "memory_capacity_bytes": plan.system.chip.hbm.capacity.value,
        "proof": _finite(dataclasses.asdict(plan.proof)),
        "why": list(plan.why),
        "notes": list(step.notes),
    }  # fmt: skip


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else dataclasses.asdict(estimate)


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no infinity."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def saved_plan(word: str) -> dict[str, Any]:
    """A plan that `rainshadow plan` has written: FOLDER or summary.json, `:2` for its second.

    Errors: `InputError` where there is none.
    """
    place, _, number = (
        word.rpartition(":") if word.rpartition(":")[2].isdigit() else (word, "", "1")
    )
    path = Path(place)
    path = path / "summary.json" if path.is_dir() else path
    mend = "name the folder that `rainshadow plan --out` wrote"
    try:
        raw = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", fix=mend) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is no summary.json: {error}", fix=mend) from None
    if not isinstance(raw, dict) or raw.get("kind") != KIND:
        raise InputError(f"{path} holds no plans", fix=mend)
    plans = raw["plans"]
    if not 1 <= int(number) <= len(plans):
        raise InputError(f"plan {number} of {path}", allowed=f"1 to {len(plans)}")
    return dict(plans[int(number) - 1])


def layout_of_saved(plan: Mapping[str, Any]) -> tuple[Layout, Workload]:
    """The layout and workload of a saved plan.

    Errors: `InputError` for a file of another version.
    """
    try:
        return Layout(**plan["codes"]), Workload(**plan["workload"])
    except (KeyError, TypeError) as error:
        raise InputError(f"not a saved plan of this version: {error}", fix="plan again") from None
