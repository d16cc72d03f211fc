"""Knows how far predictions are from published figures, group by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rainshadow.validation.target import Pool, Target
from rainshadow.validation.validate import Outcome

#: Fewer pairs have no rank correlation worth printing.
_SUFFICIENT = 3
#: Fewer points say nothing about a baseline.
_LEAST_FOR_BASELINE = 8


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a group did. Errors are fractions; rank: Spearman's correlation, None for few points.

    median_error, mean_size, p90: of the errors' sizes.  mean_error: signed.  baseline_size: mean
    size of the baseline's errors, where it covers the group.  holds: whether the target is met;
    None where there is none.
    """

    target: Target
    num_points: int
    median_error: float
    mean_size: float
    p90: float
    worst_error: float
    mean_error: float
    rank: float | None
    baseline_size: float | None
    holds: bool | None


@dataclass(frozen=True, slots=True)
class PoolVerdict:
    """How the groups of a pool did together. holds: both limits are kept."""

    pool: Pool
    num_points: int
    median_error: float
    rank: float | None
    holds: bool


def judge(outcomes: Sequence[Outcome]) -> list[Verdict]:
    """A verdict for each group, in order of first point."""
    groups: dict[str, tuple[Target, list[Outcome]]] = {}
    for outcome in outcomes:
        if outcome.target is None or outcome.error is None:
            continue
        for target in (outcome.target, *outcome.target.also):
            groups.setdefault(target.group, (target, []))[1].append(outcome)
    return [_verdict(target, members) for target, members in groups.values()]


def judge_pools(outcomes: Sequence[Outcome]) -> list[PoolVerdict]:
    """A verdict for each pool of groups."""
    pools: dict[Pool, list[Outcome]] = {}
    for outcome in outcomes:
        target = outcome.target
        if target is not None and target.pool is not None and outcome.error is not None:
            pools.setdefault(target.pool, []).append(outcome)
    verdicts = []
    for pool, members in pools.items():
        middle = median(abs(outcome.error or 0.0) for outcome in members)
        rank = _rank_of(members)
        holds = middle <= pool.median and (rank is None or rank >= pool.rank)
        verdicts.append(PoolVerdict(pool, len(members), middle, rank, holds))
    return verdicts


def beating_bounds(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Points whose run was predicted to be faster than its work at peak rates."""
    return [outcome for outcome in outcomes if outcome.bound_s > outcome.duration_s]


def _rank_of(members: Sequence[Outcome]) -> float | None:
    return spearman(
        [outcome.predicted or 0.0 for outcome in members],
        [outcome.point.value or 0.0 for outcome in members],
    )


def _verdict(target: Target, members: Sequence[Outcome]) -> Verdict:
    errors = [outcome.error for outcome in members if outcome.error is not None]
    sizes = [abs(error) for error in errors]
    simple = _baseline_size(members)
    return Verdict(
        target=target,
        num_points=len(members),
        median_error=median(sizes),
        mean_size=sum(sizes) / len(sizes),
        p90=quantile(sizes, 0.9),
        worst_error=max(errors, key=abs),
        mean_error=sum(errors) / len(errors),
        rank=_rank_of(members),
        baseline_size=simple,
        holds=_holds(target, errors, simple),
    )


def _baseline_size(members: Sequence[Outcome]) -> float | None:
    """Mean size of the baseline's errors, if it has one for every member."""
    errors = [member.baseline_error for member in members]
    sizes = [abs(error) for error in errors if error is not None]
    return sum(sizes) / len(sizes) if len(sizes) == len(errors) else None


def quantile(values: Sequence[float], part: float) -> float:
    """Between the sorted values on either side of `part`, as NumPy does by default."""
    ordered = sorted(values)
    place = part * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _holds(target: Target, errors: Sequence[float], simple: float | None) -> bool | None:
    sizes = [abs(error) for error in errors]
    match target.rule:
        case "each":
            return max(sizes) <= target.limit
        case "median":
            return median(sizes) <= target.limit
        case "mean":
            return sum(sizes) / len(sizes) <= target.limit
        case "p90":
            return quantile(sizes, 0.9) <= target.limit
        case "baseline" if simple is not None and len(sizes) >= _LEAST_FOR_BASELINE:
            return sum(sizes) / len(sizes) <= simple
        case "upper":
            return all(-target.limit <= error <= 0 for error in errors)
    return None


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Rank correlation, ties sharing their mean rank; None where it is not defined."""
    if len(a) < _SUFFICIENT:
        return None
    ranks_a, ranks_b = _ranks(a), _ranks(b)
    mean = (len(a) - 1) / 2
    da = [rank - mean for rank in ranks_a]
    db = [rank - mean for rank in ranks_b]
    scale = (sum(x * x for x in da) * sum(y * y for y in db)) ** 0.5
    return sum(x * y for x, y in zip(da, db, strict=True)) / scale if scale else None


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for position in range(start, end + 1):
            ranks[order[position]] = (start + end) / 2
        start = end + 1
    return ranks
