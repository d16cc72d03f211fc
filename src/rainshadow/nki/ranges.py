"""The loops of `nki.language`: all run as plain Python loops, because a trace unrolls them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rainshadow.errors import NkiValidationError
from rainshadow.isa.integers import whole
from rainshadow.nki.registers import VirtualRegister
from rainshadow.sim.recorder import active_recorder, inside_kernel


def _range(start: Any, stop: Any, step: Any) -> Iterator[int]:
    if stop is None:
        start, stop = 0, start
    return _turns(start, stop, step)


def _turns(start: Any, stop: Any, step: Any) -> Iterator[int]:
    step = whole(step, "step of a loop")
    if step == 0:
        raise NkiValidationError("step 0 of a loop", allowed="any other integer")
    first, end = whole(start, "start of a loop"), whole(stop, "end of a loop")
    if inside_kernel():
        active_recorder().steps.expect_turns((end - first) // step)
    return iter(range(first, end, step))


def affine_range(start: Any, stop: Any = None, step: Any = 1) -> Iterator[int]:
    """A loop whose iterations are independent of each other."""
    return _range(start, stop, step)


def sequential_range(start: Any, stop: Any = None, step: Any = 1) -> Iterator[int]:
    """A loop whose iterations depend on each other."""
    return _range(start, stop, step)


def static_range(start: Any, stop: Any = None, step: Any = 1) -> Iterator[int]:
    """A loop that the compiler unrolls."""
    return _range(start, stop, step)


def dynamic_range(start: Any, stop: Any = None, step: Any = 1) -> Iterator[VirtualRegister]:
    """A loop that the device's sequencer runs, counting in a register; so may its bounds be."""
    _require_reordering("dynamic_range")
    return (VirtualRegister(turn, frozen=True) for turn in _range(start, stop, _require_step(step)))


def _require_step(step: Any) -> int:
    if not isinstance(step, int) or step < 1:
        raise NkiValidationError(f"step {step!r} of a dynamic loop", allowed="1, 2, 3...")
    return step


def _require_reordering(what: str) -> None:
    if inside_kernel() and active_recorder().num_ordered_regions:
        raise NkiValidationError(
            f"{what} inside nl.no_reorder", allowed="static loops", fix="end the block before it"
        )


def fori_loop(
    lower: Any, upper: Any, body_fun: Callable[[VirtualRegister], Any], step: int = 1
) -> None:
    """body_fun(i) for i from lower to upper, which may be registers; i is a register of its own."""
    _require_reordering("fori_loop")
    for i in _turns(lower, upper, _require_step(step)):
        body_fun(VirtualRegister(i))


def while_loop(
    init: VirtualRegister, body_fun: Callable[[VirtualRegister], VirtualRegister]
) -> None:
    """condition = body_fun(condition) while it is not 0."""
    _require_reordering("while_loop")
    condition = init
    while int(condition):
        active_recorder().steps.count_turn()
        condition = body_fun(VirtualRegister(int(condition)))
        if not isinstance(condition, VirtualRegister):
            raise NkiValidationError(
                f"the body of while_loop returned {type(condition).__name__}",
                allowed="the register that decides whether to go on",
            )


@contextmanager
def no_reorder() -> Iterator[None]:
    """Instructions one after another, each when the one before is done; no dynamic loops inside."""
    recorder = active_recorder()
    first = recorder.instruction_count
    recorder.num_ordered_regions += 1
    try:
        yield
    finally:
        recorder.num_ordered_regions -= 1
        for row in range(first + 1, recorder.instruction_count):
            recorder.depend(row, row - 1)
