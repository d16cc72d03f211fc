"""What failures leave of a job's time: checkpoints, work lost, restarts, spares. No machine in it.

Stops come at random, at a constant rate (a Poisson process). A segment of work and its checkpoint
must end without a stop; a stop costs the restart, which may itself be stopped, and all work since
the last finished checkpoint. Then a segment takes M e^(R/M) (e^((t+d)/M) - 1) on average, with
M the mean time between stops, t the segment, d its checkpoint's stall, R the restart: exact, also
where stops come faster than restarts, where the usual first order (Young, Daly) turns negative.
Daly 2006, "A higher order estimate of the optimum checkpoint interval for restart dumps".
"""

from __future__ import annotations

import math

_BISECTIONS = 80


def kept_fraction(interval_s: float, stall_s: float, restart_s: float, between_s: float) -> float:
    """Goodput: seconds of work that last, over seconds that pass.

    between_s: mean time between stops of the whole job.
    """
    exponent = (interval_s + stall_s) / between_s
    if exponent + restart_s / between_s > math.log(1e300):
        return 0.0
    passed = between_s * math.exp(restart_s / between_s) * math.expm1(exponent)
    return interval_s / passed


def best_interval_s(stall_s: float, between_s: float, least_s: float = 0.0) -> float:
    """The interval with the largest goodput, at least `least_s`.

    The derivative vanishes where 1 - t/M = e^(-(t+d)/M), which has one root below M; for rare
    stops it is Young's sqrt(2 d M).
    """
    low, high = 0.0, between_s
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if 1 - middle / between_s > math.exp(-(middle + stall_s) / between_s):
            low = middle
        else:
            high = middle
    return max(low, least_s)


def elastic_fraction(
    pause_s: float, absent_s: float, between_s: float, replicas: int, step_s: float
) -> float:
    """Goodput of a job that goes on without the replicas that failed, until they are back.

    absent_s: how long one is away.  A stop costs every replica a pause and half a step; by
    Little's law absent_s / between_s replicas are away on average.
    """
    away = absent_s / between_s / replicas
    return max(0.0, 1 - away) / (1 + (pause_s + step_s / 2) / between_s)


def spares_needed(broken_per_s: float, repair_s: float, confidence: float = 0.99) -> int:
    """Spares so that, at a stop, one is free with this probability.

    Parts in repair are Poisson with mean rate x repair time (M/G/infinity).
    """
    return _quantile(broken_per_s * repair_s, confidence)


def shortage(spares: int, broken_per_s: float, repair_s: float) -> float:
    """Probability that a stop finds no spare."""
    mean = broken_per_s * repair_s
    return max(0.0, 1 - sum(_poisson(count, mean) for count in range(spares)))


def _poisson(count: int, mean: float) -> float:
    if mean <= 0:
        return 1.0 if count == 0 else 0.0
    return math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))


def _quantile(mean: float, confidence: float) -> int:
    total, count = 0.0, 0
    while True:
        total += _poisson(count, mean)
        if total >= confidence or count > mean + 100 * (1 + math.sqrt(mean)):
            # A stop takes a spare itself.
            return count + 1
        count += 1
