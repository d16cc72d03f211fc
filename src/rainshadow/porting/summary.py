"""Knows how a port's result reads as plain numbers: for summary.json and for text.

Every key that is a quantity ends in its unit. Layout and price are in `porting.layout`.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np

from rainshadow import __version__
from rainshadow.porting.parity import Parity
from rainshadow.porting.port import ChipStep, PortResult
from rainshadow.porting.record import RunRecord

_PS_PER_S = 1e12
_TOP_KERNELS = 15


def summarize(result: PortResult) -> dict[str, Any]:
    """The whole result, ready for JSON: no arrays, no infinities."""
    return {
        "script": result.script.name,
        "arguments": list(result.arguments),
        "partial": result.partial,
        "failure": str(result.failure) if result.failure else None,
        "versions": {"rainshadow": __version__, **result.bf16.versions},
        "wall_s": result.wall_s,
        "runs": {
            name: _run(record)
            for name, record in (
                ("reference", result.reference),
                ("bf16", result.bf16),
                ("fp32", result.fp32),
            )
        },
        "ties": [tie.to_json() for tie in result.ties],
        "parity": {parity.precision: _parity(parity) for parity in result.parity},
        "step": summarize_step(result.step) if result.step else None,
    }


def summarize_step(step: ChipStep) -> dict[str, Any]:
    """One training step on one core.

    mfu: model flops over what the core could do in bf16 in the step's time; hfu: the same with
    the matmul work executed. bound_by: the engine that was busy longest.
    """
    duration_s = step.duration_s
    possible = step.chip.core_peak_flops * duration_s
    busy: Counter[str] = Counter()
    waits: Counter[str] = Counter()
    phases: Counter[str] = Counter()
    peaks: dict[str, int] = {"hbm": step.hbm_peak_bytes}
    for launch in step.launches:
        busy.update(launch.timeline.engine_busy_ps)
        waits.update(launch.timeline.wait_by_cause_ps)
        phases[launch.phase] += launch.duration_ps
        for space in ("sbuf", "psum"):
            used = launch.timeline.trace.peak_bytes.get(space, 0)
            peaks[space] = max(peaks.get(space, 0), used)
    waits.pop("none", None)
    host_flops = sum(row.flops for row in step.host_operations)
    return {
        "chip": step.chip.name,
        "index": step.index,
        "step_s": duration_s,
        "launches": len(step.launches),
        "launch_s": sum(launch.timeline.launch_ps for launch in step.launches) / _PS_PER_S,
        "instructions": sum(launch.timeline.trace.num_rows for launch in step.launches),
        "tokens": step.targets,
        "parameters": step.num_parameters,
        "model_flops": step.model_flops,
        "executed_flops": step.executed_flops,
        "mfu_fraction": step.model_flops / possible if possible else 0.0,
        "hfu_fraction": step.executed_flops / possible if possible else 0.0,
        "phase_s": {name: ps / _PS_PER_S for name, ps in phases.items()},
        "engine_busy_s": {name: ps / _PS_PER_S for name, ps in busy.most_common()},
        "wait_s": {name: ps / _PS_PER_S for name, ps in waits.most_common() if ps},
        "bound_by": busy.most_common(1)[0][0] if busy else None,
        "top_kernels": top_kernels(step),
        "sbuf_peak_bytes_per_partition": peaks.get("sbuf", 0),
        "psum_peak_bytes_per_partition": peaks.get("psum", 0),
        "hbm_peak_bytes": peaks["hbm"],
        "transfer_bytes": step.transfers,
        "host_operations": [asdict(row) for row in step.host_operations],
        "host_flops_fraction": (
            host_flops / (host_flops + step.executed_flops) if host_flops else 0.0
        ),
        "left_out": sorted({text for launch in step.launches for text in launch.timeline.left_out}),
    }


def top_kernels(step: ChipStep) -> list[dict[str, Any]]:
    """The tile functions that kept a launch from ending, longest first.

    By `Timeline.added_ps`: the times of all functions add up to the launches' durations.
    """
    total: Counter[tuple[str, str, str]] = Counter()
    for launch in step.launches:
        trace = launch.timeline.trace
        added = launch.timeline.added_ps
        by_scope = np.bincount(trace.scope, weights=added, minlength=len(trace.scopes))
        for name, ps in zip(trace.scopes, by_scope, strict=True):
            total[launch.kernel, name, launch.phase] += int(ps)
    return [
        {"kernel": kernel, "function": name, "phase": phase, "time_s": ps / _PS_PER_S}
        for (kernel, name, phase), ps in total.most_common(_TOP_KERNELS)
    ]


def _run(record: RunRecord) -> dict[str, Any]:
    return {
        "target": record.target,
        "precision": record.precision,
        "status": record.status,
        "error": record.error,
        "partial": record.partial,
        "steps": record.num_steps,
        "wall_s": record.wall_s,
        "step_wall_s": record.step_wall_s,
        "host_operations": [asdict(row) for row in record.host_total],
    }


def _parity(parity: Parity) -> dict[str, Any]:
    return {
        "verdict": parity.verdict,
        "faults": parity.faults,
        "loss_limit": parity.limits.loss,
        "rounding_loss_error": parity.rounding,
        "gradient_limit": parity.limits.gradient,
        "losses": [_finite(value) for value in parity.losses],
        "reference_losses": [_finite(value) for value in parity.reference],
        "loss_error": [_finite(value) for value in parity.loss_error],
        "worst_loss_error": _finite(parity.worst_loss_error),
        "gradients": [
            {
                "name": row.name,
                "norm_error": _finite(row.norm_error),
                "max_error": _finite(row.max_error),
            }
            for row in parity.gradients
        ],
    }


def _finite(value: float) -> float | None:
    """JSON has no infinity: None stands for an error without a number."""
    return value if math.isfinite(value) else None
