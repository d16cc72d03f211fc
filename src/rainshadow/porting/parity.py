"""Knows how far a run on the simulated chip is from the same script on the CPU in exact fp32.

Definitions. For losses a (chip) and b (reference) of one optimizer step: |a - b| / |b|. For
gradients a and b of one parameter at the first optimizer step:

* norm error: ||a - b||_2 / ||b||_2. The measure of the verdict: it is independent of the scale
  of the loss and of how many elements are nearly zero.
* max error: max|a - b| / max|b|, which finds a single wrong element of a large parameter.

A parameter whose reference gradient is tiny beside the model's largest (the bias of a key
projection, which the softmax cancels, has none but rounding) has no direction to compare. Its
difference is therefore never divided by less than `_SMALLEST_SHARE` of the largest norm: sums in
another order differ by about 1e-7 of the largest, which then stays below the limit of 1e-4. A
gradient that is not finite, or that only one run has, has error infinity.

Some training amplifies rounding: at a high learning rate two correct runs in bf16 drift apart.
Where a bf16 loss curve is over its limit, PyTorch's own bf16 run on the CPU says how far rounding
alone takes this script; the chip may then be as far off as `_ROUNDING_SPREAD` times that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rainshadow.porting.record import RunRecord

Array = np.ndarray[Any, Any]

_SMALLEST_SHARE = 1e-3
#: Assumption: two runs that each differ from the reference by rounding alone, in other places,
#: are rarely further from it than twice the other.
_ROUNDING_SPREAD = 2.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What counts as agreement. loss, gradient: largest relative errors; None: reported only."""

    loss: float
    gradient: float | None


#: bf16 keeps 8 bits: losses within 2 %; its gradients are reported, and a wrong one is an error
#: of the order of 1. Exact fp32 differs by the order of summation alone.
LIMITS = {
    "bf16": Limits(loss=0.02, gradient=0.2),
    "fp32": Limits(loss=0.001, gradient=1e-4),
}


@dataclass(frozen=True, kw_only=True)
class GradientError:
    """Errors of one parameter's gradient, as the module text defines them."""

    name: str
    norm_error: float
    max_error: float


@dataclass(frozen=True, kw_only=True)
class Parity:
    """One chip run against the reference.

    losses, reference: float64[steps], cut to the shorter run.  loss_error: per step.
    gradients: worst first.  faults: why the verdict is no, empty for yes.  rounding: the worst
    loss error of PyTorch's own bf16 run on the CPU, where it was needed for the verdict.
    """

    precision: str
    limits: Limits
    losses: list[float]
    reference: list[float]
    loss_error: list[float]
    gradients: list[GradientError]
    faults: list[str]
    rounding: float | None = None

    @property
    def verdict(self) -> str:
        """One of "agrees", "disagrees" and, without a backward(), "not compared"."""
        if self.faults:
            return "disagrees"
        return "agrees" if self.losses else "not compared"

    @property
    def agrees(self) -> bool:
        return self.verdict == "agrees"

    @property
    def worst_loss_error(self) -> float:
        return max(self.loss_error, default=math.nan)

    @property
    def worst_gradient(self) -> GradientError | None:
        return self.gradients[0] if self.gradients else None


def compare(chip: RunRecord, reference: RunRecord, host_bf16: RunRecord | None = None) -> Parity:
    """Compare two runs of one script. host_bf16: the same on the CPU in bf16, see `rounding`."""
    limits = LIMITS[chip.precision]
    rounding = None
    if host_bf16 is not None:
        rounding = max(_loss_errors(host_bf16, reference), default=0.0)
        limits = replace(limits, loss=max(limits.loss, _ROUNDING_SPREAD * rounding))
    loss_error = _loss_errors(chip, reference)
    steps = len(loss_error)
    recorded = chip.gradients and reference.gradients
    gradients = compare_gradients(chip.gradients, reference.gradients) if recorded else []
    faults = _faults(chip, reference, loss_error, gradients, limits)
    return Parity(
        precision=chip.precision,
        limits=limits,
        losses=chip.loss_curve[:steps].tolist(),
        reference=reference.loss_curve[:steps].tolist(),
        loss_error=loss_error,
        gradients=gradients,
        faults=faults,
        rounding=rounding,
    )


