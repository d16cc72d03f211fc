"""Hands a ported step to layout and price, and makes plain numbers of the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rainshadow.cluster.step import StepProfile
from rainshadow.cost.layout import DEFAULT_SYSTEMS, LayoutRow, lay_out
from rainshadow.errors import NotModelled
from rainshadow.machine import Site, load_sources, load_system
from rainshadow.porting.port import ChipStep
from rainshadow.sources import Ledger

_PS_PER_S = 1e12


def profile_of(step: ChipStep, name: str) -> StepProfile:
    """What layout needs of a step.

    Errors: `NotModelled` where the step has no countable tokens.
    """
    if not step.targets:
        raise NotModelled(
            "tokens per second of a step without a cross-entropy loss",
            fix="the script's tokens are counted at its cross-entropy loss; it has none",
        )
    backward = sum(launch.duration_ps for launch in step.launches if launch.phase == "backward")
    return StepProfile(
        name=name,
        step_s=step.duration_s,
        backward_s=backward / _PS_PER_S,
        flops=float(step.model_flops),
        tokens=step.targets,
        num_parameters=step.num_parameters,
    )


def lay_out_step(
    step: ChipStep, name: str, *, site: Site, prices: Mapping[str, float]
) -> list[LayoutRow]:
    """The step on the systems of the chip's generation, and on GPU servers."""
    systems = [load_system(system) for system in DEFAULT_SYSTEMS[step.chip.name]]
    return lay_out(profile_of(step, name), systems, seen_on=step.chip, site=site, prices=prices)


def summarize_layout(rows: Sequence[LayoutRow], site: Site) -> dict[str, Any]:
    """Plain numbers, the figures used and what the model leaves out."""
    ledger = Ledger()
    for row in rows:
        ledger.merge(row.ledger)
    left_out: dict[str, None] = {}
    for row in rows:
        left_out.update(dict.fromkeys(row.step.left_out))
    return {
        "site": {"name": site.name, "title": site.title},
        "systems": [_row(row) for row in rows],
        "left_out": list(left_out),
        "figures": [
            {
                "what": used.what,
                "value": used.figure.text,
                "grade": used.figure.grade,
                "source": load_sources()[used.figure.source]["title"],
                "note": used.figure.note,
            }
            for used in ledger.rows()
        ],
    }


def _row(row: LayoutRow) -> dict[str, Any]:
    return {
        "system": row.system.name,
        "title": row.system.title,
        "chips": row.system.num_chips,
        "workers": row.step.workers,
        "step_s": asdict(row.step.step_s),
        "gradient_sum_s": row.step.sum_s,
        "algorithm": row.step.algorithm,
        "exposed_fraction": row.step.exposed_fraction,
        "tokens_per_s": asdict(row.step.tokens_per_s),
        "usd_per_million_tokens": _estimate(row.usd_per_million_tokens),
        "kwh_per_million_tokens": _estimate(row.kwh_per_million_tokens),
        "price": asdict(row.price) if row.price else None,
        "why": list(row.why),
    }


def _estimate(value: Any) -> dict[str, Any] | None:
    return None if value is None else asdict(value)
