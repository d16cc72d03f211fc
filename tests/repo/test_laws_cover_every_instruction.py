"""Every instruction is under the laws of tests/laws: one that is left out is a fault here."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from rainshadow.isa.instruction import load_instructions

LAWS = Path(__file__).resolve().parents[1] / "laws"


@pytest.fixture
def laws(monkeypatch):
    """Opcodes with laws, by the table that has them."""
    monkeypatch.syspath_prepend(str(LAWS))
    pytest.importorskip("torch")
    one_core = importlib.import_module("legal_calls").RECIPES
    several = importlib.import_module("test_between_cores").LAWS
    return {"legal_calls.RECIPES": set(one_core), "test_between_cores.LAWS": set(several)}


def test_every_instruction_has_a_law_and_every_law_an_instruction(laws):
    covered = set.union(*laws.values())
    assert covered == set(load_instructions()), "give a new instruction a recipe or a law"
    assert sum(map(len, laws.values())) == len(covered), "one law each"


def test_every_law_of_legal_calls_runs_over_all_of_them(laws, monkeypatch):
    module = importlib.import_module("test_every_instruction")
    functions = [value for name, value in vars(module).items() if name.startswith("test_")]
    assert len(functions) >= 3
    for function in functions:
        (mark,) = [mark for mark in function.pytestmark if mark.name == "parametrize"]
        assert set(mark.args[1]) == laws["legal_calls.RECIPES"]


def test_every_fast_path_is_of_an_instruction_with_a_law(laws):
    fast = importlib.import_module("rainshadow.sim.fast").fast_paths()
    assert fast and {cls.opcode for cls in fast} <= laws["legal_calls.RECIPES"]
