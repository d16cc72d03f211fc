"""AWS's benchmark tables in the Neuron documents: decoders served and models trained on Trainium.

Most of their rows are among those that the serving and the training model's constants were fitted
on, so what they show here is the fit; `docs/planner.md` has the errors on runs that were not seen.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rainshadow.machine import load_system
from rainshadow.validation import inference, training_cases
from rainshadow.validation.checkouts import Checkouts
from rainshadow.validation.constant_rate import peak_s
from rainshadow.validation.launch import CannotRun
from rainshadow.validation.points import Point
from rainshadow.validation.predicted import Predicted
from rainshadow.validation.target import Target
from rainshadow.validation.training_model import case_seconds

#: Beginning of a metric -> the metric of the serving model; "output tokens" are per second.
_SERVING = {
    "ttft": "ttft_p50_ms",
    "tpot": "tpot_p50_ms",
    "output token": "output_tokens_per_s_total",
}
_TRAINING = "performance [seq/sec]"
_SYSTEMS = {"trn1": "trn1_32xlarge", "trn2": "trn2_48xlarge"}
_CHIPS = {"trn1": "Trainium1", "trn2": "Trainium2"}
_OPTION = re.compile(r"([A-Z][A-Za-z]*(?: [A-Z][A-Za-z]*)*)=(\S+)")
#: Bytes and matmul rate of one are the other's.
_SAME_COST = {"fp16": "bf16"}
#: In the name of a trained model: who wrote the script, and which phase it is.
_NO_MODEL = re.compile(r"^HuggingFace | pre-training$| Ph\d")
_FITTED = (
    "most of these rows are among those that the serving and training models' constants were "
    "fitted on; docs/planner.md has the errors on other runs."
)


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """A row to predict: the columns of the serving or the training model's own table."""

    id: str
    columns: tuple[tuple[str, str], ...]
    trains: bool

    @property
    def key(self) -> str:
        return f"benchmark {self.id}"

    def measure(self, traces: Path | None = None) -> Predicted:
        """Seconds, or tokens or sequences a second of all chips."""
        row = defaultdict(str, self.columns)
        if not self.trains:
            return Predicted(inference.predict(inference.point_of(row, self.id)))
        case = training_cases.case_of(row)
        seconds = case_seconds(case)
        return Predicted(training_cases.in_metric(case, seconds), seconds, peak_s(case))


def claims(point: Point) -> bool:
    return point["source_of_kernel"] == "model level"


def launch(point: Point, checkouts: Checkouts) -> BenchmarkRow:
    options = dict(_OPTION.findall(point["shapes"]))
    name = point["device"].partition(".")[0]
    metric = point.metric.lower()
    trains = metric == _TRAINING
    serves = next((own for words, own in _SERVING.items() if metric.startswith(words)), None)
    if not trains and serves is None:
        raise CannotRun("an encoder served whole: the serving model knows decoders only")
    if name not in _SYSTEMS:
        raise CannotRun(f"device {point['device']!r} is none of {', '.join(_SYSTEMS)}")
    own = _trained(point, options, name) if trains else _served(point, options, name, serves or "")
    known = {"id": point.id, "source": point["source"], "value": point["value"], "split": "open"}
    known |= {"notes": point["note"], "chip": _CHIPS[name]}
    return BenchmarkRow(point.id, tuple((known | own).items()), trains)


def _served(point: Point, options: Mapping[str, str], name: str, metric: str) -> dict[str, str]:
    lengths = [options.get(f"{which} Length", "") for which in ("Input", "Output")]
    if not all(lengths):
        raise CannotRun("the column shapes states no input and output length")
    precision = options.get("Weight Storage Data Type", point["dtype"]).lower()
    return {
        "model": point["kernel"],
        "n_chips": str(_num_chips(name)),
        "tp": options.get("TP Degree", ""),
        "isl": lengths[0],
        "osl": lengths[1],
        "global_batch": options.get("Batch Size", "1"),
        "precision": _SAME_COST.get(precision, precision),
        "metric": metric,
    }


def _trained(point: Point, options: Mapping[str, str], name: str) -> dict[str, str]:
    text = point["shapes"]
    degrees = dict(re.findall(r"\b(TP|PP)=(\d+)", text))
    nodes = int(options.get("Nodes", "1"))
    return {
        "model": _NO_MODEL.sub("", point["kernel"]),
        "n_chips": str(nodes * _num_chips(name)),
        "tp": degrees.get("TP", "1"),
        "pp": degrees.get("PP", "1"),
        "seq": options.get("Sequence Length", ""),
        "global_batch": options.get("Globalbatch", ""),
        "precision": point["dtype"],
        "zero": "1" if "ZeRO-1" in text else "",
        "metric": "sequences_per_s",
    }


@cache
def _num_chips(name: str) -> int:
    return load_system(_SYSTEMS[name]).num_chips


def value(point: Point, measured: Predicted) -> float:
    return measured.value


def target(point: Point) -> Target:
    metric = point.metric.lower()
    kind = "training" if metric == _TRAINING else "serving"
    is_rate = not metric.startswith(("ttft", "tpot"))
    return Target(f"AWS's tables: {kind}", "report", of_rate=is_rate, remark=_FITTED)
