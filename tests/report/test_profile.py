"""Aggregates of a kernel's timeline: they add up, and agree with what can be counted by hand."""

from __future__ import annotations

import json

import pytest

from rainshadow.machine import load_chip
from rainshadow.report.profile import summarize_profile
from rainshadow.report.text import profile_text

CHIP = load_chip("trainium2")


def test_bytes_and_flops_are_the_kernels(matmul):
    profile = summarize_profile(matmul, CHIP)
    assert profile["tensor"]["flops"] == 2 * 128 * 64 * 512
    assert profile["hbm"]["read_bytes"] == 128 * (64 + 512) * 2
    assert profile["hbm"]["written_bytes"] == 64 * 512 * 4
    assert profile["instructions"] == 5
    assert profile["peak_bytes"]["psum"]["used_bytes"] == 2048


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
