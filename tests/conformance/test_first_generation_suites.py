"""AWS's own tests of the first generation, unmodified: one per function, and of sample kernels."""

from __future__ import annotations

from pathlib import Path

import pytest
from outside_suite import run

NEWEST = "RAINSHADOW_CHECKOUT_AWS_NEURON_SDK"
OLDER = "RAINSHADOW_CHECKOUT_AWS_NEURON_SDK_2_26"
SAMPLES = "RAINSHADOW_CHECKOUT_NKI_SAMPLES_2025"
PARALLEL = ("-p", "xdist", "-n", "2")

#: What fails, and why. Every entry must fail.
KNOWN = {
    "test_nki_isa_activation.TestNkiIsaExamplesActivation.test_activation": (
        "asks for results within 1e-5 of float32, after a rounding to bfloat16"
    ),
    "test_nki_isa_nc_match_replace8.TestNkiIsaExamplesMatchReplace8"
    ".test_nc_match_replace_indices8_mask": (
        "joins masks with Python's `and`, where AWS's documents ask for `&`: refused, since it "
        "would drop the first mask"
    ),
}
#: AWS expects it to fail.
EXPECTED = {"test_nki_isa_dma_transpose.TestNkiIsaExamplesDmaTranspose.test_dma_transpose_indirect"}


@pytest.mark.conformance(NEWEST)
def test_awss_tests_of_each_function(checkout, tmp_path):
    outcome = run(Path(checkout) / "nki" / "test", tmp_path / "report.xml", *PARALLEL)
    assert outcome.failed == set(KNOWN), outcome.output
    assert outcome.skipped == EXPECTED
    assert len(outcome.passed) >= 82


@pytest.mark.conformance(OLDER)
def test_awss_tests_of_each_function_at_2_26(checkout, tmp_path):
    outcome = run(Path(checkout) / "nki" / "test", tmp_path / "report.xml", *PARALLEL)
    assert outcome.failed == set(KNOWN), outcome.output
    assert not outcome.skipped
    assert len(outcome.passed) >= 72


#: The test looks for the instance's name in the files of a Trainium host.
HOST = "test_double_row_matmul.TestDoubleRowMatmul.test_double_row_matmul_numerical"


@pytest.mark.conformance(SAMPLES)
def test_sample_kernels(checkout, tmp_path):
    root = Path(checkout)
    outcome = run(
        root / "test" / "unit",
        tmp_path / "report.xml",
        *(*PARALLEL, "--simulation-only", "--deselect", "test_flash_attn_bwd.py"),
        path=(root / "src",),
    )
    assert all(name.startswith(HOST) for name in outcome.failed), outcome.output
    assert len(outcome.failed) == 3
    assert len(outcome.passed) >= 35


@pytest.mark.conformance(SAMPLES)
def test_flash_attention_backwards(checkout, tmp_path):
    """Apart and one at a time: the references of some take gigabytes each, all of them minutes."""
    root = Path(checkout)
    outcome = run(
        root / "test" / "unit",
        tmp_path / "report.xml",
        *("--simulation-only", "test_flash_attn_bwd.py"),
        path=(root / "src",),
    )
    assert not outcome.failed, outcome.output
    assert len(outcome.passed) >= 16
