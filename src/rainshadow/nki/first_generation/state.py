"""What the first generation remembers of a running kernel: its place in the grid, its loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern
from rainshadow.sim.recorder import Recorder, active_recorder

if TYPE_CHECKING:
    from rainshadow.nki.first_generation.operation import Result


class KernelState:
    """One kernel on one core.

    grid: programs along each axis of the launch grid.  program: which of them runs.  pending: the
    result whose operation has been called, but not issued.  shared: the tensors in shared HBM, in
    order; every program of the grid gets the same ones.  loops: the loops that are running,
    outermost first.  accumulated: what `nl.loop_reduce` has reduced, by call.  allocations: the
    addresses given in loops, by the place in the kernel that gives them.
    """

    #: The module that calls kernels: frames below it are the kernel's.
    LAUNCHER = "rainshadow.nki.first_generation.launch"

    def __init__(self, grid: tuple[int, ...]) -> None:
        self.grid = grid
        self.program: tuple[int, ...] = (0,) * len(grid)
        self.pending: Result | None = None
        self.shared: list[AccessPattern] = []
        self.num_shared = 0
        self.loops: list[Any] = []
        self.accumulated: dict[Any, Any] = {}
        self.allocations: dict[Any, Any] = {}

    def begin(self, program: tuple[int, ...]) -> None:
        """The next program of the grid starts."""
        self.program = program
        self.num_shared = 0
        self.loops.clear()
        self.accumulated.clear()

    def flush(self) -> None:
        """Issue the operation that has only been called."""
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.settle()

    def shared_tensor(self, make: Callable[[], AccessPattern]) -> AccessPattern:
        """The next tensor in shared HBM: made by the first program, found by the others."""
        if self.num_shared == len(self.shared):
            self.shared.append(make())
        self.num_shared += 1
        return self.shared[self.num_shared - 1]


_STATES: WeakKeyDictionary[Recorder, KernelState] = WeakKeyDictionary()


def current() -> KernelState:
    """The state of the kernel that is running.

    Errors: `NkiValidationError` where that is none of the first generation.
    """
    state = _STATES.get(active_recorder())
    if state is None:
        raise NkiValidationError(
            "a function of neuronxcc.nki in a kernel of another generation",
            allowed="neuronxcc.nki in functions decorated with neuronxcc.nki's jit",
            fix="decorate the kernel with @neuronxcc.nki.jit, or import nki instead",
        )
    return state


def is_running() -> bool:
    """Whether a kernel of the first generation runs on the active recorder."""
    return active_recorder() in _STATES


def start(grid: tuple[int, ...]) -> KernelState:
    """A kernel of the first generation starts on the active recorder.

    The compiler of this generation moves tiles out of SBUF and PSUM where they do not fit.
    """
    active_recorder().may_spill = True
    state = KernelState(grid)
    _STATES[active_recorder()] = state
    return state
