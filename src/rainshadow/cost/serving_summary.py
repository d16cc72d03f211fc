"""Deployments as plain data: what JSON, text and pages of `rainshadow serve-plan` are made of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from rainshadow import __version__
from rainshadow.cluster.planner.sweep import data_hash
from rainshadow.cluster.serving.plan import LEFT_OUT, Job
from rainshadow.cost.plan_summary import figures
from rainshadow.cost.serving_plans import ServingPlan, ServingTable
from rainshadow.sources import Ledger

SERVING_KIND = "rainshadow serving plan"


def summarize_serving(
    table: ServingTable, job: Job, *, model: str, requests_per_s: float | None, site: str,
    prices: Mapping[str, float], command: str,
) -> dict[str, Any]:  # fmt: skip
    """Everything about a table of deployments."""
    ledger = Ledger()
    shown = (*table.plans, *table.best_of_each, *table.front)
    for plan in shown:
        ledger.merge(plan.deployment.ledger)

    def rows(plans: tuple[ServingPlan, ...]) -> list[dict[str, Any]]:
        return [summarize_deployment(plan, job, model, requests_per_s) for plan in plans]

    return {
        "kind": SERVING_KIND,
        "version": __version__,
        "data": data_hash(),
        "command": command,
        "model": model,
        "precision": job.precision.name,
        "request": dataclasses.asdict(job.request),
        "promise": dataclasses.asdict(job.promise),
        "requests_per_s": requests_per_s,
        "objective": table.objective,
        "site": site,
        "prices": dict(prices),
        "plans": rows(table.plans),
        "best_of_each": rows(table.best_of_each),
        "front": rows(table.front),
        "rejected": [{"what": what, "why": why, "fix": fix} for what, why, fix in table.rejected],
        "left_out": list(LEFT_OUT),
        "notes": sorted({note for plan in shown for note in plan.deployment.notes}),
        "figures": figures(ledger),
    }


def summarize_deployment(
    plan: ServingPlan, job: Job, model: str, requests_per_s: float | None
) -> dict[str, Any]:
    """One deployment; with a demand, how many replicas and chips carry it."""
    found = plan.deployment
    way = found.way
    replicas = None
    if requests_per_s is not None:
        replicas = math.ceil(requests_per_s * job.request.output / found.tokens_per_s.value)
    return {
        "model": model,
        "system": way.system.name,
        "title": way.system.title,
        "mode": way.mode,
        "chunk": way.chunk,
        "draft": job.draft.name if way.mode == "speculative" and job.draft else None,
        "draft_tokens": job.draft_tokens if way.mode == "speculative" else None,
        "precision": job.precision.name,
        "request": dataclasses.asdict(job.request),
        "replica": dataclasses.asdict(way.replica),
        "prefill_per_decode": found.prefill_per_decode,
        "chips": found.chips,
        "batch": found.batch,
        "max_batch": found.max_batch,
        "time_to_first_token_s": dataclasses.asdict(found.ttft_s),
        "time_per_output_token_s": dataclasses.asdict(found.tpot_s),
        "tokens_per_s": dataclasses.asdict(found.tokens_per_s),
        "tokens_per_s_per_chip": dataclasses.asdict(found.tokens_per_s_per_chip),
        "usd_per_million_tokens": _or_none(plan.usd_per_million_tokens),
        "kwh_per_million_tokens": _or_none(plan.kwh_per_million_tokens),
        "price": _or_none(plan.price),
        "memory_bytes": found.memory_bytes,
        "memory_capacity_bytes": found.capacity_bytes,
        "replicas": replicas,
        "chips_in_all": None if replicas is None else math.ceil(replicas * found.chips),
        "why": list(plan.why),
        "notes": list(found.notes),
    }


def _or_none(value: Any) -> dict[str, Any] | None:
    return None if value is None else dataclasses.asdict(value)
