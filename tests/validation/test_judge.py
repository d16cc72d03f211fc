"""Errors of groups, rank correlation, and points that share a run."""

from __future__ import annotations

import pytest

from rainshadow.validation.checkouts import Checkouts
from rainshadow.validation.judge import judge, spearman
from rainshadow.validation.points import Point
from rainshadow.validation.target import Target
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
