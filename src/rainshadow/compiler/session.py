"""Knows what a simulated device did: kernel launches, host fall-backs, transfers, HBM use, marks.

A front end reports here; how graphs become kernels is `compiler.build`'s business, what a launch
costs is `sim.timing`'s. Nothing here imports torch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

import numpy as np

from rainshadow.errors import CapacityError, InputError, NotModelled, SourceLine
from rainshadow.machine import Chip, load_neuron_chip
from rainshadow.sim.options import SimOptions
from rainshadow.sim.trace import Trace

Phase = Literal["forward", "backward", "optimizer", "other"]
PHASES: tuple[Phase, ...] = ("forward", "backward", "optimizer", "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How a device session executes.

    data: "full" computes, "none" records shapes and times only (tensors read back as zeros).
    precision: "bf16" leaves autocast to the script; "fp32" turns the device's autocast off.
    allow_host: False makes an operator without a kernel a `NotModelled` error.
    kernels_folder: where emitted NKI sources are written; None keeps them in a temporary folder.
    exact: execute every instruction by its NumPy meaning.
    """

    data: Literal["full", "none"] = "full"
    precision: Literal["bf16", "fp32"] = "bf16"
    allow_host: bool = True
    kernels_folder: Path | None = None
    exact: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("data", ("full", "none")), ("precision", ("bf16", "fp32"))):
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(f"{name}={value!r}", allowed=" or ".join(allowed))


class Program(Protocol):
    """What `compiler.build.compile_graph` returns, as far as a session needs it."""

    name: str
    source: str

    def run(
        self,
        arrays: Sequence[Any],
        outs: Sequence[Any] | None = None,
        *,
        chip: Chip,
        options: SimOptions,
    ) -> Any:
        """Execute once; the result has `.outputs` and `.trace`."""


