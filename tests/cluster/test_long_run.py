"""Long runs: Llama 3's effective time, all of Rainier, spares, bad input."""

from __future__ import annotations

import dataclasses

import pytest

from rainshadow.cluster.job import job_of, usual_batch
from rainshadow.cluster.long_run import Job, long_runs
from rainshadow.cluster.model_files import load_model
from rainshadow.cluster.reliability import load_reliability
from rainshadow.cluster.sizing import sized
from rainshadow.errors import InputError, MachineDataError, UnknownNameError
from rainshadow.machine import load_system

LLAMA = load_model("llama_3_1_405b")
META = load_reliability()


def job(system="dgx_h100_ib", chips=16384, **changes):
    base = Job(
        system=sized(load_system(system), chips),
        num_parameters=LLAMA.num_parameters,
        step_s=6.0,
        step_low_s=5.0,
        step_high_s=7.0,
        tokens_per_step=16_777_216,
        tokens=15e12,
        replicas=128,
    )
    return dataclasses.replace(base, **changes)


def by_policy(chosen, **options):
    return {run.policy: run for run in long_runs(chosen, META, **options)[0]}


def test_llama_3_stopped_every_three_hours_and_kept_more_than_nine_tenths():
    runs = by_policy(job())
    assert runs["whole"].stops_per_day.value == pytest.approx(419 / 54, rel=1e-3)
    assert 0.9 < runs["whole"].goodput.value < 1


def test_a_job_on_all_of_rainier_cannot_restart_whole():
    """Stops come every six minutes: a restart of everything is seldom over before the next."""
    runs = by_policy(job("rainier_full", 499_968, replicas=868, step_s=1.8))
    assert runs["whole"].goodput.value < 0.3
    assert runs["whole"].goodput.value < runs["partial"].goodput.value
    assert runs["elastic"].goodput.value > 0.9
    assert runs["elastic"].spare_chips > 1000


def test_ranges_enclose_and_days_follow_goodput():
    run = by_policy(job())["partial"]
    assert run.goodput.low < run.goodput.value < run.goodput.high
    assert run.days.low < run.days.value < run.days.high
    steps = 15e12 / 16_777_216
    assert run.days.value == pytest.approx(steps * 6.0 / run.goodput.value / 86400)
    assert run.goodput.grade == "assumed"


def test_without_spares_the_job_waits_for_repairs():
    assert by_policy(job(), spares=0)["partial"].goodput.value < 0.3
    assert by_policy(job(), spares=400)["partial"].goodput.value > 0.9


def test_one_replica_has_nobody_to_go_on():
    assert set(by_policy(job(replicas=1))) == {"whole", "partial"}


@pytest.mark.parametrize("changes", [{"tokens": 0}, {"step_s": 0.0}])
def test_nothing_to_do_is_refused(changes):
    with pytest.raises(InputError, match="is 0"):
        long_runs(job(**changes), META)


def test_a_job_takes_the_fastest_layout_of_a_usual_batch():
    system = sized(load_system("dgx_h100_ib"), 64)
    planned = job_of(load_model("llama_3_1_8b"), system, 1e12, sequence=8192)
    assert planned.workload.global_batch == usual_batch(64, planned.model, 8192)
    assert planned.layout.num_chips == 64
    assert planned.job.step_low_s < planned.job.step_s < planned.job.step_high_s


def test_a_model_that_fits_nowhere_says_so():
    system = sized(load_system("dgx_h100_ib"), 8)
    with pytest.raises(InputError, match="no layout of Llama"):
        job_of(LLAMA, system, 1e12, sequence=8192)


def test_reliability_is_data_that_is_checked(tmp_path):
    with pytest.raises(UnknownNameError, match="reliability"):
        load_reliability("nobody")
    path = tmp_path / "mine.toml"
    path.write_text('title = "mine"\n')
    with pytest.raises(MachineDataError, match="chip_hours_per_stop: missing"):
        load_reliability(str(path))
