"""Published training runs: seconds of a step, or throughput, of a model on a system.

Targets are those of the errors' sizes over all runs, over mixtures of experts, and, chip by chip,
the constant-rate baseline. Runs that the constants were fitted on are judged apart from others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rainshadow.validation.checkouts import Checkouts
from rainshadow.validation.constant_rate import constant_rate_s, peak_s
from rainshadow.validation.points import Point
from rainshadow.validation.predicted import Predicted
from rainshadow.validation.target import Target
from rainshadow.validation.training_cases import METRICS, Case, case_of, in_metric
from rainshadow.validation.training_model import case_seconds

_MEDIAN, _MEAN, _P90, _EXPERTS = 0.07, 0.10, 0.25, 0.20


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One run to predict."""

    case: Case

    @property
    def key(self) -> str:
        return f"training run {self.case.id}"

    def measure(self, traces: Path | None = None) -> Predicted:
        """Seconds that the shipped model predicts, and those of its FLOPs at the chip's peak."""
        seconds = case_seconds(self.case)
        return Predicted(seconds, seconds, 0.0 if self.case.one_layer else peak_s(self.case))


def claims(point: Point) -> bool:
    return point.metric in METRICS and bool(point["n_chips"]) and not point["isl"]


def launch(point: Point, checkouts: Checkouts) -> TrainingRun:
    return TrainingRun(case(point))


def case(point: Point) -> Case:
    """The run of a row."""
    return _cached(tuple(point.row.items()))


@cache
def _cached(items: tuple[tuple[str, str], ...]) -> Case:
    return case_of(dict(items))


def value(point: Point, measured: Predicted) -> float:
    return in_metric(case(point), measured.value) * _unit(point)


def baseline(point: Point) -> float:
    """The constant-rate prediction."""
    return value(point, Predicted(constant_rate_s(case(point))))


def _unit(point: Point) -> float:
    """What a figure of the table was multiplied with to become the point's value."""
    given = float(point["value"])
    return point.value / given if point.value and given else 1.0


def target(point: Point, seen: str = "") -> Target:
    """seen: what the fit knew of the run, "" to tell by the row."""
    run = case(point)
    seen = seen or ("not seen" if run.held_out else "fitted")
    also = [
        Target(f"training, {seen}: median", "median", _MEDIAN),
        Target(f"training, {seen}: mean", "mean", _MEAN),
        Target(f"training, {seen}: nine in ten", "p90", _P90),
    ]
    if run.is_moe:
        also.append(Target(f"training, {seen}: experts", "mean", _EXPERTS))
    return Target(
        f"training, {seen}: {run.chip}",
        "report" if seen == "fitted" else "baseline",
        also=tuple(also),
        of_rate=METRICS[point.metric],
    )
