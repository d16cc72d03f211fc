"""Knows how a kernel is called: arrays in, a Recorder around the kernel's Python, arrays out.

`jit`, `simulate` and `record` are three doors to the same run; the compiler's kernels use them
like anybody's.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rainshadow import dtypes
from rainshadow.errors import CapacityError, InputError, NkiValidationError, RainshadowError
from rainshadow.isa.access import AccessPattern
from rainshadow.machine import Chip, load_chip
from rainshadow.nki import schedule
from rainshadow.sim.cores import Ranks
from rainshadow.sim.idle_limit import EndlessKernelError, stops_idle_code
from rainshadow.sim.options import SimOptions
from rainshadow.sim.recorder import Recorder, activate, inside_kernel
from rainshadow.sim.replay import Replay, on_chip_memory
from rainshadow.sim.trace import Trace
from rainshadow.sim.user_lines import user_line

DEFAULT_CHIP = "trainium2"
#: AWS's variables that select the target, the first that is set; and their values.
TARGET_VARIABLES = ("NEURON_PLATFORM_TARGET_OVERRIDE", "NKI_NC_VERSION")
TARGETS = {
    "trn1": "trainium1",
    "inf2": "trainium1",
    "gen2": "trainium1",
    "trn2": "trainium2",
    "gen3": "trainium2",
    "trn3": "trainium3",
    "gen4": "trainium3",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """An argument of which only shape and dtype are known: for data="none"."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Run:
    """What a kernel returned and its Trace. addresses: of its on-chip tensors, as created.

    With two cores (LNC 2) these are core 0's, and `other_traces` has core 1's. Of several ranks,
    outputs is a list with every rank's, and `other_traces` goes on with rank 1's cores.
    lnc: cores of a rank.  options: of the run.  again: for observers that ask, runs it once more
    on the same arguments with other options; what the caller then sees, results and arguments.
    """

    outputs: Any
    trace: Trace
    addresses: Any = None
    other_traces: tuple[Trace, ...] = ()
    lnc: int = 1
    options: SimOptions | None = None
    again: Callable[[SimOptions], Any] | None = None


@dataclass(frozen=True, slots=True)
class PerRank:
    """An argument of which every rank has its own: a sequence, or a function of the rank."""

    values: Any

    def of(self, rank: int, count: int) -> Any:
        """What one of `count` ranks gets.

        Errors: `InputError` where there are more or fewer values than ranks.
        """
        if callable(self.values):
            return self.values(rank)
        if len(self.values) != count:
            raise InputError(
                f"PerRank with {len(self.values)} values", allowed=f"{count}, one for each rank"
            )
        return self.values[rank]


@dataclass(frozen=True, slots=True)
class _Observer:
    tell: Callable[[Run], None]
    chip: Chip | None
    options: SimOptions | None = None
    again: bool = False


_OBSERVERS: list[_Observer] = []


class Kernel:
    """A function decorated with `@nki.jit`.

    `kernel(*arrays)` simulates it; inside another kernel it is a plain call.
    `kernel[lnc](...)` selects the logical NeuronCore degree, `kernel.with_schedule(edges)` has
    named instructions wait for others.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        lnc: int = 1,
        edges: tuple[schedule.Edge, ...] = (),
        **options: Any,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.lnc = lnc
        self.edges = edges
        self.options = options

    def __getitem__(self, grid: Any) -> Kernel:
        lnc = grid[0] if isinstance(grid, tuple) and len(grid) == 1 else grid
        if lnc not in (1, 2):
            raise InputError(f"kernel[{grid}]", allowed="kernel[1] or kernel[2] (LNC 1 or 2)")
        return Kernel(self.function, lnc, self.edges, **self.options)

    def with_schedule(self, edges: Any) -> Kernel:
        """The kernel, of which each named instruction runs after those that an edge names."""
        return Kernel(self.function, self.lnc, schedule.edges_of(edges), **self.options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if inside_kernel():
            return self.function(*args, **kwargs)
        return simulate(self)(*args, **kwargs)


def jit(fn: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Mark a function as an NKI kernel; `@nki.jit` and `@nki.jit(...)` both work."""
    if fn is None:
        return functools.partial(jit, **options)
    return fn if isinstance(fn, Kernel) else Kernel(fn, **options)


