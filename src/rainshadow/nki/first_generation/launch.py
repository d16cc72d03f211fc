"""How kernels of the first generation are launched: jit, simulate_kernel, baremetal, benchmark.

A kernel's function is wrapped, so that it gets this generation's tensors for its arguments, and
whatever runs kernels (`nki.kernel.record`, the commands) runs it like any other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from rainshadow.errors import InputError, OutOfBoundsError
from rainshadow.isa.access import AccessPattern
from rainshadow.nki import kernel as launches
from rainshadow.nki.first_generation import state
from rainshadow.nki.first_generation.grid import Grid
from rainshadow.nki.first_generation.memory import Touch
from rainshadow.nki.first_generation.tensor import Tensor
from rainshadow.sim.launch_timing import time_launch
from rainshadow.sim.recorder import active_recorder, inside_kernel
from rainshadow.sim.timing import TimingOptions

#: What `mode=` of jit may be; all of them simulate.
MODES = ("auto", "baremetal", "benchmark", "jax", "simulation", "torchxla", "trace")
_US_PER_PS = 1e-6


class Kernel(launches.Kernel):
    """A function decorated with `@neuronxcc.nki.jit`; kernel[4, 2](...) launches 8 programs."""

    def __init__(self, function: Callable[..., Any], grid: Grid | None = None, **options: Any):
        self.grid = grid or Grid()
        self.plain_function = function
        super().__init__(_wrapped(function, self.grid), self.grid.cores, **options)

    def __getitem__(self, grid: Any) -> Kernel:
        chosen = Grid.of(grid)
        if chosen.cores not in (1, 2):
            raise InputError(
                f"{chosen.cores} cores in a launch grid", allowed="nl.nc(1) or nl.nc(2)"
            )
        return type(self)(self.plain_function, chosen, **self.options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if inside_kernel():
            return self.plain_function(*args, **kwargs)
        return self.launch(*args, **kwargs)

    def launch(self, *args: Any, **kwargs: Any) -> Any:
        """Simulate the kernel on arrays."""
        return self.run(args, kwargs).outputs

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> launches.Run:
        """Simulate the kernel; an index past a tensor is NumPy's error, as in AWS's simulator."""
        try:
            return launches.record(self, args, kwargs)
        except OutOfBoundsError as error:
            if error.flat_index is None or self.options.get("mode") != "simulation":
                raise
            asked, there_are = error.flat_index
            raise IndexError(
                f"index {asked} is out of bounds for axis 0 with size {there_are}"
            ) from error


def _wrapped(function: Callable[..., Any], grid: Grid) -> Callable[..., Any]:
    @functools.wraps(function)
    def run_programs(*args: Any, **kwargs: Any) -> Any:
        recorder = active_recorder()
        kernel = state.start(grid.shape)
        given = [_tensors(value) for value in args]
        named = {name: _tensors(value) for name, value in kwargs.items()}
        returned = None
        for number, program in enumerate(grid.programs_on(recorder.program_id)):
            kernel.begin(program)
            result = function(*given, **named)
            kernel.flush()
            returned = _patterns(result) if number == 0 else returned
        return returned

    return run_programs


def _tensors(value: Any) -> Any:
    """Arguments as this generation's tensors."""
    if isinstance(value, AccessPattern):
        return Tensor.over(value)
    if isinstance(value, list | tuple):
        items = [_tensors(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {key: _tensors(item) for key, item in value.items()}
    return value


def _patterns(value: Any) -> Any:
    """Results as access patterns."""
    if isinstance(value, Tensor):
        return value.window(Touch.read)
    if isinstance(value, list | tuple):
        items = [_patterns(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {key: _patterns(item) for key, item in value.items()}
    return value


def _function_of(kernel: Any) -> tuple[Callable[..., Any], Grid, dict[str, Any]]:
    if isinstance(kernel, Kernel):
        return kernel.plain_function, kernel.grid, kernel.options
    if isinstance(kernel, launches.Kernel):
        raise InputError(
            f"{kernel.__name__} is a kernel of the newer nki",
            fix="launch it with nki's own jit and simulate",
        )
    if not callable(kernel):
        raise InputError(f"{kernel!r} is not a kernel", allowed="a function, or one with @nki.jit")
    return kernel, Grid(), {}


def _decorator(cls: type[Kernel]) -> Callable[..., Any]:
    def decorate(kernel: Any = None, **options: Any) -> Any:
        if kernel is None:
            return functools.partial(decorate, **options)
        function, grid, before = _function_of(kernel)
        return cls(function, grid, **{**before, **options})

    return decorate


def jit(func: Any = None, mode: str = "auto", **kwargs: Any) -> Any:
    """Mark a function as a kernel of the first generation."""
    if mode not in MODES:
        raise InputError(f"nki.jit(mode={mode!r})", allowed=", ".join(MODES))
    decorate = _decorator(BenchmarkedKernel if mode == "benchmark" else Kernel)
    return decorate(func, mode=mode, **kwargs)


class Latencies:
    """Simulated time of a kernel's last launch; a simulation has no spread."""

    def __init__(self) -> None:
        self.latency_us: float | None = None

    def get_latency_percentile(self, percentile: int) -> float:
        """Microseconds from the first instruction to the last.

        Errors: `InputError` before the first launch.
        """
        if self.latency_us is None:
            raise InputError("the latency of a kernel that has not run", fix="call it first")
        return self.latency_us


class BenchmarkResult:
    """What `nki.benchmark` measures."""

    def __init__(self) -> None:
        self.nc_latency = Latencies()


class BenchmarkedKernel(Kernel):
    """A kernel that keeps its simulated time in `benchmark_result.nc_latency`."""

    def __init__(self, function: Callable[..., Any], grid: Grid | None = None, **options: Any):
        options.setdefault("result", BenchmarkResult())
        super().__init__(function, grid, **options)
        self.benchmark_result: BenchmarkResult = options["result"]

    def launch(self, *args: Any, **kwargs: Any) -> Any:
        run = self.run(args, kwargs)
        chip = launches.target_chip(self.options.get("platform_target"))
        traces = (run.trace, *run.other_traces)
        timelines = time_launch(traces, chip, TimingOptions(lnc=run.lnc))
        longest = max(timeline.duration_ps for timeline in timelines)
        self.benchmark_result.nc_latency.latency_us = longest * _US_PER_PS
        return run.outputs


baremetal = _decorator(Kernel)
trace = _decorator(Kernel)
benchmark = _decorator(BenchmarkedKernel)


def profile(func: Any = None, **kwargs: Any) -> Any:
    """A kernel that runs like any other; AWS's also writes files for its own profiler.

    `rainshadow profile` shows where the time goes.
    """
    return _decorator(Kernel)(func, **kwargs)


def simulate_kernel(kernel: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a kernel, or kernel[grid], on NumPy arrays."""
    function, grid, options = _function_of(kernel)
    return Kernel(function, grid, **{**options, "mode": "simulation"}).launch(*args, **kwargs)
