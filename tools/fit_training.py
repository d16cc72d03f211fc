"""Fits the training model's constants and writes them into data/calibration.

    python tools/fit_training.py TRAINING_POINTS.csv [--leave-out]

Only rows whose `split` is `open` are used. --leave-out also refits once per source and once per
chip, which takes minutes, and writes the errors that predictions give as their range.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rainshadow.validation.constant_rate import median_rates
from rainshadow.validation.leave_out import fit_to
from rainshadow.validation.training_cases import read_cases
from rainshadow.validation.training_fit import (
    Fit,
    leave_one_chip_out,
    leave_one_source_out,
    seconds,
)
from rainshadow.validation.training_model import Points

DATA = Path(__file__).resolve().parents[1] / "src/rainshadow/data/calibration"
#: Fewer runs, or runs of fewer models, do not speak for a chip.
LEAST_POINTS, LEAST_MODELS = 8, 3


def set_value(text: str, table: str, key: str, value: float) -> str:
    """`text` with one number of one table replaced, or added to it."""
    head, name, rest = text.partition(f"\n[{table}]\n")
    body, mark, tail = rest.partition("\n[")
    line = f"{key} = {value:.4g}"
    pattern = rf"(?m)^{re.escape(key)} = .*$"
    if re.search(pattern, body):
        body = re.sub(pattern, line, body)
    else:
        body = body.rstrip("\n") + f"\n{line}\n"
    return head + name + body + mark + tail


def write(points: Points, fit: Fit) -> None:
    """Constants into training.toml, stacks' factors into software.toml."""
    path = DATA / "training.toml"
    text = path.read_text("utf-8")
    for name in re.findall(r"(?m)^\[(\w+)\]$", text):
        if hasattr(fit.constants, name):
            text = set_value(text, name, "value", getattr(fit.constants, name))
    text = set_value(text, "fit", "points", len(points.cases))
    text = set_value(text, "fit", "sources", len({case.group for case in points.cases}))
    path.write_text(text, "utf-8")
    path = DATA / "software.toml"
    text = "\n" + path.read_text("utf-8")
    for name, factor in fit.efficiencies.items():
        text = set_value(text, name, "efficiency", factor)
    path.write_text(text.lstrip("\n"), "utf-8")
    rates = [f"{label},{rate:.4g}" for label, rate in median_rates(points.cases).items()]
    lines = "\n".join(["label,rate", *rates])
    (DATA / "constant_rate.csv").write_text(lines + "\n", "utf-8")


def write_errors(points: Points, errors: NDArray[np.float64], by_chip: NDArray[np.float64]) -> None:
    """What nine of ten left-out runs were within.

    errors: the source left out; they stand for a chip with runs of several models. by_chip: the
    chip left out; they stand for chips that no fit has seen, by family.
    """
    path = DATA / "training.toml"
    head, _, tail = path.read_text("utf-8").partition("\n[error]\n")
    experts = np.array([case.is_moe for case in points.cases])
    families = np.array([case.system.chip.family for case in points.cases])
    chips = np.array([case.system.chip.name for case in points.cases])
    models = np.array([case.model.name for case in points.cases])
    unseen = float(np.quantile(by_chip, 0.9))
    found = {"unseen": unseen, "experts": float(np.quantile(errors[experts], 0.9))}
    for family in sorted(set(families.tolist())):
        found[family] = max(unseen, float(np.quantile(by_chip[families == family], 0.9)))
    for chip in sorted(set(chips.tolist())):
        mine = (chips == chip) & ~experts
        if mine.sum() >= LEAST_POINTS:
            own = float(np.quantile(errors[mine], 0.9))
            several = len(set(models[mine].tolist())) >= LEAST_MODELS
            found[chip] = own if several else max(own, unseen)
    lines = "\n".join(f"{name} = {value:.4g}" for name, value in found.items())
    path.write_text(f"{head}\n[error]\n{lines}\n\n[fit]\n{tail.partition('[fit]')[2].lstrip()}")


def main() -> None:
    points, fit = fit_to([case for case in read_cases(Path(sys.argv[1]))[0] if not case.held_out])
    write(points, fit)
    inside = np.abs(seconds(points, fit) / points.measured_s - 1)
    print(f"in sample: median {np.median(inside):.1%}, mean {inside.mean():.1%}")
    if "--leave-out" in sys.argv:
        errors = np.abs(leave_one_source_out(points, fit) / points.measured_s - 1)
        by_chip = np.abs(leave_one_chip_out(points, fit) / points.measured_s - 1)
        write_errors(points, errors, by_chip)
        for what, sizes in (("source", errors), ("chip", by_chip)):
            print(
                f"{what} left out: median {np.median(sizes):.1%}, mean {sizes.mean():.1%}, "
                f"P90 {np.quantile(sizes, 0.9):.1%}"
            )


if __name__ == "__main__":
    main()
