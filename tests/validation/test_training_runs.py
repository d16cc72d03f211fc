"""Published training runs: rows become cases, predictions keep the row's unit, bad rows say why."""

from __future__ import annotations

import csv

import pytest

from rainshadow.validation.checkouts import Checkouts
from rainshadow.validation.constant_rate import constant_rate_s, left_out, median_rates
from rainshadow.validation.judge import judge, quantile
from rainshadow.validation.leave_out import fit_to, validate_left_out
from rainshadow.validation.points import Point, read_points
from rainshadow.validation.target import Target
from rainshadow.validation.training_cases import case_of, in_metric
from rainshadow.validation.training_fit import leave_one_chip_out, leave_one_source_out
from rainshadow.validation.validate import Outcome, validate

#: Published by NVIDIA's Megatron-Bridge, Meta and Narayanan et al.; `split` says who may fit them.
ROW = {
    "id": "T1",
    "source": "NVIDIA-NeMo/Megatron-Bridge:docs/performance-summary.md",
    "model": "Llama-3.1-70B",
    "seq": "8192",
    "system": "DGX-H100",
    "chip": "H100",
    "n_chips": "64",
    "tp": "4",
    "pp": "8",
    "vp": "5",
    "cp": "1",
    "dp": "2",
    "micro_batch": "1",
    "global_batch": "128",
    "precision": "FP8",
    "metric": "tokens_per_s_per_chip",
    "value": "1600",
    "unit": "tokens/s/GPU",
    "notes": "container 25.11",
    "split": "held",
}


def points_of(tmp_path, *rows):
    path = tmp_path / "points.csv"
    columns = sorted({name for row in rows for name in row})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return read_points(path)


def test_a_row_is_predicted_in_its_own_unit_with_the_baseline_beside_it(tmp_path):
    (outcome,) = validate(points_of(tmp_path, ROW), Checkouts({}))
    assert 800 < outcome.predicted < 3200
    assert outcome.baseline is not None
    assert outcome.error == pytest.approx(1600 / outcome.predicted - 1), "errors are of the time"
    assert outcome.target.group == "training, not seen: H100"


@pytest.mark.parametrize("metric", ["step_time_s", "tokens_per_s_total", "tflops_per_chip"])
def test_every_metric_means_the_same_seconds(metric):
    case = case_of(ROW)
    value = {
        "step_time_s": case.measured_s,
        "tokens_per_s_total": case.workload.tokens / case.measured_s,
        "tflops_per_chip": case.workload.tokens
        * case.model.train_flops(8192)
        / case.measured_s
        / 64e12,
    }[metric]
    same = case_of({**ROW, "metric": metric, "value": str(value)})
    assert same.measured_s == pytest.approx(case.measured_s)
    assert in_metric(same, 2 * same.measured_s) == pytest.approx(
        2 * value if metric == "step_time_s" else value / 2
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model": "Nobody-7B"}, "unknown model 'Nobody-7B'"),
        ({"chip": "Z80"}, "no system with Z80"),
        ({"n_chips": "many"}, "invalid literal"),
        ({"value": "0"}, "value 0"),
        ({"precision": "NVFP4"}, "h100_sxm has no peak in nvfp4"),
        ({"metric": "time_to_train_min"}, "time to train only"),
        ({"model": "MaxText-1024B", "global_batch": "", "chip": "TPU-v5p"}, "no batch"),
    ],
)
def test_rows_that_cannot_be_scored_say_why(tmp_path, change, why):
    (outcome,) = validate(points_of(tmp_path, {**ROW, **change}), Checkouts({}))
    assert outcome.predicted is None
    assert why in outcome.why


def test_only_open_rows_are_left_out_in_turn(tmp_path):
    """Three sources, one of them held: two are predicted, each without its own rows."""
    other = {**ROW, "source": "Llama 3 Herd, arXiv 2407.21783", "id": "T2", "split": "open"}
    rows = [{**ROW, "split": "open"}, other, {**ROW, "id": "T3"}]
    outcomes = validate_left_out(points_of(tmp_path, *rows))
    assert [outcome.why for outcome in outcomes] == ["", "", "kept from every fit"]
    assert outcomes[0].target.group == "training, source left out: H100"


@pytest.mark.parametrize(
    ("leave_out", "same"),
    [(leave_one_chip_out, {"chip": "H100"}), (leave_one_source_out, {"source": ROW["source"]})],
)
def test_a_prediction_with_something_left_out_does_not_know_its_runs(leave_out, same):
    """The value of a left-out run changes what is predicted of others, never of itself."""
    other = {"source": "pytorch/torchtitan", "chip": "B200", "n_chips": "128", "value": "3000"}
    predicted = []
    for value in ("1600", "1900"):
        cases = [case_of({**ROW, "value": value}), case_of({**ROW, **other, **same})]
        cases.append(case_of({**ROW, **other, "model": "Llama-3.1-8B", "value": "20000"}))
        predicted.append(leave_out(*fit_to(cases)))
    assert predicted[0][0] == pytest.approx(predicted[1][0], rel=1e-3)
    assert predicted[0][1] == pytest.approx(predicted[1][1], rel=1e-3)
    assert abs(predicted[0][2] / predicted[1][2] - 1) > 1e-3


def test_the_baseline_knows_nothing_of_the_source_it_predicts():
    cases = [case_of({**ROW, "value": value}) for value in ("1000", "2000", "3000")]
    first, second, third = left_out(cases, ["a", "a", "b"])
    assert first == second == pytest.approx(cases[2].measured_s)
    assert third == pytest.approx(left_out(cases, ["a", "b", "c"])[2])


def test_the_baseline_of_an_unknown_chip_is_the_usual_share_of_its_peak():
    known, new = case_of(ROW), case_of({**ROW, "chip": "B200", "model": "Llama-3.1-8B"})
    assert constant_rate_s(known, median_rates([known])) == pytest.approx(known.measured_s)
    assert constant_rate_s(new, median_rates([known])) > 0


def test_a_baseline_must_be_beaten_where_there_are_enough_points():
    target = Target("g", "baseline", also=(Target("m", "mean", 0.1), Target("p", "p90", 0.2)))
    point = Point("p", "latency", 1.0, "s", {})
    worse = [Outcome(point, "f", target, 1.3, baseline=1.1)] * 8
    few, mean, tail = judge(worse[:7])
    assert (few.holds, mean.holds, tail.holds) == (None, False, False)
    assert judge(worse)[0].holds is False
    better = [Outcome(point, "f", target, 1.05, baseline=1.1)] * 8
    assert [verdict.holds for verdict in judge(better)] == [True, True, True]


def test_quantiles_lie_between_sorted_values():
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([1.0, 2.0], 0.9) == pytest.approx(1.9)
