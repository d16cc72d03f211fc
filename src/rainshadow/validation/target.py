"""Knows how close a prediction must be to its point, and how a group of points is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: each: every error is within the limit.  median: the median of the group is.  upper: the
#: published figure is a bound that the prediction must not exceed, nor fall below `limit` of it.
#: report: no limit; the figure is a target or has a doubtful shape.
Rule = Literal["each", "median", "upper", "report"]


@dataclass(frozen=True, slots=True)
class Target:
    """Which group a point belongs to, and the largest relative error allowed in it."""

    group: str
    rule: Rule
    limit: float = 0.0
