"""Laws of every instruction: fast paths, layouts and earlier calls change nothing; faults are told.

Instructions of one core by `legal_calls`, those between cores and ranks by `test_between_cores`.
"""

from __future__ import annotations

import inspect
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from legal_calls import GEN4, RECIPES
from random_operands import NUMBERS, Operands, other_tensors
from random_programs import ABSURD, FUNCTIONS, is_close

from rainshadow.errors import NkiValidationError
from rainshadow.isa import rules
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.instruction import REGISTRY, Instruction
from rainshadow.machine import load_chip
from rainshadow.nki.isa._arguments import _fault_of
from rainshadow.sim.options import SimOptions
from rainshadow.sim.recorder import Recorder, activate

pytest.importorskip("torch")  # fast paths exist where torch is loaded

#: A warning is a wrong answer that NumPy has noticed.
pytestmark = pytest.mark.filterwarnings("error")
SEEDS = st.integers(0, 2**40)
few = settings(max_examples=max(3, settings.default.max_examples // 4))
OPCODES = pytest.mark.parametrize("opcode", sorted(RECIPES))
#: Sums of float32 in another order, of at most 512 numbers of a few units.
ROUNDING = 1e-4


def is_let_pass(value: Any) -> bool:
    """None stands for a default; whole numbers of any type, and a tensor of one, for integers."""
    if isinstance(value, AccessPattern):
        return value.size == 1
    kinds = int | float | Decimal | np.integer | np.floating | np.bool_
    return value is None or (isinstance(value, kinds) and float(value).is_integer())


class Rechecking(Recorder):
    """Checks the rules of every call, as if it were the first of its kind."""

    def issue(self, instr: Instruction) -> None:
        super().issue(instr)
        try:
            rules.require_real(instr)
            rules.require_flags(instr)
            instr.check(self.chip)
        except NkiValidationError as error:
            raise AssertionError(f"let through, as an earlier call was legal: {error}") from None


def core(opcode: str, *, exact: bool = False) -> Recorder:
    chip = load_chip("trainium3" if opcode in GEN4 else "trainium2")
    return Rechecking(chip, SimOptions(exact=exact), opcode)


def results(opcode: str, seed: int, *, exact: bool, plain: bool) -> list[Any]:
    """What a legal call writes, as float32."""
    with activate(core(opcode, exact=exact)) as recorder:
        operands = Operands(seed, plain=plain)
        FUNCTIONS[opcode](**RECIPES[opcode](operands))
        assert recorder.instruction_count >= 1
        return operands.written


def assert_close(got: list[Any], expected: list[Any]) -> None:
    for view, wanted in zip(got, expected, strict=True):
        if view.dtype.endswith("_x4"):
            np.testing.assert_array_equal(view.array.tobytes(), wanted.array.tobytes())
        else:
            assert is_close(view, wanted.array, ROUNDING), view


@OPCODES
@few
@given(SEEDS)
def test_fast_execution_gives_what_the_meaning_gives(opcode, seed):
    fast = results(opcode, seed, exact=False, plain=False)
    assert_close(fast, results(opcode, seed, exact=True, plain=False))


@OPCODES
@few
@given(SEEDS)
def test_where_operands_lie_changes_no_value(opcode, seed):
    scattered = results(opcode, seed, exact=False, plain=False)
    assert_close(scattered, results(opcode, seed, exact=False, plain=True))


@OPCODES
@few
@given(SEEDS)
def test_a_legal_call_with_one_illegal_argument_ends_in_a_validation_error(opcode, seed):
    """Or the argument is legal too, and was not only let through because a call before it was."""
    rng = np.random.default_rng(seed)
    with activate(core(opcode)):
        operands = Operands(seed, plain=False)
        call = RECIPES[opcode](operands)
        FUNCTIONS[opcode](**call)
        others = (*ABSURD, *NUMBERS, *other_tensors(operands))
        signature = inspect.signature(FUNCTIONS[opcode])
        for name in signature.parameters:
            for choice in rng.choice(len(others), 8, replace=False):
                value = others[int(choice)]
                mutated = {**call, name: value}
                try:
                    FUNCTIONS[opcode](**mutated)
                except NkiValidationError as error:
                    assert error.what
                    continue
                except Exception as error:
                    pytest.fail(f"{opcode} with {name}={value!r}: {error!r}")
                if name in REGISTRY[opcode].__dataclass_fields__ and not is_let_pass(value):
                    fault = _fault_of(opcode, signature, (), mutated)
                    assert fault is None, f"accepted, though {fault}"
