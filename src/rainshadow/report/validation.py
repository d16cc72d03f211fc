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
from rainshadow.validation.judge import PoolVerdict, Verdict, beating_bounds
from rainshadow.validation.validate import Outcome

_FORMATS: dict[str, Callable[[float], str]] = {
    "s": format_seconds,
    "B": format_bytes,
    "B/s": format_rate,
    "count": format_count,
}
_HOLDS = {True: "yes", False: "NO", None: "-"}
_RULES = {"upper": "bound"}


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
    rule = verdict.target.rule
    if rule == "report":
        return "none"
    if rule == "baseline":
        return rule
    return f"{_RULES.get(rule, rule)} {100 * verdict.target.limit:.0f} %"


def _percent(size: float | None) -> str:
    return "-" if size is None else f"{100 * size:.1f} %"


#: Columns of the groups' table and their width in text.
_COLUMNS = {
    "group": -46, "points": 6, "median": 8, "mean": 8, "P90": 8, "bias": 8, "worst": 9,
    "rank": 6, "baseline": 8, "target": 12, "holds": 5,
}  # fmt: skip


def _cells(verdict: Verdict) -> list[str]:
    """A row of the groups' table. mean: of the errors' sizes, as for the baseline; bias: signed."""
    return [
        verdict.target.group,
        str(verdict.num_points),
        _percent(verdict.median_error),
        _percent(verdict.mean_size),
        _percent(verdict.p90),
        _signed(verdict.mean_error),
        _signed(verdict.worst_error),
        "-" if verdict.rank is None else f"{verdict.rank:.3f}",
        _percent(verdict.baseline_size),
        _limit(verdict),
        _HOLDS[verdict.holds],
    ]


def group_rows(verdicts: Sequence[Verdict]) -> list[str]:
    """The groups' table in Markdown."""
    rows = [list(_COLUMNS), ["---"] * len(_COLUMNS), *map(_cells, verdicts)]
    return [f"| {' | '.join(row)} |" for row in rows]


def _line(cells: Sequence[str]) -> str:
    widths = _COLUMNS.values()
    padded = [
        cell.ljust(-width) if width < 0 else cell.rjust(width)
        for cell, width in zip(cells, widths, strict=True)
    ]
    return " ".join(padded)


def _pool_line(verdict: PoolVerdict) -> str:
    pool = verdict.pool
    rank = "-" if verdict.rank is None else f"{verdict.rank:.3f}"
    return (
        f"{pool.name}: {verdict.num_points} points, median error "
        f"{100 * verdict.median_error:.1f} % (target {100 * pool.median:.0f} %), rank correlation "
        f"{rank} (target {pool.rank}): {'holds' if verdict.holds else 'MISSED'}"
    )


def _bounds_line(outcomes: Sequence[Outcome]) -> str:
    faster = beating_bounds(outcomes)
    shown = ", ".join(outcome.point.id for outcome in faster[:5])
    return f"runs faster than their work at peak rates: {len(faster)}" + (
        f" (points {shown})" if shown else ""
    )


def as_text(
    outcomes: Sequence[Outcome], verdicts: Sequence[Verdict], pools: Sequence[PoolVerdict] = ()
) -> list[str]:
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
    lines.append(_line(list(_COLUMNS)))
    lines += [_line(_cells(verdict)) for verdict in verdicts]
    lines += [_pool_line(verdict) for verdict in pools]
    lines.append(_bounds_line(outcomes))
    reasons = _reasons(outcomes)
    if reasons:
        lines.append("")
        lines.append("not run:")
        lines += [
            f"  {number:>4} x {why} (for example {example})" for why, number, example in reasons
        ]
    return lines


def as_markdown(
    outcomes: Sequence[Outcome],
    verdicts: Sequence[Verdict],
    pools: Sequence[PoolVerdict] = (),
    *,
    made: str,
) -> str:
    """A document. made: when and by which version, for the reader."""
    run = sum(outcome.predicted is not None for outcome in outcomes)
    lines = [
        "# Published figures, computed again",
        "",
        "Made by `rainshadow validate --points TABLE.csv --checkout ... --markdown`, not by hand:",
        f"{made}.",
        f"Of {len(outcomes)} published figures {run} are computed again below, and the last table",
        "says why the others are not. An error is predicted over published, less one.",
        "",
        *group_rows(verdicts),
        "",
    ]
    lines += [f"- {line}" for line in (*map(_pool_line, pools), _bounds_line(outcomes))]
    remarks = [(v.target.group, v.target.remark) for v in verdicts if v.target.remark]
    if remarks:
        lines += ["", "## What is known about the errors", ""]
        lines += [f"- **{group}**: {remark}" for group, remark in remarks]
    lines += ["", "## Every point"]
    for group, members in _groups(outcomes).items():
        lines += ["", f"### {group}", "", "| point | what | predicted | published | error |"]
        lines.append("|---|---|---|---|---|")
        for outcome in members:
            point = outcome.point
            figures = [
                _figure(value, point.dimension, point["unit"])
                for value in (outcome.predicted, point.value)
            ]
            what = point["shapes"] or point["kernel"] or f"{point['model']} on {point['system']}"
            what = f"{what}; {point.metric}".replace("|", "/")
            lines.append(
                f"| {point.id} | {what} | {figures[0]} | {figures[1]} | {_signed(outcome.error)} |"
            )
    reasons = _reasons(outcomes)
    if reasons:
        lines += ["", "## Not run", "", "| points | why | for example |", "|---|---|---|"]
        lines += [
            f"| {number} | {why.replace('|', '/')} | {example} |"
            for why, number, example in reasons
        ]
    return "\n".join(lines)


def as_dictionary(
    outcomes: Sequence[Outcome], verdicts: Sequence[Verdict], pools: Sequence[PoolVerdict] = ()
) -> dict[str, Any]:
    """Plain values: SI, errors as fractions."""
    return {
        "pools": [
            {
                "pool": verdict.pool.name,
                "num_points": verdict.num_points,
                "median_error": verdict.median_error,
                "rank_correlation": verdict.rank,
                "holds": verdict.holds,
            }
            for verdict in pools
        ],
        "beating_bounds": [outcome.point.id for outcome in beating_bounds(outcomes)],
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
                "duration_s": outcome.duration_s,
                "bound_s": outcome.bound_s,
                "baseline": outcome.baseline,
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
                "mean_size": verdict.mean_size,
                "p90": verdict.p90,
                "mean_error": verdict.mean_error,
                "worst_error": verdict.worst_error,
                "rank_correlation": verdict.rank,
                "baseline_mean_size": verdict.baseline_size,
                "holds": verdict.holds,
            }
            for verdict in verdicts
        ],
    }
