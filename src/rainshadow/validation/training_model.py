"""The planner's prediction of many published runs at once, as one table of points.

The work of every case is counted once; fits then only change the rates, so that a thousand
predictions of three hundred runs take seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rainshadow.cluster.layout import Layout, Workload
from rainshadow.cluster.predict import training_links
from rainshadow.cluster.rates import Calibration, Rates, calibration, rates_of
from rainshadow.cluster.training import StepTimes, StepWork, step_seconds, step_work
from rainshadow.sources import Ledger, Picker
from rainshadow.validation.training_cases import Case


@dataclass(frozen=True, slots=True)
class Points:
    """Cases with the layout each is predicted for, and their work as one table.

    fits: whether our memory model says that the published run was possible.
    """

    cases: tuple[Case, ...]
    layout: Layout
    workload: Any
    work: StepWork
    fits: NDArray[np.bool_]
    measured_s: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Workloads:
    """The columns of a workload that `step_seconds` reads."""

    lora_rank: NDArray[np.int64]
    expert_imbalance: float = 1.0


def points_of(cases: Sequence[Case], fitted: Calibration) -> Points:
    """Chooses for every case the fastest layout that fits, and counts its work."""
    chosen = [_choose(case, fitted) for case in cases]
    return Points(
        cases=tuple(cases),
        layout=_stack([layout for layout, _, _ in chosen]),
        workload=_Workloads(np.array([case.workload.lora_rank for case in cases])),
        work=_stack([work for _, work, _ in chosen]),
        fits=np.array([fits for _, _, fits in chosen]),
        measured_s=np.array([case.measured_s for case in cases]),
    )


def _choose(case: Case, fitted: Calibration) -> tuple[Layout, StepWork, bool]:
    pick = Picker(Ledger())
    links = training_links(case.system, case.software, pick)
    table = case.layout
    work = step_work(case.model, links, table, case.workload, case.software)
    rates = rates_of(case.system.chip, case.software, pick, fitted)
    times = np.broadcast_to(step_seconds(work, rates, table, case.workload).total, table.size)
    used = np.broadcast_to(work.memory.total, table.size)
    fits = used <= case.system.chip.hbm.capacity.value
    best = (
        int(np.argmin(np.where(fits, times, times + used))) if fits.any() else int(np.argmin(used))
    )
    row = table.row(best)
    return row, step_work(case.model, links, row, case.workload, case.software), bool(fits[best])


def _stack(items: Sequence[Any]) -> Any:
    """One dataclass whose fields are arrays over the items' fields."""
    first = items[0]
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        values = {
            field.name: _stack([getattr(item, field.name) for item in items])
            for field in dataclasses.fields(first)
        }
        return type(first)(**values)
    return np.array([np.asarray(item).reshape(()).item() for item in items])


def rates_table(cases: Sequence[Case], fitted: Calibration, efficiencies: Any) -> Rates:
    """Rates of every case. efficiencies: factor per case on its matmul rates."""
    rows = []
    for case, factor in zip(cases, efficiencies, strict=True):
        software = dataclasses.replace(case.software, efficiency=float(factor))
        rows.append(rates_of(case.system.chip, software, Picker(Ledger()), fitted))
    return Rates(
        **{
            field.name: np.array([getattr(row, field.name) for row in rows])
            for field in dataclasses.fields(Rates)
        }
    )


def predicted(points: Points, rates: Rates) -> NDArray[np.float64]:
    """Seconds of every case."""
    times = step_seconds(points.work, rates, points.layout, points.workload)
    return np.where(
        [case.one_layer for case in points.cases], _layer_s(times), np.asarray(times.total)
    )


def case_seconds(case: Case) -> float:
    """Seconds of one case by the shipped constants."""
    points = points_of([case], calibration())
    rates = rates_table([case], calibration(), [case.software.efficiency])
    return float(predicted(points, rates)[0])


def _layer_s(times: StepTimes) -> Any:
    """A single layer's forward and backward: no logits, no optimizer."""
    return (
        times.matmuls
        + times.experts
        + times.attention
        + times.elementwise
        + times.overhead
        + times.tensor
    )


__all__ = ["Points", "Workload", "points_of", "predicted", "rates_table"]