@dataclass(slots=True, eq=False)
class KernelRecord:
    """One compiled program and the trace of its first launch in this session.

    The trace stands for all launches: a program has static shapes and control flow.
    """

    number: int
    name: str
    program: Program
    trace: Trace | None = None
    num_launches: int = 0


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel launch, in program order."""

    kernel: KernelRecord
    phase: Phase
    step: int


@dataclass(slots=True)
class HostFallback:
    """An operator that ran on the host because no kernel could be made for it."""

    op: str
    source: SourceLine | None
    count: int = 0
    flops: float = 0.0
    reason: str = ""


@dataclass(slots=True)
class Transfer:
    """Data moved or filled in without arithmetic, by kind; bytes is the sum over `count`."""

    kind: str
    count: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Mark:
    """A named moment between launches: `position` launches came before it."""

    name: str
    position: int
    step: int


@dataclass(slots=True)
class HbmMeter:
    """Live and peak bytes of device tensors."""

    live_bytes: int = 0
    peak_bytes: int = 0
    num_allocations: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def allocate(self, nbytes: int) -> None:
        with self._lock:
            self.live_bytes += nbytes
            self.num_allocations += 1
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def free(self, nbytes: int) -> None:
        with self._lock:
            self.live_bytes -= nbytes

    def reset_peak(self) -> None:
        self.peak_bytes = self.live_bytes


class Session:
    """One simulated device and everything it was asked to do, in order.

    Use as a context manager to make it the current one:

        with Session("trainium2", SessionOptions(precision="fp32")) as session: ...
    """

    def __init__(
        self, chip: Chip | str = "trainium2", options: SessionOptions | None = None
    ) -> None:
        self.chip = load_neuron_chip(chip) if isinstance(chip, str) else chip
        if self.chip.core is None:
            raise InputError(f"{self.chip.name} has no NeuronCore", allowed="a NeuronCore chip")
        self.options = options or SessionOptions()
        self.hbm = HbmMeter()
        self.kernels: list[KernelRecord] = []
        self.launches: list[Launch] = []
        self.host_fallbacks: list[HostFallback] = []
        self.transfers: dict[str, Transfer] = {}
        self.marks: list[Mark] = []
        #: what eager execution compiled, and which of its scalars keep changing
        self.operators: dict[Any, Any] = {}
        self.operator_families: dict[Any, Any] = {}
        self.step = 0
        #: optimizers whose step is running, outermost first
        self.open_steps: list[int] = []
        self._kernel_of: dict[int, KernelRecord] = {}
        self._fallback_of: dict[tuple[str, str], HostFallback] = {}
        self._capacity = self.chip.core_hbm_bytes

    def __enter__(self) -> Session:
        _STACK.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _STACK.remove(self)

    # -- execution ---------------------------------------------------------------------------

    def launch(
        self,
        program: Program,
        arrays: Sequence[Any],
        outs: Sequence[Any] | None = None,
        *,
        phase: Phase,
    ) -> list[Any]:
        """Run a compiled program and record it.

        arrays, outs: HBM tensors as NumPy views (with data="none", `rainshadow.nki.Shape`).
        The first launch of a program is traced; later ones only compute.
        """
        record = self._kernel_record(program)
        outputs: list[Any] = list(outs or [])
        if self.options.data == "full" or record.trace is None:
            settings = SimOptions(
                data=self.options.data, exact=self.options.exact, record=record.trace is None
            )
            run = program.run(arrays, outs, chip=self.chip, options=settings)
            outputs = list(run.outputs)
            if record.trace is None:
                record.trace = run.trace
        record.num_launches += 1
        self.launches.append(Launch(record, phase, self.step))
        return outputs

    def _kernel_record(self, program: Program) -> KernelRecord:
        record = self._kernel_of.get(id(program))
        if record is None:
            record = KernelRecord(len(self.kernels), program.name, program)
            self._kernel_of[id(program)] = record
            self.kernels.append(record)
        return record

    def host_fallback(
        self, op: str, source: SourceLine | None, flops: float, reason: str = ""
    ) -> None:
        """Note one operator executed on the host.

        Errors: `NotModelled` naming operator and line when the options forbid the host.
        """
        if not self.options.allow_host:
            raise NotModelled(
                f"operator {op} has no NKI kernel" + (f" ({reason})" if reason else ""),
                where=source,
                fix="run without --no-host to execute it on the host and list it",
            )
        key = (op, str(source))
        entry = self._fallback_of.get(key)
        if entry is None:
            entry = self._fallback_of[key] = HostFallback(op, source, reason=reason)
            self.host_fallbacks.append(entry)
        entry.count += 1
        entry.flops += flops

    def transfer(self, kind: str, nbytes: int) -> None:
        """Note data moved or filled: "host to device", "device to host", "random", "fill"..."""
        entry = self.transfers.get(kind)
        if entry is None:
            entry = self.transfers[kind] = Transfer(kind)
        entry.count += 1
        entry.bytes += nbytes

    def mark(self, name: str) -> None:
        """Name this moment; "optimizer step end" also closes the training step.

        Several watchers may name the same moment: only the first counts.
        """
        last = self.marks[-1] if self.marks else None
        if last and (last.name, last.position) == (name, len(self.launches)):
            return
        self.marks.append(Mark(name, len(self.launches), self.step))
        if name == "optimizer step end":
            self.step += 1

    def allocate(self, nbytes: int) -> None:
        """Count a device tensor's bytes; errors as `require_room`."""
        self.require_room(nbytes)
        self.hbm.allocate(nbytes)

    def require_room(self, nbytes: int) -> None:
        """Errors: `CapacityError` when HBM has no room for so many bytes more."""
        if self.hbm.live_bytes + nbytes > self._capacity:
            raise CapacityError(
                f"device tensor of {nbytes:,} bytes with {self.hbm.live_bytes:,} bytes in use",
                allowed=f"{self._capacity:,} bytes, a core's share of the HBM of {self.chip.title}",
                fix="make the batch or the model smaller, or shard it",
            )

    # -- queries -----------------------------------------------------------------------------

    def step_launches(self, step: int) -> list[Launch]:
        """The launches of training step `step` (0 is the first)."""
        return [launch for launch in self.launches if launch.step == step]

    def steady_step(self) -> int | None:
        """The last complete training step, by then compiled and with optimizer state in place."""
        return self.step - 1 if self.step else None

    def traces(self, launches: Iterable[Launch] | None = None) -> list[Trace]:
        """One trace per launch, in order."""
        chosen = self.launches if launches is None else launches
        return [launch.kernel.trace for launch in chosen if launch.kernel.trace is not None]

    @property
    def host_flops(self) -> float:
        return sum(entry.flops for entry in self.host_fallbacks)

    @property
    def device_flops(self) -> float:
        """Useful matmul flops of every launch so far."""
        per_kernel = [
            _flops(record.trace) * record.num_launches for record in self.kernels if record.trace
        ]
        return float(sum(per_kernel))


def _flops(trace: Trace) -> float:
    per_signature = np.array([signature.flops for signature in trace.signatures], dtype=np.float64)
    counts = np.bincount(trace.signature, minlength=len(per_signature))
    return float(counts @ per_signature) if len(per_signature) else 0.0


#: Sessions entered and not left, innermost last. Process-wide, not per thread: autograd runs
#: backward on a thread of its own.
_STACK: list[Session] = []


def current_session() -> Session:
    """The innermost session; a default one (Trainium 2, bf16, full data) if none was entered."""
    if not _STACK:
        _STACK.append(Session())
    return _STACK[-1]
