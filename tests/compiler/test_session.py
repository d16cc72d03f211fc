"""A session keeps launches, fall-backs, transfers, memory and marks in order."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rainshadow.compiler.session import Session, SessionOptions, current_session
from rainshadow.errors import InputError, NotModelled


class Doubling:
    name = "doubling"
    source = ""

    def __init__(self):
        self.recorded = []

    def run(self, arrays, outs=None, *, chip, options):
        self.recorded.append(options.record)
        return SimpleNamespace(outputs=[arrays[0] * 2], trace=f"trace on {chip.name}")


def test_first_launch_is_traced_later_ones_refer_to_it():
    session, program = Session(), Doubling()
    assert session.launch(program, [3], phase="forward") == [6]
    session.launch(program, [4], phase="backward")
    assert program.recorded == [True, False]
    assert [launch.phase for launch in session.launches] == ["forward", "backward"]
    assert session.traces() == ["trace on trainium2"] * 2
    assert session.kernels[0].num_launches == 2


def test_without_data_a_program_runs_once():
    session, program = Session(options=SessionOptions(data="none")), Doubling()
    for _ in range(3):
        session.launch(program, [3], phase="other")
    assert program.recorded == [True]
    assert len(session.launches) == 3


def test_steps_end_with_the_optimizer():
    session, program = Session(), Doubling()
    for _ in range(2):
        session.launch(program, [1], phase="forward")
        session.mark("optimizer step start")
        session.launch(program, [1], phase="optimizer")
        session.mark("optimizer step end")
        session.mark("optimizer step end")  # a second watcher
    assert session.step == 2
    assert len(session.step_launches(1)) == 2
    assert session.steady_step() == 1


def test_fallbacks_add_up_or_are_refused():
    session = Session()
    session.host_fallback("sort", None, 10.0)
    session.host_fallback("sort", None, 10.0)
    (entry,) = session.host_fallbacks
    assert (entry.count, entry.flops) == (2, 20.0)
    with pytest.raises(NotModelled, match="sort"):
        Session(options=SessionOptions(allow_host=False)).host_fallback("sort", None, 1.0)


def test_nesting_and_bad_options():
    with Session() as outer, Session() as inner:
        assert current_session() is inner is not outer
    with pytest.raises(InputError, match="precision"):
        SessionOptions(precision="fp8")
    with pytest.raises(InputError, match="NeuronCore"):
        Session("h100")
