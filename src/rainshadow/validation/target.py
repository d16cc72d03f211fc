"""Knows how close a prediction must be to its point, and how a group of points is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: each: every error is within the limit.  median: the median of the group is.  upper: the
#: published figure is a bound that the prediction must not exceed, nor fall below `limit` of it.
#: mean, p90: the mean of the errors' sizes is, nine of ten errors are.  baseline: the mean size is
#: below the baseline's on the same points.
#: report: no limit; the figure is a target or has a doubtful shape.
Rule = Literal["each", "median", "mean", "p90", "upper", "baseline", "report"]


@dataclass(frozen=True, slots=True)
class Pool:
    """Groups judged together: a largest median error and a least rank correlation."""

    name: str
    median: float
    rank: float


@dataclass(frozen=True, slots=True)
class Target:
    """Which group a point belongs to, and the largest relative error allowed in it.

    pool: further judgement with other groups.  remark: what is known about the group's errors.
    also: further groups it counts in.  of_rate: the figure is a rate, and errors are those of the
    time that it stands for.
    """

    group: str
    rule: Rule
    limit: float = 0.0
    pool: Pool | None = None
    remark: str = ""
    also: tuple[Target, ...] = ()
    of_rate: bool = False
