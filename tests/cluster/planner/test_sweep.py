"""Sweeps: what a task's result holds, results on disk, Ctrl-C, engines."""

from __future__ import annotations

import importlib.util

import pytest

from rainshadow.cluster.layout import Workload
from rainshadow.cluster.planner import sweep
from rainshadow.cluster.planner.space import Choices
from rainshadow.errors import InputError

WORK = Workload(sequence=2048, global_batch=32)


def task(chips: int = 16, system: str = "dgx_a100", **changes) -> sweep.Task:
    model = changes.pop("model", "gpt_1_7b")
    return sweep.Task(model=model, system=system, chips=chips, workload=WORK, **changes)


def test_results_are_kept_and_taken_up_again(tmp_path, monkeypatch):
    tasks = [task(8), task(16)]
    first = sweep.run(tasks, folder=tmp_path)
    assert all(outcome.result.best for outcome in first)
    assert len(list(tmp_path.iterdir())) == 2

    def again(*_):
        raise AssertionError("searched again")

    monkeypatch.setattr(sweep, "run_task", again)
    assert sweep.run(tasks, folder=tmp_path) == first


def test_ctrl_c_gives_what_was_found():
    def stop(done, total, best):
        if done == 3:
            raise KeyboardInterrupt

    cut, never = sweep.run([task(16), task(32)], inside=stop)
    assert cut.result.best is not None
    assert not cut.result.proof.complete
    assert cut.result.proof.evaluated < cut.result.proof.members
    assert never.rejected == "interrupted"


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (task(1, model="gpt_1t"), "times too much"),
        (task(97), "no degrees divide"),
        (task(24, "inf2_48xlarge"), "without a scale-out network"),
        (task(8, choices=Choices(precision=4)), "no peak for nvfp4"),
    ],
)
def test_a_task_that_finds_nothing_says_why(asked, why):
    (outcome,) = sweep.run([asked])
    assert outcome.result is None
    assert why in outcome.rejected
    assert outcome.fix


def test_an_unknown_engine_names_those_there_are():
    with pytest.raises(InputError, match="engine"):
        sweep.run([task()], engine="spark")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_ray_gives_what_one_process_gives():
    tasks = [task(8), task(16), task(1, model="gpt_1t")]
    assert sweep.run(tasks, engine="ray") == sweep.run(tasks)
