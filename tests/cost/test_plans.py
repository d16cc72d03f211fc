"""Plans over systems and sizes: limits, the front, what is said when nothing will do."""

from __future__ import annotations

import pytest

from rainshadow.cluster.layout import Workload
from rainshadow.cluster.planner.sweep import Task, run
from rainshadow.cost.explain import step_influences
from rainshadow.cost.plan_summary import summarize_plans
from rainshadow.cost.plans import Limits, rank
from rainshadow.errors import InputError, NotModelled
from rainshadow.machine import load_site

TOKENS = 1e11


@pytest.fixture(scope="module")
def outcomes():
    return run(
        [
            Task(
                model="llama_3_1_8b", system=system, chips=chips,
                workload=Workload(sequence=4096, global_batch=256), top=3,
            )
            for system in ("trn2_ultraserver", "p5en_48xlarge", "gaudi3_node")
            for chips in (16, 64)
        ]
    )  # fmt: skip


def ranked(outcomes, objective="time", prices=None, **limits):
    return rank(
        outcomes, tokens=TOKENS, objective=objective, limits=Limits(**limits),
        site=load_site("aws_fleet"), prices=prices or {}, top=4,
    )  # fmt: skip


def test_best_first_within_memory_and_with_ranges(outcomes):
    for objective in ("time", "cost", "energy"):
        plans = ranked(outcomes, objective).plans
        values = [plan.value(objective) for plan in plans]
        assert values == sorted(values)
        for plan in plans:
            assert bool(plan.step.fits)
            assert bool(plan.step.possible)
            assert plan.time_s.low <= plan.time_s.value <= plan.time_s.high


def test_the_front_has_nothing_that_another_plan_beats(outcomes):
    table = ranked(outcomes)
    keys = [(p.time_s.value, p.value("cost"), p.value("energy"), p.chips) for p in table.pareto]
    for one in keys:
        for other in keys:
            assert one == other or not all(a <= b for a, b in zip(other, one, strict=True))
    assert table.plans[0].time_s.value in [key[0] for key in keys]


def test_a_limit_that_binds_is_named_with_its_excess(outcomes):
    quickest = ranked(outcomes).plans[0].time_s.value
    with pytest.raises(InputError, match="--deadline") as caught:
        ranked(outcomes, deadline_s=quickest / 2)
    assert "2 times as long" in str(caught.value)
    cheapest = ranked(outcomes, "cost").plans[0].cost_usd.value
    with pytest.raises(InputError, match="4 times as much"):
        ranked(outcomes, budget_usd=cheapest / 4)
    with pytest.raises(InputError, match="smallest plan has 16 chips"):
        ranked(outcomes, max_chips=8)
    with pytest.raises(InputError, match="with the other limits kept"):
        ranked(outcomes, deadline_s=quickest * 1.01, budget_usd=cheapest * 1.01)


def test_a_missing_price_names_what_to_type_and_the_file(outcomes):
    table = ranked(outcomes, "cost")
    assert all(plan.cost_usd is not None for plan in table.plans)
    missing = {title: fix for title, why, fix in table.rejected if "not known" in why}
    assert "llama_3_1_8b on 16 gaudi3_node" in missing
    assert all("--price" in fix and "data/prices" in fix for fix in missing.values())
    with pytest.raises(NotModelled, match="no plan has a known cost"):
        ranked([one for one in outcomes if one.task.system == "gaudi3_node"], "cost")
    given = ranked(outcomes, "cost", {"gaudi3": 0.01})
    assert given.plans[0].task.system == "gaudi3_node"
    assert given.plans[0].price.kind == "yours"


def test_trainium_2_training_is_said_to_be_without_a_public_table(outcomes):
    table = ranked([one for one in outcomes if one.task.system == "trn2_ultraserver"])
    summary = summarize_plans(
        table, models=["llama_3_1_8b"], tokens=TOKENS, limits=Limits(), site="aws_fleet",
        prices={}, command="",
    )  # fmt: skip
    assert any("no public table of Trainium 2 training" in note for note in summary["notes"])
    assert all(plan["notes"] for plan in summary["plans"])


def test_what_decides_a_step_is_ordered_and_signed(outcomes):
    plan = ranked(outcomes).plans[0]
    found = step_influences(plan.model, plan.system, plan.layout, plan.task.workload)
    gains = [abs(entry.gain) for entry in found]
    assert gains == sorted(gains, reverse=True)
    assert 0 < found[0].gain < 0.1
    assert all(entry.low <= entry.high for entry in found)
