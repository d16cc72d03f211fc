"""Fits the step model's constants to published runs, and scores it on sources it has not seen.

Least squares on the logarithm of predicted over measured seconds, with a pull towards a prior that
says how far each constant may reasonably be from its starting value, and large residuals weighed
down (one fast or slow run in two is the submitter's, not the model's). Gauss-Newton with a
numerical Jacobian. The pull is what keeps a chip or stack with few runs near its family.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rainshadow.cluster.rates import Calibration, spreads, starting_point
from rainshadow.cluster.software import load_software
from rainshadow.validation.training_model import Points, predicted, rates_table

#: How far a stack's factor on its family may be from one, as its logarithm; and from the factor
#: of the stack that it follows.
STACK_SPREAD, FOLLOWER_SPREAD = 0.12, 0.08
#: Spread of a good prediction; residuals beyond one and a half of it count less and less.
_NOISE, _ROBUST = 0.06, 1.5
_AT_MOST_ONE = ("hidden_tensor", "hidden_data", "hidden_expert")
_STEP = 1e-3
_HALVINGS = 6


@dataclass(frozen=True, slots=True)
class Fit:
    """Fitted constants. efficiencies: factor per software stack."""

    constants: Calibration
    efficiencies: dict[str, float]


def _stacks(points: Points) -> list[str]:
    """The stacks that ran, and those they follow."""
    names: set[str] = set()
    for case in points.cases:
        names.update(_lineage(case.software.name))
    return sorted(names)


def _lineage(name: str) -> list[str]:
    """A stack, the one it follows, and so on."""
    line = [name]
    while follows := load_software(line[-1]).follows:
        line.append(follows)
    return line


def _unpack(values: NDArray[np.float64], start: Calibration, stacks: Sequence[str]) -> Fit:
    names = list(spreads())
    moved = {
        name: getattr(start, name) * float(np.exp(value))
        for name, value in zip(names, values[: len(names)], strict=True)
    }
    for name in _AT_MOST_ONE:
        moved[name] = min(moved[name], 1.0)
    gains = dict(zip(stacks, values[len(names) :].tolist(), strict=True))
    return Fit(
        constants=dataclasses.replace(start, **moved),
        efficiencies={
            name: float(np.exp(sum(gains[part] for part in _lineage(name)))) for name in stacks
        },
    )


def _gain(fit: Fit, name: str) -> float:
    """Logarithm of a stack's factor over that of the stack it follows."""
    follows = load_software(name).follows
    before = fit.efficiencies.get(follows, 1.0) if follows else 1.0
    return float(np.log(fit.efficiencies.get(name, before) / before))


def seconds(points: Points, fit: Fit) -> NDArray[np.float64]:
    """The fit's prediction of every point; a stack it never saw runs like its family."""
    factors = [fit.efficiencies.get(case.software.name, 1.0) for case in points.cases]
    return predicted(points, rates_table(points.cases, fit.constants, factors))


def fit_constants(
    points: Points,
    use: NDArray[np.bool_] | None = None,
    *,
    rounds: int = 12,
    warm: Fit | None = None,
) -> Fit:
    """The constants that fit the points marked in `use`. warm: where to begin."""
    start = starting_point()
    stacks = _stacks(points)
    chosen = np.ones(len(points.cases), dtype=bool) if use is None else use
    of_stacks = [FOLLOWER_SPREAD if load_software(s).follows else STACK_SPREAD for s in stacks]
    widths = np.array([*spreads().values(), *of_stacks])
    values = np.zeros(len(widths))
    if warm is not None:
        begun = [np.log(getattr(warm.constants, n) / getattr(start, n)) for n in spreads()]
        values = np.array([*begun, *(_gain(warm, s) for s in stacks)])
    balance = _balance(points, chosen)

    def residuals(at: NDArray[np.float64]) -> NDArray[np.float64]:
        logs = np.log(seconds(points, _unpack(at, start, stacks)) / points.measured_s)
        return logs[chosen] / _NOISE

    for _ in range(rounds):
        now = residuals(values)
        weights = balance / np.sqrt(1 + (now / _ROBUST) ** 2)
        jacobian = np.empty((len(now), len(values)))
        for column in range(len(values)):
            nudged = values.copy()
            nudged[column] += _STEP
            jacobian[:, column] = (residuals(nudged) - now) / _STEP
        left = (jacobian.T * weights) @ jacobian + np.diag(1 / widths**2)
        right = (jacobian.T * weights) @ now + values / widths**2
        step = np.linalg.solve(left, right)
        step *= min(1.0, 0.7 / max(float(np.max(np.abs(step))), 1e-9))
        values = _downhill(values, step, lambda at: _loss(residuals(at), balance, at / widths))
    return _unpack(values, start, stacks)


def _loss(
    residuals: NDArray[np.float64], balance: NDArray[np.float64], pulls: NDArray[np.float64]
) -> float:
    """What the weights of `fit_constants` are the derivative of: pseudo-Huber, and the pull."""
    robust = _ROBUST**2 * (np.sqrt(1 + (residuals / _ROBUST) ** 2) - 1)
    return float((balance * robust).sum() + (pulls**2).sum() / 2)


def _downhill(
    values: NDArray[np.float64],
    step: NDArray[np.float64],
    loss: Callable[[NDArray[np.float64]], float],
) -> NDArray[np.float64]:
    """The step, halved until it does not lead uphill."""
    before = loss(values)
    for _ in range(_HALVINGS):
        if loss(values - step) <= before:
            return values - step
        step = step / 2
    return values


def _balance(points: Points, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights so that a hundred near-equal rows of one table do not outvote the others."""
    keys = [f"{case.group} {case.label} {case.model.name}" for case in points.cases]
    counts = {key: keys.count(key) for key in set(keys)}
    weights = np.array([1 / np.sqrt(counts[key]) for key in keys])
    return weights[chosen]


def leave_one_source_out(points: Points, full: Fit) -> NDArray[np.float64]:
    """Seconds of every point by constants fitted without any row of its source."""
    return _leave_out(points, full, [case.group for case in points.cases])


def leave_one_chip_out(points: Points, full: Fit) -> NDArray[np.float64]:
    """Seconds of every point by constants fitted without any run on its chip."""
    return _leave_out(points, full, [case.system.chip.name for case in points.cases])


def _leave_out(points: Points, full: Fit, labels: Sequence[str]) -> NDArray[np.float64]:
    groups = np.array(labels)
    answer = np.empty(len(groups))
    for group in sorted(set(labels)):
        mine = groups == group
        fit = fit_constants(points, ~mine, rounds=4, warm=full)
        answer[mine] = seconds(points, fit)[mine]
    return answer
