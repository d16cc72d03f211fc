"""Hazards in every launch of AWS's own tests: nothing is found in a kernel that is correct."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from outside_suite import run

NEWEST = "RAINSHADOW_CHECKOUT_AWS_NEURON_SDK"
SAMPLES = "RAINSHADOW_CHECKOUT_NKI_SAMPLES_2025"

#: Examples of an indirect store: they return a matrix of which they have written every second row.
HALF_WRITTEN = {
    f"test_nki_nl_load_store_indirect.TestNkiExampleNlLoadStoreIndirect.test_indirect_save_{number}"
    for number in (1, 2)
}


def findings(output: str) -> list[str]:
    """Rules of the findings that the end of a run lists."""
    summary = output[output.index("kernel launches on a simulated") :]
    return re.findall(r"^  (?:error|warning) ([\w-]+):", summary, re.MULTILINE)


@pytest.mark.conformance(NEWEST)
def test_awss_tests_of_each_function(checkout, tmp_path):
    folder = Path(checkout) / "nki" / "test"
    plain = run(folder, tmp_path / "plain.xml")
    outcome = run(folder, tmp_path / "report.xml", "--rainshadow-check")
    assert outcome.failed - plain.failed == HALF_WRITTEN, outcome.output
    assert findings(outcome.output) == ["partly-uninitialized"] * 2


@pytest.mark.conformance(SAMPLES)
def test_sample_kernels(checkout, tmp_path):
    root = Path(checkout)
    words = ("--rainshadow-check", "--simulation-only", "--deselect", "test_flash_attn_bwd.py")
    outcome = run(
        root / "test" / "unit", tmp_path / "report.xml", *words, path=(root / "src",)
    )  # fmt: skip
    assert findings(outcome.output) == [], outcome.output
    assert len(outcome.passed) >= 35
