"""Errors of groups, rank correlation, and points that share a run."""

from __future__ import annotations

import pytest

from rainshadow.report.validation import as_markdown
from rainshadow.validation.checkouts import Checkouts
from rainshadow.validation.judge import beating_bounds, judge, judge_pools, spearman
from rainshadow.validation.points import Point
from rainshadow.validation.target import Pool, Target
from rainshadow.validation.validate import Outcome, families, validate


def outcome(published: float, predicted: float, target: Target) -> Outcome:
    point = Point("p", "latency", published, "s", {})
    return Outcome(point, "family", target, predicted)


def test_rules_of_groups():
    each = Target("each", "each", 0.1)
    median = Target("median", "median", 0.1)
    upper = Target("upper", "upper", 0.4)
    verdicts = judge(
        [
            outcome(1.0, 1.05, each),
            outcome(1.0, 1.2, each),
            outcome(1.0, 1.05, median),
            outcome(1.0, 1.05, median),
            outcome(1.0, 3.0, median),
            outcome(1.0, 0.7, upper),
            outcome(1.0, 9.0, Target("report", "report")),
        ]
    )
    assert [(v.target.group, v.holds) for v in verdicts] == [
        ("each", False),
        ("median", True),
        ("upper", True),
        ("report", None),
    ]
    assert verdicts[0].worst_error == pytest.approx(0.2)
    assert verdicts[0].mean_error == pytest.approx(0.125)


def test_spearman():
    assert spearman([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [40, 30, 20, 10]) == pytest.approx(-1)
    assert spearman([1, 2, 2, 4], [1, 2, 3, 4]) == pytest.approx(0.9487, abs=1e-4)
    assert spearman([1, 2], [1, 2]) is None
    assert spearman([1, 1, 1], [1, 2, 3]) is None


def test_every_family_has_the_four_functions():
    for name, family in families().items():
        for function in ("claims", "launch", "value", "target"):
            assert callable(getattr(family, function, None)), f"{name}.{function}"
        assert family.__doc__, name


def test_points_that_cannot_run_say_why(tmp_path):
    rows = [
        {"kernel": "x", "source_of_kernel": "-"},
        {"kernel": "x", "source_of_kernel": "somewhere:kernel.py"},
        {"kernel": "mlp (TKG)", "source_of_kernel": "core/mlp/mlp.py:mlp", "shapes": ""},
    ]
    points = [Point(str(n), "latency", 1.0, "s", row) for n, row in enumerate(rows)]
    outcomes = validate(points, Checkouts({}))
    assert [o.why.split("\n")[0] for o in outcomes] == [
        "no kernel is published for it",
        "no family computes it",
        "needs --checkout nki-library=PATH",
    ]
    assert all(o.predicted is None for o in outcomes)


def test_a_pool_needs_its_median_and_its_rank():
    strict = Pool("all", median=0.1, rank=0.9)
    first = Target("first", "median", 0.2, strict)
    second = Target("second", "median", 0.2, strict, remark="known")
    close = [outcome(float(n), n * 1.05, first) for n in range(1, 5)]
    (verdict,) = judge_pools([*close, outcome(9.0, 9.5, second)])
    assert verdict.holds and verdict.num_points == 5 and verdict.rank == pytest.approx(1)
    (verdict,) = judge_pools([*close, *(outcome(9.0, 12.0, second) for _ in range(8))])
    assert not verdict.holds
    (verdict,) = judge_pools([outcome(1.0, 1.05, first), *close, outcome(0.5, 9.5, second)])
    assert not verdict.holds, "the rank is wrong"


def test_a_run_faster_than_its_bound_is_named():
    point = Point("p", "latency", 1.0, "s", {})
    slow = Outcome(point, "family", None, 1.0, duration_s=2.0, bound_s=1.5)
    fast = Outcome(point, "family", None, 1.0, duration_s=1.0, bound_s=1.5)
    assert beating_bounds([slow, fast]) == [fast]


def test_the_document_has_every_point_every_remark_and_every_reason():
    target = Target("group", "each", 0.1, remark="the cause is known")
    outcomes = [
        outcome(1.0, 2.0, target),
        Outcome(Point("q", "latency", 1.0, "s", {}), "family", None, why="no kernel | at all"),
    ]
    text = as_markdown(outcomes, judge(outcomes), judge_pools(outcomes), made="version 1")
    for part in ("| p |", "+100.0 %", "the cause is known", "no kernel / at all", "version 1"):
        assert part in text
    assert "Of 2 published figures 1 are" in text
