"""Knows how the comparison with published figures is shown: text, Markdown, JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rainshadow.units import (
    format_bytes,
    format_count,
    format_rate,
    format_seconds,
)
from rainshadow.validation.judge import Verdict
from rainshadow.validation.validate import Outcome

_FORMATS: dict[str, Callable[[float], str]] = {
    "s": format_seconds,
    "B": format_bytes,
    "B/s": format_rate,
    "count": format_count,
}
_HOLDS = {True: "yes", False: "NO", None: "-"}
_RULES = {"each": "each", "median": "median", "upper": "bound", "report": "none"}


def _figure(value: float | None, dimension: str, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "%":
        return f"{100 * value:.2f} %"
    form = _FORMATS.get(dimension)
    return form(value) if form else f"{value:.4g} {dimension}"


def _signed(error: float | None) -> str:
    return "-" if error is None else f"{100 * error:+.1f} %"


def _groups(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.target is not None:
            groups.setdefault(outcome.target.group, []).append(outcome)
    return groups


def _reasons(outcomes: Sequence[Outcome]) -> list[tuple[str, int, str]]:
    """Why points were not run, how many, and one of them."""
    counts = Counter(outcome.why for outcome in outcomes if outcome.predicted is None)
    examples = {outcome.why: outcome.point.id for outcome in reversed(outcomes) if outcome.why}
    return [(why, number, examples[why]) for why, number in counts.most_common()]


def _limit(verdict: Verdict) -> str:
    if verdict.target.rule == "report":
        return "none"
    return f"{_RULES[verdict.target.rule]} {100 * verdict.target.limit:.0f} %"


def as_text(outcomes: Sequence[Outcome], verdicts: Sequence[Verdict]) -> list[str]:
    """Lines for a terminal: every point by group, the groups, what could not be run."""
    lines: list[str] = []
    for group, members in _groups(outcomes).items():
        lines.append(group)
        for outcome in members:
            point = outcome.point
            figures = [
                _figure(value, point.dimension, point["unit"])
                for value in (outcome.predicted, point.value)
            ]
            lines.append(
                f"  {point.id:<34} {figures[0]:>12} published {figures[1]:>12} "
                f"{_signed(outcome.error):>10}"
            )
    lines.append("")
    lines.append(
        f"{'group':<46} {'points':>6} {'median':>8} {'mean':>8} {'worst':>9} {'rank':>6}  "
        f"{'target':<12} holds"
    )
    for verdict in verdicts:
        rank = "-" if verdict.rank is None else f"{verdict.rank:.3f}"
        lines.append(
            f"{verdict.target.group:<46} {verdict.num_points:>6} "
            f"{100 * verdict.median_error:>6.1f} % {_signed(verdict.mean_error):>8} "
            f"{_signed(verdict.worst_error):>9} {rank:>6}  {_limit(verdict):<12} "
            f"{_HOLDS[verdict.holds]}"
        )
    reasons = _reasons(outcomes)
    if reasons:
        lines.append("")
        lines.append("not run:")
        lines += [
            f"  {number:>4} x {why} (for example {example})" for why, number, example in reasons
        ]
    return lines


def as_markdown(outcomes: Sequence[Outcome], verdicts: Sequence[Verdict]) -> str:
    """The same as tables."""
    lines = [
        "| group | points | median error | mean error | worst | rank | target | holds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for verdict in verdicts:
        rank = "-" if verdict.rank is None else f"{verdict.rank:.3f}"
        lines.append(
            f"| {verdict.target.group} | {verdict.num_points} "
            f"| {100 * verdict.median_error:.1f} % | {_signed(verdict.mean_error)} "
            f"| {_signed(verdict.worst_error)} | {rank} | {_limit(verdict)} "
            f"| {_HOLDS[verdict.holds]} |"
        )
    for group, members in _groups(outcomes).items():
        lines += ["", f"### {group}", "", "| point | what | predicted | published | error |"]
        lines.append("|---|---|---|---|---|")
        for outcome in members:
            point = outcome.point
            figures = [
                _figure(value, point.dimension, point["unit"])
                for value in (outcome.predicted, point.value)
            ]
            what = f"{point['shapes'] or point['kernel']}; {point.metric}".replace("|", "/")
            lines.append(
                f"| {point.id} | {what} | {figures[0]} | {figures[1]} | {_signed(outcome.error)} |"
            )
    reasons = _reasons(outcomes)
    if reasons:
        lines += ["", "### Not run", "", "| points | why | for example |", "|---|---|---|"]
        lines += [
            f"| {number} | {why.replace('|', '/')} | {example} |"
            for why, number, example in reasons
        ]
    return "\n".join(lines)


def as_dictionary(outcomes: Sequence[Outcome], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Plain values: SI, errors as fractions."""
    return {
        "points": [
            {
                "id": outcome.point.id,
                "family": outcome.family,
                "group": outcome.target.group if outcome.target else None,
                "metric": outcome.point.metric,
                "unit": outcome.point.dimension,
                "predicted": outcome.predicted,
                "published": outcome.point.value,
                "error": outcome.error,
                "not_run": outcome.why or None,
                "source": outcome.point["source"],
            }
            for outcome in outcomes
        ],
        "groups": [
            {
                "group": verdict.target.group,
                "rule": verdict.target.rule,
                "limit": verdict.target.limit,
                "num_points": verdict.num_points,
                "median_error": verdict.median_error,
                "mean_error": verdict.mean_error,
                "worst_error": verdict.worst_error,
                "rank_correlation": verdict.rank,
                "holds": verdict.holds,
            }
            for verdict in verdicts
        ],
    }
