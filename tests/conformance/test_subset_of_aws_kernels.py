"""The strict check finds no error in the kernels that AWS's own compiler compiles."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rainshadow.errors import InputError
from rainshadow.findings import has_errors
from rainshadow.nki.subset import check_subset

pytestmark = pytest.mark.conformance


def checkout(variable: str) -> Path:
    if variable not in os.environ:
        pytest.skip(f"CONFORMANCE NOT RUN: set {variable} to a checkout")
    return Path(os.environ[variable])


def test_aws_kernel_library_is_within_the_subset():
    root = checkout("RAINSHADOW_CHECKOUT_NKI_LIBRARY") / "src"
    checked = 0
    for path in sorted(root.rglob("*.py")):
        try:
            findings = check_subset(path)
        except InputError:  # no kernels in it, or (one file of the snapshot) no Python
            continue
        checked += 1
        assert not has_errors(findings), "\n".join(map(str, findings))
    assert checked > 30


def test_aws_examples_are_within_the_subset():
    root = checkout("RAINSHADOW_CHECKOUT_AWS_NEURON_SDK") / "nki" / "examples"
    paths = sorted(root.glob("*/*_kernels.py"))
    assert paths
    for path in paths:
        findings = check_subset(path)
        assert not has_errors(findings), "\n".join(map(str, findings))
