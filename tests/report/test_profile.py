"""Aggregates of a kernel's timeline: they add up, and agree with what can be counted by hand."""

from __future__ import annotations

import json

import pytest

from rainshadow.machine import load_chip
from rainshadow.report.advice import advise
from rainshadow.report.compare import compare_profiles
from rainshadow.report.profile import summarize_profile
from rainshadow.report.profile_text import comparison_text, profile_text

CHIP = load_chip("trainium2")


def test_bytes_and_flops_are_the_kernels(matmul):
    profile = summarize_profile(matmul, CHIP)
    assert profile["tensor"]["flops"] == 2 * 128 * 64 * 512
    assert profile["hbm"]["read_bytes"] == 128 * (64 + 512) * 2
    assert profile["hbm"]["written_bytes"] == 64 * 512 * 4
    assert profile["instructions"] == 5
    assert profile["peak_bytes"]["psum"]["used_bytes"] == 2048


def test_utilisation_and_the_ideal_time_follow_from_the_counts(matmul):
    profile = summarize_profile(matmul, CHIP)
    tensor, hbm, dma, ideal = (profile[name] for name in ("tensor", "hbm", "dma", "ideal"))
    possible = profile["duration_s"] * CHIP.core_peak_flops
    assert tensor["mfu_fraction"] == pytest.approx(tensor["flops"] / possible)
    assert tensor["hfu_fraction"] == tensor["mfu_fraction"], "nothing is transposed"
    assert hbm["mbu_fraction"] * CHIP.hbm.bandwidth.value / CHIP.core.count.value == pytest.approx(
        hbm["bytes_per_s"]
    )
    assert dma["transfers"] == 3
    assert dma["bytes"] == hbm["read_bytes"] + hbm["written_bytes"]
    assert 0 < dma["efficiency_fraction"] <= 1
    assert ideal["time_s"] == max(ideal["bounds_s"].values()) <= profile["duration_s"]


def test_transposes_count_for_the_hardware_not_for_the_model():
    from rainshadow.nki import Shape, record
    from rainshadow.nki import isa as nisa
    from rainshadow.nki import language as nl
    from rainshadow.sim.options import SimOptions
    from rainshadow.sim.timing import time_trace

    def kernel(x):
        tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x)
        turned = nl.ndarray((64, 128), dtype=x.dtype, buffer=nl.psum)
        nisa.nc_transpose(turned, tile)

    x = Shape((128, 64), "float32")
    trace = record(kernel, (x,), chip=CHIP, options=SimOptions(data="none")).trace
    tensor = summarize_profile(time_trace(trace, CHIP), CHIP)["tensor"]
    assert (tensor["flops"], tensor["transpose_flops"]) == (0, 2 * 128 * 128 * 64)
    assert tensor["mfu_fraction"] == 0 < tensor["hfu_fraction"]


def test_advice_names_what_a_change_can_save(matmul):
    found = advise([matmul], 0, CHIP)
    assert found[0]["saved_fraction"] == max(row["saved_fraction"] for row in found)
    assert any("latency of DMAs" in row["without"] for row in found)
    for row in found:
        assert 0 < row["saved_s"] < matmul.duration_ps / 1e12


def test_a_profile_compared_with_itself_has_no_differences(matmul):
    profile = summarize_profile(matmul, CHIP)
    comparison = compare_profiles(profile, profile)
    assert comparison["speedup"] == 1
    assert all(row["first"] == row["second"] for row in comparison["figures"])
    text = "\n".join(comparison_text(comparison, ("a", "b")))
    assert "same" in text and "adds" not in text


def test_lines_add_up_to_the_duration(matmul):
    profile = summarize_profile(matmul, CHIP)
    assert sum(row["added_s"] for row in profile["lines"]) == pytest.approx(profile["duration_s"])
    assert sum(row["instructions"] for row in profile["lines"]) == profile["instructions"]
    assert all(row["file"].endswith("kernels.py") for row in profile["lines"])


def test_engines_opcodes_and_lines_are_busy_for_the_same_time(scaling):
    profile = summarize_profile(scaling, CHIP)
    busy = [sum(row["busy_s"] for row in profile[key]) for key in ("engines", "opcodes", "lines")]
    assert busy[0] == pytest.approx(busy[1]) == pytest.approx(busy[2])
    assert profile["bound_by"] == profile["engines"][0]["name"]


def test_a_kernel_without_instructions_has_a_profile():
    from rainshadow.nki import record
    from rainshadow.sim.timing import time_trace

    empty = time_trace(record(lambda: None, chip=CHIP).trace, CHIP)
    profile = summarize_profile(empty, CHIP)
    assert profile["duration_s"] == 0 and profile["bound_by"] is None
    assert profile_text(profile)


def test_the_profile_is_json_and_its_text_names_the_lines(matmul):
    profile = summarize_profile(matmul, CHIP)
    assert json.loads(json.dumps(profile)) == profile
    text = "\n".join(profile_text(profile))
    assert "nisa.nc_matmul(dst=total" in text and "busiest" in text
