"""Published serving measurements: time to first token, time per output token, throughput."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rainshadow.validation.checkouts import Checkouts
from rainshadow.validation.inference import METRICS, ServingPoint, point_of, predict
from rainshadow.validation.points import Point
from rainshadow.validation.predicted import Predicted
from rainshadow.validation.target import Target

_MEDIAN = 0.15
#: Trainium 2's few published latencies, each of them.
_DECODE, _PREFILL = 0.15, 0.25


@dataclass(frozen=True, slots=True)
class ServingRun:
    """One measurement to predict."""

    point: ServingPoint

    @property
    def key(self) -> str:
        return f"serving run {self.point.id}"

    def measure(self, traces: Path | None = None) -> Predicted:
        """Seconds, or tokens/s of all chips, that the shipped model predicts."""
        return Predicted(predict(self.point))


def claims(point: Point) -> bool:
    return point.metric in METRICS and bool(point["isl"])


def launch(point: Point, checkouts: Checkouts) -> ServingRun:
    return ServingRun(_read(point))


def _read(point: Point) -> ServingPoint:
    return _cached(tuple(point.row.items()))


@cache
def _cached(items: tuple[tuple[str, str], ...]) -> ServingPoint:
    row: defaultdict[str, str] = defaultdict(str, {key: text or "" for key, text in items})
    return point_of(row, row["id"])


def value(point: Point, measured: Predicted) -> float:
    published = point.value or 1.0
    return measured.value * published / _read(point).value


def target(point: Point) -> Target:
    read = _read(point)
    seen = "fitted" if read.split == "open" else "not seen"
    also = (Target(f"serving, {seen}: all", "median", _MEDIAN),)
    if read.chip == "Trainium2" and read.metric in ("tpot_p50_ms", "ttft_p50_ms"):
        first = read.metric == "ttft_p50_ms"
        name, limit = ("prefill", _PREFILL) if first else ("decode", _DECODE)
        return Target(f"serving, {seen}: Trainium2 {name}", "each", limit, also=also)
    return Target(
        f"serving, {seen}: {read.chip}", "report", also=also, of_rate=not METRICS[read.metric]
    )
