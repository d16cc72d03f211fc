"""Knows how a long run is shown: text, JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rainshadow.cluster.job import PlannedJob
from rainshadow.cluster.long_run import LongRun
from rainshadow.sources import Estimate, Ledger
from rainshadow.units import format_count, format_seconds

_WORDS = {
    "whole": "whole job restarts from storage",
    "partial": "a spare takes over, from a peer's memory",
    "elastic": "the other replicas go on",
}


def _range(estimate: Estimate, scale: float = 1.0, digits: int = 1) -> str:
    values = (scale * value for value in (estimate.value, estimate.low, estimate.high))
    middle, low, high = (f"{value:,.{digits}f}" for value in values)
    return f"{middle} [{low}-{high}]"


def as_text(found: PlannedJob, runs: Sequence[LongRun], ledger: Ledger) -> list[str]:
    """Lines for a terminal."""
    job, layout = found.job, found.layout.describe()
    chips = job.system.num_chips
    lines = [
        f"{found.model.title} on {chips:,} chips of {job.system.title}, {job.tokens:.4g} tokens",
        f"  layout: TP {layout['tensor_parallel']}, PP {layout['pipeline_parallel']} x "
        f"{layout['virtual_stages']}, DP {layout['data_parallel']}, "
        f"CP {layout['context_parallel']}, EP {layout['expert_parallel']}, "
        f"ZeRO {layout['zero']}, micro-batch {layout['micro_batch']}, "
        f"recompute {layout['recompute']}, {layout['precision']}",
        f"  step: {format_seconds(job.step_s)} [{format_seconds(job.step_low_s)}-"
        f"{format_seconds(job.step_high_s)}] for {format_count(job.tokens_per_step)} tokens "
        f"({found.workload.global_batch:,} sequences)",
        f"  stops: {_range(runs[0].stops_per_day)} a day; spares held: "
        f"{runs[0].spare_chips:,} chips",
        "",
        f"  {'after a stop':<42} {'goodput, %':>20} {'days':>26} {'checkpoint every':>17} "
        f"{'chip-hours':>12}",
    ]
    for run in runs:
        every = "-" if run.interval_s != run.interval_s else format_seconds(run.interval_s)
        lines.append(
            f"  {_WORDS[run.policy]:<42} {_range(run.goodput, 100):>20} {_range(run.days):>26} "
            f"{every:>17} {format_count(run.chip_hours.value):>12}"
        )
    lines += ["", *(f"  note: {note}" for note in found.notes)]
    lines += [f"  {line}" for line in _grounds(ledger)]
    return lines


def _grounds(ledger: Ledger) -> list[str]:
    return ["rests on:"] + [
        f"  {row.what}: {row.figure.text} ({row.figure.grade}, {row.figure.source})"
        for row in ledger.rows()
    ]


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "grade": estimate.grade,
    }


def as_dictionary(found: PlannedJob, runs: Sequence[LongRun], ledger: Ledger) -> dict[str, Any]:
    """Plain values in SI; days and chip-hours as named."""
    job = found.job
    return {
        "model": found.model.name,
        "system": job.system.name,
        "chips": job.system.num_chips,
        "tokens": job.tokens,
        "layout": found.layout.describe(),
        "global_batch": found.workload.global_batch,
        "sequence": found.workload.sequence,
        "step_s": {"value": job.step_s, "low": job.step_low_s, "high": job.step_high_s},
        "stops_per_day": _estimate(runs[0].stops_per_day),
        "spare_chips": runs[0].spare_chips,
        "policies": [
            {
                "policy": run.policy,
                "goodput": _estimate(run.goodput),
                "days": _estimate(run.days),
                "interval_s": None if run.interval_s != run.interval_s else run.interval_s,
                "stall_s": None if run.stall_s != run.stall_s else run.stall_s,
                "write_s": None if run.write_s != run.write_s else run.write_s,
                "chip_hours": _estimate(run.chip_hours),
            }
            for run in runs
        ],
        "notes": list(found.notes),
        "figures": [
            {
                "what": row.what,
                "value": row.figure.value,
                "text": row.figure.text,
                "grade": row.figure.grade,
                "source": row.figure.source,
            }
            for row in ledger.rows()
        ],
    }