def is_drift(parity: Parity) -> bool:
    """Whether a run disagrees in its loss curve only, which rounding may explain."""
    return parity.faults == [_drift(parity.loss_error, parity.limits)]


def compare_gradients(
    chip: Mapping[str, Array], reference: Mapping[str, Array]
) -> list[GradientError]:
    """Errors of all parameters, worst norm error first."""
    norms = {name: float(np.linalg.norm(g.astype(np.float64))) for name, g in reference.items()}
    floor = _SMALLEST_SHARE * max((n for n in norms.values() if math.isfinite(n)), default=0.0)
    rows = []
    for name in [*reference, *(n for n in chip if n not in reference)]:
        a, b = chip.get(name), reference.get(name)
        if a is None or b is None or a.shape != b.shape:
            rows.append(GradientError(name=name, norm_error=math.inf, max_error=math.inf))
            continue
        a, b = a.astype(np.float64), b.astype(np.float64)
        scale = floor / math.sqrt(b.size) if b.size else 0.0
        rows.append(
            GradientError(
                name=name,
                norm_error=_ratio(float(np.linalg.norm(a - b)), max(norms[name], floor)),
                max_error=_ratio(_largest(a - b), max(_largest(b), scale)),
            )
        )
    return sorted(rows, key=lambda row: row.norm_error, reverse=True)


def _faults(
    chip: RunRecord,
    reference: RunRecord,
    loss_error: list[float],
    gradients: list[GradientError],
    limits: Limits,
) -> list[str]:
    if not (chip.losses or reference.losses):
        return []
    faults = []
    if chip.num_steps != reference.num_steps:
        faults.append(f"{chip.num_steps} steps on the chip, {reference.num_steps} on the CPU")
    elif chip.num_parameters and not (chip.gradients and reference.gradients):
        faults.append("no gradient was recorded: is there an optimizer over the parameters?")
    drift = _drift(loss_error, limits)
    if drift is not None:
        faults.append(drift)
    if limits.gradient is not None:
        bad = [row for row in gradients if not row.norm_error <= limits.gradient]
        if bad:
            faults.append(
                f"{len(bad)} of {len(gradients)} gradients differ by more than "
                f"{limits.gradient:g}; worst {bad[0].name}: {bad[0].norm_error:.3g}"
            )
    return faults


def _drift(loss_error: list[float], limits: Limits) -> str | None:
    worst = max(loss_error, default=0.0)
    if worst <= limits.loss:
        return None
    step = loss_error.index(worst)
    if not math.isfinite(worst):
        return f"loss of step {step} is not finite on one of the two"
    return f"loss of step {step} differs by {worst:.2%}, limit {limits.loss:.2%}"


def _loss_errors(run: RunRecord, reference: RunRecord) -> list[float]:
    """Relative error of each step that both runs made."""
    pairs = zip(run.loss_curve, reference.loss_curve, strict=False)
    return [0.0 if _same(a, b) else _ratio(abs(a - b), abs(b)) for a, b in pairs]


def _same(a: float, b: float) -> bool:
    """Equal, or not finite on both: the chip diverges where the CPU does."""
    return a == b or not (math.isfinite(a) or math.isfinite(b))


def _ratio(difference: float, size: float) -> float:
    """difference / size; infinite where either is not finite or something stands over zero."""
    if not (math.isfinite(difference) and math.isfinite(size)):
        return math.inf
    if size == 0.0:
        return math.inf if difference else 0.0
    return difference / size


def _largest(values: Array) -> float:
    return float(np.abs(values).max()) if values.size else 0.0