def target_chip(named: str | None = None) -> Chip:
    """The chip of launches without one: an observer's, else the target that the kernel names.

    Without that what AWS's target variable selects, and Trainium 2 unless it is set.

    Errors: `InputError` for a value AWS does not define.
    """
    observed = next((entry.chip for entry in reversed(_OBSERVERS) if entry.chip), None)
    if observed is not None:
        return observed
    given = {"platform_target": named} | {name: os.environ.get(name) for name in TARGET_VARIABLES}
    for place, value in given.items():
        if not value:
            continue
        name = TARGETS.get(value.lower())
        if name is None:
            allowed = ", ".join(sorted(TARGETS))
            raise InputError(f"{place}={value}", allowed=allowed, fix="set one of them")
        return load_chip(name)
    return load_chip(DEFAULT_CHIP)


def _observed_options() -> SimOptions | None:
    return next((entry.options for entry in reversed(_OBSERVERS) if entry.options), None)


class Simulation:
    """A kernel that runs on arrays (NumPy or torch) and returns arrays when called.

    `simulation[2]` runs it on two cores, as `kernel[2]` does.
    Errors: NKI rule violations as `NkiValidationError` with the kernel's file and line.
    """

    def __init__(
        self, kernel: Any, chip: Chip | None, options: SimOptions | None, ranks: int = 1
    ) -> None:
        self.kernel = kernel if isinstance(kernel, Kernel) else Kernel(_function(kernel))
        self.chip = chip
        self.options = options
        self.ranks = ranks

    def __getitem__(self, grid: Any) -> Simulation:
        return Simulation(self.kernel[grid], self.chip, self.options, self.ranks)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.chip is None and not _OBSERVERS:
            _announce(target_chip(self.kernel.options.get("platform_target")).name)
        run = record(
            self.kernel, args, kwargs, chip=self.chip, options=self.options, ranks=self.ranks
        )
        return run.outputs


@functools.cache
def _announce(chip: str) -> None:
    """Say once which chip is simulated: AWS's simulator has another default."""
    print(
        f"rainshadow: simulating {chip}; {TARGET_VARIABLES[0]} selects another",
        file=sys.stderr,
    )


def simulate(
    kernel: Any, chip: Chip | None = None, options: SimOptions | None = None, ranks: int = 1
) -> Simulation:
    """The kernel as a function of arrays. See `Simulation`.

    ranks: run it on so many ranks that exchange data by `nki.collectives`; the result is the list
    of what each rank returned. Arguments are the same for every rank, or `PerRank`.
    """
    return Simulation(kernel, chip, options, ranks)


#: The name of AWS's simulator before `simulate` was documented.
cpu_simulate = simulate


def record(
    kernel: Any,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    *,
    chip: Chip | None = None,
    options: SimOptions | None = None,
    keep_strides: bool = False,
    ranks: int = 1,
) -> Run:
    """Run a kernel and keep what it executed.

    args, kwargs: NumPy arrays or torch tensors (their memory becomes HBM without a copy, so a
    kernel that writes an argument writes the caller's array), `Shape` with data="none", and
    plain Python values. With several ranks, `PerRank` gives each its own; any other array is
    copied for every rank, because each has its own HBM.
    keep_strides: the kernel was written for the arrays' strides, as the compiler's are; otherwise
    an array that is not row-major is copied into one that is, as on the way to a device, and back
    when the kernel has run.
    ranks: how many ranks run the kernel.
    """
    target = kernel.options.get("platform_target") if isinstance(kernel, Kernel) else None
    machine = chip or target_chip(target)
    settings = options or _observed_options() or SimOptions.of_environment()
    launch = _Launch(kernel, machine, settings, ranks)
    again = None
    if any(observer.again for observer in _OBSERVERS):
        again = functools.partial(
            _again, kernel, *_copies_of(args, kwargs or {}), machine, keep_strides, ranks
        )
    given = [launch.arguments_of(rank, args, kwargs or {}) for rank in range(launch.ranks.count)]
    wants_torch = any(_is_torch(value) for value in [*given[0][0], *given[0][1].values()])
    copies = _Copies()
    if not keep_strides:
        given = [copies.of_arguments(*arguments) for arguments in given]
    returned = launch.run(given)
    copies.write_back()
    run = replace(launch.result(returned, wants_torch), again=again)
    for observer in _OBSERVERS:
        observer.tell(run)
    return run


