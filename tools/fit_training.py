"""Fits the training model's constants and writes them into data/calibration.

    python tools/fit_training.py TRAINING_POINTS.csv [--leave-out]

Only rows whose `split` is `open` are used. --leave-out also refits once per source, which takes
minutes, and writes the errors that predictions give as their range.
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
from rainshadow.validation.training_fit import Fit, leave_one_source_out, seconds
from rainshadow.validation.training_model import Points

DATA = Path(__file__).resolve().parents[1] / "src/rainshadow/data/calibration"
LEAST_POINTS = 8


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


def write_errors(points: Points, errors: NDArray[np.float64]) -> None:
    """What nine of ten left-out runs were within, by chip."""
    path = DATA / "training.toml"
    text = path.read_text("utf-8")
    chips = np.array([case.system.chip.name for case in points.cases])
    experts = np.array([case.is_moe for case in points.cases])
    text = set_value(text, "error", "unseen", float(np.quantile(errors, 0.9)))
    text = set_value(text, "error", "experts", float(np.quantile(errors[experts], 0.9)))
    for chip in sorted(set(chips.tolist())):
        mine = errors[(chips == chip) & ~experts]
        if len(mine) >= LEAST_POINTS:
            text = set_value(text, "error", chip, float(np.quantile(mine, 0.9)))
    path.write_text(text, "utf-8")


def main() -> None:
    points, fit = fit_to([case for case in read_cases(Path(sys.argv[1]))[0] if not case.held_out])
    write(points, fit)
    inside = np.abs(seconds(points, fit) / points.measured_s - 1)
    print(f"in sample: median {np.median(inside):.1%}, mean {inside.mean():.1%}")
    if "--leave-out" in sys.argv:
        errors = np.abs(leave_one_source_out(points, fit) / points.measured_s - 1)
        write_errors(points, errors)
        print(
            f"left out:  median {np.median(errors):.1%}, mean {errors.mean():.1%}, "
            f"P90 {np.quantile(errors, 0.9):.1%}"
        )


if __name__ == "__main__":
    main()
