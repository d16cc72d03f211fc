"""Laws of random programs: illegal calls end in one kind of error, fast paths change nothing."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_programs import ABSURD, FUNCTIONS, Caller, is_close

from rainshadow.errors import NkiValidationError, NotModelled
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.instruction import ACCESSORS
from rainshadow.machine import load_chip
from rainshadow.sim.options import SimOptions
from rainshadow.sim.recorder import Recorder, activate
from rainshadow.sim.timing import time_trace

#: A warning is a wrong answer that NumPy has noticed.
pytestmark = pytest.mark.filterwarnings("error")
SEEDS = st.integers(0, 2**40)
#: A program is cheap: 175 of each kind by default, 35,000 with HYPOTHESIS_PROFILE=nightly.
many = settings(max_examples=7 * settings.default.max_examples)


def run(
    seed: int, calls: int, absurd: float, data: str = "full", chip: str = "trainium2"
) -> Recorder:
    """A random program on a new core; refused calls are left out of it."""
    rng = np.random.default_rng(seed)
    recorder = Recorder(load_chip(chip), SimOptions(data=data), "random")
    with activate(recorder):
        recorder._fast = {cls: Checked(fast) for cls, fast in recorder._fast.items()}
        caller = Caller(rng, absurd=absurd)
        for _ in range(calls):
            try:
                name, arguments = caller.call()
            except NkiValidationError:
                continue  # a view that the hardware has no pattern for
            attempt(name, arguments)
    return recorder


def attempt(name: str, arguments: dict[str, Any]) -> None:
    try:
        FUNCTIONS[name](**arguments)
    except (NkiValidationError, NotModelled) as error:
        assert error.what
    except Exception as error:
        shown = {k: describe(v) for k, v in arguments.items()}
        pytest.fail(f"{name}({shown}) raised {type(error).__name__}: {error}")


def describe(value: Any) -> Any:
    if isinstance(value, AccessPattern):
        return f"{value.space.value} {value.dtype}{value.shape} strides {value.strides}"
    return value


class Checked:
    """A fast path that is held against the meaning each time it applies."""

    def __init__(self, fast: Any) -> None:
        self.fast = fast

    def __call__(self, instr: Any) -> bool:
        written = [v for v in ACCESSORS[type(instr)].writes(instr) if isinstance(v, AccessPattern)]
        registers = getattr(getattr(instr, "accumulator", None), "values", np.empty(0))
        before, registers_before = [view.array.copy() for view in written], registers.copy()
        if not self.fast(instr):
            return False
        fast = [view.array.copy() for view in written]
        for view, old in zip(written, before, strict=True):
            view.array[...] = old
        registers[...] = registers_before
        instr.meaning()
        for view, got in zip(written, fast, strict=True):
            assert is_close(view, got, 2e-6), (instr.opcode, [describe(v) for v in written])
        return True


@many
@given(SEEDS)
def test_absurd_arguments_end_in_a_validation_error(seed):
    run(seed, calls=6, absurd=0.25)


@given(SEEDS, st.sampled_from(["trainium1", "trainium2", "trainium3"]))
def test_one_absurd_argument_of_a_legal_call_ends_in_a_validation_error(seed, chip):
    """Every argument in turn, once legal calls of the same kind have been recorded."""
    recorder = Recorder(load_chip(chip), SimOptions(), "random")
    with activate(recorder):
        caller = Caller(np.random.default_rng(seed), absurd=0.0)
        for _ in range(6):
            try:
                name, arguments = caller.call()
                FUNCTIONS[name](**arguments)
            except (NkiValidationError, NotModelled):
                continue
            for parameter in inspect.signature(FUNCTIONS[name]).parameters:
                for value in ABSURD:
                    attempt(name, {**arguments, parameter: value})


@many
@given(SEEDS)
def test_random_programs_give_with_fast_paths_what_their_meaning_gives(seed):
    run(seed, calls=8, absurd=0.0)


@many
@given(SEEDS, st.sampled_from(["trainium1", "trainium2", "trainium3"]))
def test_what_is_legal_with_data_is_legal_without_and_can_be_timed(seed, chip):
    recorder = run(seed, calls=8, absurd=0.0, data="none", chip=chip)
    timeline = time_trace(recorder.trace(), load_chip(chip))
    assert timeline.duration_ps >= max(timeline.engine_busy_ps.values(), default=0)
