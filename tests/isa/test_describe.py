"""What is said about instructions is read from their code, completely."""

from __future__ import annotations

import pytest

from rainshadow.isa.describe import (
    cost_of,
    cost_terms,
    engines_of,
    operands_of,
    raised_in,
    rules_of,
    source_of,
    summary_of,
)
from rainshadow.isa.instruction import load_instructions
from rainshadow.sim import recorder

INSTRUCTIONS = load_instructions()


@pytest.mark.parametrize("name", sorted(INSTRUCTIONS))
def test_every_instruction_has_rules_cost_engines_and_sources(name):
    cls = INSTRUCTIONS[name]
    assert rules_of(cls) and cost_of(cls) and operands_of(cls) and summary_of(cls).endswith(".")
    assert "Source of" in source_of(cls)
    assert set(engines_of(cls)) <= {"tensor", "vector", "scalar", "gpsimd", "dma", "sync"}
    assert engines_of(cls)


def test_rules_name_operands_limits_and_constants():
    copy = {rule.text: rule for rule in rules_of(INSTRUCTIONS["dma_copy"])}
    space = copy["The operand lies in one of `spaces`."]
    assert space.operands == ("dst", "src") and "private_hbm" in space.allowed
    shapes = rules_of(INSTRUCTIONS["tensor_tensor"])
    assert any(rule.operands[:3] == ("dst", "data1", "data2") for rule in shapes)
    (found,) = [
        r for r in rules_of(INSTRUCTIONS["max8"]) if r.operands == ("src",) and " to " in r.allowed
    ]
    assert found.allowed == "8 to 16384"
    assert engines_of(INSTRUCTIONS["tensor_copy"]) == ["vector", "gpsimd", "scalar"]


def test_rules_of_methods_that_instructions_share_are_followed():
    texts = [rule.text for rule in rules_of(INSTRUCTIONS["all_reduce"])]
    assert any("some tensors are in SBUF" in text for text in texts)


def test_the_words_of_a_cost_come_with_it():
    assert "float32 takes 4 passes" in cost_terms(INSTRUCTIONS["nc_matmul"])["in words"]
    assert "dma_work" in cost_terms(INSTRUCTIONS["dma_copy"])


def test_what_a_module_refuses():
    assert any("axes of 1 or more" in rule.allowed for rule in raised_in(recorder))