class _Launch:
    """One launch of a kernel: a recorder for every physical core of every rank."""

    def __init__(self, kernel: Any, chip: Chip, options: SimOptions, ranks: int) -> None:
        if isinstance(ranks, bool) or not isinstance(ranks, int) or ranks < 1:
            raise InputError(f"ranks={ranks!r}", allowed="a number of ranks, 1 or more")
        self.function = _function(kernel)
        self.edges = kernel.edges if isinstance(kernel, Kernel) else ()
        self.options = options
        self.ranks = Ranks(ranks, kernel.lnc if isinstance(kernel, Kernel) else 1)
        self.recorders = [
            Recorder(chip, options, self.function.__name__, cores=cores, program_id=number)
            for cores in self.ranks.logical_cores
            for number in range(cores.count)
        ]

    def arguments_of(
        self, rank: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What one rank is called with."""
        count = self.ranks.count

        def own(value: Any) -> Any:
            if isinstance(value, PerRank):
                return value.of(rank, count)
            return _copied(value) if rank else value

        return tuple(own(value) for value in args), {k: own(v) for k, v in kwargs.items()}

    def run(self, given: Sequence[tuple[tuple[Any, ...], dict[str, Any]]]) -> list[Any]:
        """What the kernel returned on every physical core."""
        returned = self.ranks.run(
            [
                functools.partial(_execute, recorder, self.function, *given[recorder.cores.rank])
                for recorder in self.recorders
            ]
        )
        for recorder in self.recorders:
            schedule.apply(recorder, self.edges)
        return returned

    def result(self, returned: Sequence[Any], wants_torch: bool) -> Run:
        """Outputs of every rank's first core, and the traces of all cores."""
        with_data = self.options.data == "full"
        outputs = [
            _unbind(value, wants_torch, with_data=with_data)
            for value in returned[:: self.ranks.lnc]
        ]
        traces = [
            each.trace() if self.options.record else _empty_trace(each) for each in self.recorders
        ]
        return Run(
            outputs if self.ranks.count > 1 else outputs[0],
            traces[0],
            self.recorders[0].addresses,
            tuple(traces[1:]),
            self.ranks.lnc,
            self.options,
        )


def _again(
    kernel: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    chip: Chip,
    keep_strides: bool,
    ranks: int,
    options: SimOptions,
) -> Any:
    """Results and arguments after a run on copies of the arguments, that no observer sees."""
    args, kwargs = _copies_of(args, kwargs)
    observers, _OBSERVERS[:] = list(_OBSERVERS), []
    try:
        run = record(
            kernel, args, kwargs, chip=chip, options=options, keep_strides=keep_strides, ranks=ranks
        )
    finally:
        _OBSERVERS[:] = observers
    return run.outputs, args, kwargs


def _copies_of(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(map(_copied, args)), {name: _copied(value) for name, value in kwargs.items()}


def _copied(value: Any) -> Any:
    """An argument's arrays in memory of their own."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if _is_torch(value):
        return value.detach().clone()
    if isinstance(value, PerRank) and not callable(value.values):
        return PerRank([_copied(item) for item in value.values])
    if isinstance(value, list | tuple) and any(_holds_array(item) for item in value):
        return type(value)([_copied(item) for item in value])
    return value


@contextmanager
def observe(
    tell: Callable[[Run], None],
    chip: Chip | None = None,
    *,
    options: SimOptions | None = None,
    again: bool = False,
) -> Iterator[None]:
    """Hand every launch made inside the block to `tell`, whoever makes it.

    chip, options: of those launches that name none.  again: give each run its `Run.again`.
    """
    observer = _Observer(tell, chip, options, again)
    _OBSERVERS.append(observer)
    try:
        yield
    finally:
        _OBSERVERS.remove(observer)


def keep(kernel: Any, arrays: tuple[Any, ...], earlier: Run, *, chip: Chip, exact: bool) -> Replay:
    """Run a kernel that was recorded before, and keep its instructions to run them again.

    arrays: NumPy arrays only; what the kernel does may depend on their shapes, strides and dtypes,
    never on their values.  exact: as in `SimOptions`.
    """
    function = _function(kernel)
    options = SimOptions(record=False, exact=exact)
    recorder = Recorder(chip, options, function.__name__, addresses=earlier.addresses)
    with on_chip_memory(recorder.core).lock:
        _execute(recorder, function, arrays, {})
    assert recorder.kept is not None, "a recorder with addresses keeps its instructions"
    lines, line = earlier.trace.lines, earlier.trace.line
    return Replay(
        recorder.arguments,
        recorder.kept,
        on_chip_memory(recorder.core),
        lambda row: lines[line[row]].source,
    )


def _function(kernel: Any) -> Callable[..., Any]:
    function = kernel.function if isinstance(kernel, Kernel) else kernel
    if not callable(function):
        raise InputError(f"{kernel!r} is not a kernel", allowed="a function, or one with @nki.jit")
    return function


def _execute(
    recorder: Recorder,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Bind the arguments and run the kernel's Python; what it returns."""
    names = _argument_names(function, args, kwargs)
    try:
        bound = [_bind(recorder, value, name) for value, name in zip(args, names, strict=False)]
        named = {name: _bind(recorder, value, name) for name, value in kwargs.items()}
    except CapacityError as error:
        raise InputError(
            f"the arguments do not fit the core's share of HBM: {error.what}",
            allowed=error.allowed,
            fix="give smaller arguments, or shard them over more cores",
        ) from None
    try:
        limit_s = recorder.options.max_idle_s
        with (
            activate(recorder),
            stops_idle_code(_execute.__code__, lambda: recorder.instruction_count, limit_s),
        ):
            returned = function(*bound, **named)
        recorder.note_results(returned)
        return returned
    except RainshadowError as error:
        error.where = error.where or user_line(error.__traceback__)
        raise
    except EndlessKernelError as error:
        raise InputError(
            f"kernel {recorder.kernel} has computed for {recorder.options.max_idle_s:g} s "
            "without an instruction",
            where=user_line(error.__traceback__),
            fix="end the loop, or raise SimOptions.max_idle_s",
        ) from None
    except RecursionError as error:
        raise InputError(
            f"kernel {recorder.kernel} calls itself without end",
            allowed=f"calls {sys.getrecursionlimit()} deep",
            where=user_line(error.__traceback__),
            fix="unroll the recursion as a loop",
        ) from None
    except MemoryError as error:
        raise InputError(
            f"kernel {recorder.kernel} holds more data than this computer has memory for",
            where=user_line(error.__traceback__),
            fix='use smaller tensors, or SimOptions(data="none"), which holds none',
        ) from None


def _empty_trace(recorder: Recorder) -> Trace:
    return replace(recorder.trace(), peak_bytes=recorder.memories.peaks())


def _argument_names(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[str]:
    signature = inspect.signature(function)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise InputError(
            f"{function.__name__}{signature}: {error}", fix="give the arguments the kernel takes"
        ) from None
    names = list(signature.parameters)
    return names + [f"argument{index}" for index in range(len(names), len(args))]


def _is_torch(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _bind(recorder: Recorder, value: Any, name: str) -> Any:
    """Arrays become HBM tensors; lists and tuples are searched; the rest passes through."""
    if isinstance(value, Shape):
        if recorder.with_data:
            raise InputError(f"argument {name} is a Shape", fix='use SimOptions(data="none")')
        return recorder.declare(value.shape, value.dtype, name)
    if isinstance(value, np.ndarray):
        return _bind_array(recorder, value, name)
    if _is_torch(value):
        return _bind_array(recorder, numpy_from_torch(value), name)
    if isinstance(value, list | tuple) and any(_holds_array(item) for item in value):
        items = [_bind(recorder, item, f"{name}_{i}") for i, item in enumerate(value)]
        return type(value)(items)
    return value


def _holds_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | Shape | list | tuple) or _is_torch(value)


class _Copies:
    """The row-major copies made of a launch's arguments."""

    def __init__(self) -> None:
        self._made: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []

    def row_major(self, value: Any) -> Any:
        """`value`, its arrays that are not row-major replaced by copies that are."""
        if _is_torch(value):
            return value if value.is_contiguous() else self.row_major(numpy_from_torch(value))
        if isinstance(value, np.ndarray) and not value.flags.c_contiguous:
            self._made.append((value, np.ascontiguousarray(value)))
            return self._made[-1][1]
        if isinstance(value, list | tuple) and any(_holds_array(item) for item in value):
            return type(value)([self.row_major(item) for item in value])
        return value

    def of_arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A call's arguments, row-major."""
        named = {name: self.row_major(value) for name, value in kwargs.items()}
        return tuple(self.row_major(value) for value in args), named

    def write_back(self) -> None:
        """Give the caller's arrays what the kernel wrote into their copies."""
        for original, copy in self._made:
            if original.flags.writeable:
                original[...] = copy


def _bind_array(recorder: Recorder, value: np.ndarray[Any, Any], name: str) -> AccessPattern:
    if value.size == 0:
        raise NkiValidationError(
            f"argument {name} has shape {value.shape}", allowed="no empty axes"
        )
    if value.ndim == 0:
        value = value.reshape(1)
    if any(stride < 0 for stride in value.strides):
        value = np.ascontiguousarray(value)
    return recorder.bind(value, name)


def numpy_from_torch(tensor: Any) -> np.ndarray[Any, Any]:
    """A NumPy view of a CPU torch tensor's memory, bfloat16 and float8 included."""
    import torch

    plain = tensor.detach()
    name = str(plain.dtype).removeprefix("torch.")
    if not _is_a_guest(name):
        return plain.numpy()  # type: ignore[no-any-return]
    bits = torch.int16 if plain.dtype.itemsize == 2 else torch.int8
    return plain.view(bits).numpy().view(dtypes.numpy_dtype(name))  # type: ignore[no-any-return]


def torch_from_numpy(value: np.ndarray[Any, Any]) -> Any:
    """A torch tensor over a NumPy array's memory, bfloat16 and float8 included.

    The array itself where PyTorch has no such dtype: float8_e4m3, whose largest value is 240.
    """
    import torch

    name = dtypes.from_numpy(value.dtype)
    if not _is_a_guest(name):
        return torch.from_numpy(value)
    bits, dtype = np.int16 if value.dtype.itemsize == 2 else np.int8, getattr(torch, name, None)
    return value if dtype is None else torch.from_numpy(value.view(bits)).view(dtype)


def _is_a_guest(dtype: str) -> bool:
    """Whether NumPy knows a dtype by ml_dtypes only, so that PyTorch does not exchange it."""
    return dtype == "bfloat16" or dtype.startswith("float8")


def _unbind(returned: Any, wants_torch: bool, *, with_data: bool) -> Any:
    if isinstance(returned, AccessPattern):
        if not with_data:
            return Shape(returned.shape, returned.dtype)
        value = returned.array
        return torch_from_numpy(value) if wants_torch else value
    if isinstance(returned, list | tuple):
        items = [_unbind(item, wants_torch, with_data=with_data) for item in returned]
        return type(returned)(items)
    return returned
