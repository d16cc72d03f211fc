"""Serving points: rows become servers, and errors stay what the documents say they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from rainshadow.errors import InputError
from rainshadow.validation.inference import ServingPoint, predict, read_points

HEADER = "id,source,model,isl,osl,chip,n_chips,tp,global_batch,precision,metric,value,split\n"
TRN2 = "aws-neuron/aws-neuron-sdk:libraries/nxd-inference/tutorials/llama{}_perf_comparison.csv"
#: Published with the Neuron SDK: 16 Trainium 2, batch 1, 10,000 in, 1,500 out.
_405B = f"{TRN2.format('405b')},Llama-3.1-405B,10000,1500,Trainium2,16,64,1,BF16"
_70B = f"{TRN2.format('70b')},Llama-3.3-70B,10000,1500,Trainium2,16,64,1,BF16"
_H200 = "NVIDIA/TensorRT-LLM:perf,Llama-3.3-70B,128,128,H200,1,1,,FP8"
ROWS = [
    f"I0380,{_405B},ttft_p50_ms,2442,open",
    f"I0381,{_405B},tpot_p50_ms,37.9,open",
    f"I0386,{_70B},ttft_p50_ms,814.2,open",
    f"I0387,{_70B},tpot_p50_ms,19.6,open",
    f"I0003,{_H200},output_tokens_per_s_total,3803,open",
]


def points_of(tmp_path: Path, rows: list[str]) -> list[ServingPoint]:
    path = tmp_path / "points.csv"
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return read_points(path)


def test_trainium_2_decode_within_15_and_prefill_within_25_percent(tmp_path):
    for point in points_of(tmp_path, ROWS[:4]):
        limit = 0.15 if point.metric == "tpot_p50_ms" else 0.25
        assert predict(point) == pytest.approx(point.value, rel=limit), point.id


def test_a_saturated_row_is_predicted_at_its_best_batch(tmp_path):
    (point,) = points_of(tmp_path, ROWS[4:])
    assert point.batch is None and not point.fixed_batch
    assert predict(point) == pytest.approx(point.value, rel=0.25)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROWS[4].replace("H200", "Z80"), "chip 'Z80'"),
        (ROWS[4].replace("output_tokens_per_s_total", "happiness"), "metric 'happiness'"),
        (ROWS[4].replace("3803", "many"), "I0003: could not convert"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, message):
    with pytest.raises(InputError, match=message):
        points_of(tmp_path, [row])


def test_missing_columns_are_named(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("id,model\n1,x\n")
    with pytest.raises(InputError, match="no column chip"):
        read_points(path)
