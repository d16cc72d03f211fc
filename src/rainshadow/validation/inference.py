"""Published serving measurements against the serving model: one prediction per row of a CSV.

A row says model, chips, precision, prompt and output lengths, batch or concurrency, and one of:
time to first token, time per output token, output tokens per second. Rows without a batch are the
most that a saturated server gave, so the best batch is predicted.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rainshadow.cluster.model_files import load_model
from rainshadow.cluster.serving.batching import Request, best_throughput, static_batches
from rainshadow.cluster.serving.latency import Replica, Serving, rates_of
from rainshadow.cluster.serving.stack import ServingStack, stack_for
from rainshadow.cluster.serving.work import Precision, Work, precision_of
from rainshadow.errors import InputError
from rainshadow.machine import System, load_system
from rainshadow.sources import Ledger, Picker

#: The CSV's chip -> the system whose links its rows used.
_SYSTEMS = {
    "H100": "p5_48xlarge",
    "H200": "p5en_48xlarge",
    "B200": "dgx_b200",
    "GB200": "gb200_nvl72",
    "MI300X": "mi300x_node",
    "Trainium1": "trn1_32xlarge",
    "Inferentia2": "inf2_48xlarge",
    "Trainium2": "trn2_48xlarge",
}
#: Models whose published weights are 4-bit whatever the row's precision, which is the cache's.
_MXFP4_MODELS = ("gpt_oss_120b", "gpt_oss_20b")
_COLUMNS = {"id", "source", "model", "chip", "n_chips", "isl", "osl", "metric", "value", "split"}
_TIMES = {"ttft_p50_ms": 1e-3, "tpot_p50_ms": 1e-3}
_RATES = (
    "output_tokens_per_s_total",
    "output_tokens_per_s_per_chip",
    "total_throughput_tokens_per_s",
)
#: Metric -> whether it is a time.
METRICS = {name: name in _TIMES for name in (*_TIMES, *_RATES)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingPoint:
    """One measurement. batch: sequences at once, None where the best one was taken.

    value: seconds, or output tokens/s of all chips.  fixed_batch: requests start and end
    together.
    """

    id: str
    source: str
    model: str
    chip: str
    system: System
    replica: Replica
    precision: Precision
    request: Request
    batch: int | None
    fixed_batch: bool
    metric: str
    value: float
    split: str


def is_serving_table(columns: set[str]) -> bool:
    """Whether a CSV with these columns holds serving measurements."""
    return columns >= _COLUMNS


def read_points(path: Path) -> list[ServingPoint]:
    """Every row of a CSV.

    Errors: `InputError` for missing columns, an unknown chip or metric, a cell that is no number.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = _COLUMNS - set(reader.fieldnames or ())
        if missing:
            raise InputError(f"{path}: no column {', '.join(sorted(missing))}")
        return [point_of(row, f"{path}: {row['id']}") for row in reader]


def point_of(row: Mapping[str, str], where: str) -> ServingPoint:
    """One row. where: what an error names.

    Errors: `InputError` as `read_points`; `UnknownNameError` for a model that is not described.
    """
    metric, chip = row["metric"], row["chip"]
    if chip not in _SYSTEMS:
        raise InputError(f"{where}: chip {chip!r}", allowed=", ".join(_SYSTEMS))
    if metric not in _TIMES and metric not in _RATES:
        raise InputError(f"{where}: metric {metric!r}", allowed=", ".join((*_TIMES, *_RATES)))
    try:
        chips, value = int(row["n_chips"]), float(row["value"])
        request = Request(prompt=int(row["isl"]), output=int(row["osl"]))
        batch = int(row["global_batch"]) if row.get("global_batch") else None
        ranks = int(row.get("tp") or 0)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    model = load_model(row["model"].partition(" (")[0])
    # An empty tp with experts divided over all chips is NVIDIA's "DEP": data-parallel attention.
    attention = "data" if model.moe is not None and not ranks and chips > 1 else "tensor"
    precision = precision_of(row.get("precision") or "bf16")
    if model.name in _MXFP4_MODELS:
        precision = precision_of("mxfp4")
    is_rate_per_chip = metric == "output_tokens_per_s_per_chip"
    return ServingPoint(
        id=row["id"],
        source=row["source"],
        model=model.name,
        chip=chip,
        system=load_system(_SYSTEMS[chip]),
        replica=Replica(chips=chips, attention=attention, ranks=ranks),
        precision=precision,
        request=request,
        batch=batch,
        fixed_batch=row["source"].startswith("aws-neuron/"),
        metric=metric,
        value=value * _TIMES.get(metric, chips if is_rate_per_chip else 1),
        split=row["split"],
    )


def serving_of(point: ServingPoint, stack: ServingStack, pick: Picker) -> Serving:
    """The model of a point's server."""
    return Serving(
        work=Work(load_model(point.model)),
        precision=point.precision,
        rates=rates_of(point.system, stack, point.precision, point.replica.chips, pick),
        replica=point.replica,
    )


def predict(point: ServingPoint, stack: ServingStack | None = None) -> float:
    """Seconds or tokens/s that the model gives for a point."""
    chosen = stack if stack is not None else stack_for(point.system.chip)
    serving = serving_of(point, chosen, Picker(Ledger()))
    request = point.request
    if not point.fixed_batch:
        served = best_throughput(serving, request, point.batch)
        return float(served.output_tokens_per_s[0])
    batch = np.array([float(point.batch or 1)])
    if point.metric == "tpot_p50_ms":
        # The median token of a request is the one half way.
        return float(serving.decode_step_s(batch, request.mean_context)[0])
    served = static_batches(serving, batch, request)
    if point.metric == "ttft_p50_ms":
        return float(served.time_to_first_token_s[0])
    return float(served.output_tokens_per_s[0])
