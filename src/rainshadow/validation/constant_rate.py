"""Knows the simplest prediction of a training run: so many FLOP/s per chip and precision, whatever
the model, the batch and the layout. A planner must do better than that to be worth its name.

The rates are medians over the open points, data/calibration/constant_rate.csv, one per chip,
precision and kind of model, written by tools/fit_training.py. Where no run of a kind is known, the
median over the chip's other kinds is taken, and last the median share of the peak over all chips.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from statistics import median

import numpy as np

from rainshadow.cluster.layout import PRECISIONS
from rainshadow.cluster.rates import chip_peaks
from rainshadow.sources import Ledger, Picker
from rainshadow.validation.training_cases import Case

#: Labels that hold for every chip of a precision: a share of the peak instead of a rate.
_ANY_CHIP = "any"


def _flops(case: Case) -> float:
    return case.workload.tokens * case.model.train_flops(case.workload.sequence)


def peak_s(case: Case) -> float:
    """Seconds of a step's FLOPs at the best matmul of the precision: no run is faster.

    LoRA runs no matmul for the gradients of frozen weights, a third of the work.
    """
    share = 2 / 3 if case.workload.lora_rank else 1.0
    return share * _flops(case) / _peak(case) / case.system.num_chips


def _peak(case: Case) -> float:
    code = int(np.atleast_1d(case.layout.precision)[0])
    return chip_peaks(case.system.chip, Picker(Ledger()))[code]


def _keys(case: Case) -> tuple[tuple[str, float], ...]:
    """(label, what its rate is multiplied with), from the narrowest to the widest."""
    code = int(np.atleast_1d(case.layout.precision)[0])
    return (
        (case.label, 1.0),
        (f"{case.chip} {PRECISIONS[code]}", 1.0),
        (f"{_ANY_CHIP} {PRECISIONS[code]}", _peak(case)),
        (_ANY_CHIP, _peak(case)),
    )


def median_rates(cases: Sequence[Case]) -> dict[str, float]:
    """Label -> FLOP/s per chip, or share of the peak."""
    rates: dict[str, list[float]] = {}
    for case in cases:
        reached = _flops(case) / case.measured_s / case.system.num_chips
        for label, unit in _keys(case):
            rates.setdefault(label, []).append(reached / unit)
    return {label: median(values) for label, values in sorted(rates.items())}


@cache
def shipped_rates() -> Mapping[str, float]:
    """Of the open points."""
    text = (resources.files("rainshadow") / "data/calibration/constant_rate.csv").read_text("utf-8")
    return {row["label"]: float(row["rate"]) for row in csv.DictReader(text.splitlines())}


def constant_rate_s(case: Case, rates: Mapping[str, float] | None = None) -> float:
    """Seconds of a step at the constant rate."""
    known = shipped_rates() if rates is None else rates
    rate = next(known[label] * unit for label, unit in _keys(case) if label in known)
    return _flops(case) / rate / case.system.num_chips


def left_out(cases: Sequence[Case], groups: Sequence[str]) -> list[float]:
    """Seconds of every case at the median rates of the cases outside its group."""
    rates = {
        group: median_rates([c for c, theirs in zip(cases, groups, strict=True) if theirs != group])
        for group in set(groups)
    }
    return [constant_rate_s(case, rates[group]) for case, group in zip(cases, groups, strict=True)]
