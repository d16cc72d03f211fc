"""Nothing is found in correct kernels; edits that break them are reported."""

from __future__ import annotations

import numpy as np
import pytest
from hazard_cases import library_cases, own_cases, sample_cases, tutorial_cases
from hazard_mutations import Case, Edit, check, edits_of, judge, results

from rainshadow.machine import load_chip

CHIP = load_chip("trainium2")
OWN = own_cases()


@pytest.mark.parametrize("case", OWN, ids=[case.name for case in OWN])
def test_nothing_is_found_in_our_kernels(case):
    assert check(case, CHIP) == []


@pytest.mark.conformance("RAINSHADOW_CHECKOUT_AWS_NEURON_SDK")
def test_nothing_is_found_in_the_tutorials_of_aws(checkout):
    assert [check(case, CHIP) for case in tutorial_cases(checkout)] == [[]] * 11


@pytest.mark.conformance("RAINSHADOW_CHECKOUT_NKI_SAMPLES")
def test_nothing_is_found_in_the_samples_of_aws(checkout):
    assert [found for case in sample_cases(checkout) for found in check(case, CHIP)] == []


@pytest.mark.conformance("RAINSHADOW_CHECKOUT_NKI_LIBRARY")
def test_nothing_is_found_in_the_library_of_aws(checkout):
    assert [found for case in library_cases(checkout) for found in check(case, CHIP)] == []


def some_edits(case: Case, per_kind: int) -> list[Edit]:
    """A few of each kind."""
    rng = np.random.default_rng(1)
    edits = edits_of(case, CHIP, rng)
    kinds = sorted({edit.kind for edit in edits})
    by_kind = {kind: [edit for edit in edits if edit.kind == kind] for kind in kinds}
    return [
        some[number]
        for some in by_kind.values()
        for number in rng.permutation(len(some))[:per_kind].tolist()
    ]


NAMES = ("matmul_in_banks", "rotate_halves", "scatter_rows", "diffuse_on_two_cores",
         "sum_and_spread_on_two_cores", "add_in_two_buffers")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_edits_that_have_an_effect_are_reported(name):
    case = next(case for case in OWN if case.name == name)
    original = results(case, CHIP)
    assert all(world == original[0] for world in original), "correct in every world"
    outcomes = [judge(case, edit, original, CHIP) for edit in some_edits(case, 2)]
    missed = [one for one in outcomes if one.effect and not one.findings]
    assert missed == []
    assert sum(bool(one.effect) for one in outcomes) >= 3
