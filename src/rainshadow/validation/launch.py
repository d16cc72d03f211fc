"""Knows how a published kernel is run again: one recording, timed on the chip of the point."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rainshadow.dtypes import is_dtype, numpy_dtype
from rainshadow.errors import InputError, NeedsData, NotModelled
from rainshadow.machine import Chip, load_neuron_chip
from rainshadow.nki.install import nki_names
from rainshadow.nki.kernel import Kernel, Shape, record
from rainshadow.sim.launch_timing import time_launch
from rainshadow.sim.options import SimOptions
from rainshadow.sim.timing import TimingOptions
from rainshadow.sim.trace import Trace
from rainshadow.validation.measured import Measured


class CannotRun(NotModelled):
    """A point that can't be computed again. what: why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLaunch:
    """A kernel with the shapes of its arguments.

    name: equal for launches that one recording serves.  kernel: imports it.
    arguments: of which tensors are `Shape`s, or arrays where the kernel looks at their values.
    grid: of programs, for kernels of the first generation; without one as many as cores.
    """

    name: str
    chip: str
    lnc: int
    kernel: Callable[[], Any]
    arguments: Callable[[], Mapping[str, Any]]
    grid: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """What tells this launch from others."""
        return f"{self.name} on {self.chip} lnc={self.lnc}"

    def measure(self, traces: Path | None = None) -> Measured:
        """Record without data, or read the recording kept in `traces`, and time it."""
        machine = load_neuron_chip(self.chip)
        cores = self._kept(traces) if traces is not None else None
        if cores is None:
            cores = self._record(machine)
            if traces is not None:
                for rank, trace in enumerate(cores):
                    trace.save(self._file(traces, rank))
        options = TimingOptions(lnc=self.lnc, schedule="compiler")  # what is published was compiled
        return Measured(machine, time_launch(cores, machine, options))

    def _record(self, machine: Chip) -> tuple[Trace, ...]:
        """Without data; with zeros where the kernel computes an address."""
        try:
            return self._recorded(machine, dict(self.arguments()), "none")
        except NeedsData:
            given = {name: _with_data(value) for name, value in self.arguments().items()}
            return self._recorded(machine, given, "full")

    def _recorded(
        self, machine: Chip, given: dict[str, Any], data: Literal["none", "full"]
    ) -> tuple[Trace, ...]:
        kernel = self.kernel()
        function = kernel if isinstance(kernel, Kernel) else Kernel(kernel)
        # Kernels print, and results alone go to stdout; some import nki when they are called.
        with redirect_stdout(sys.stderr), nki_names():
            run = record(
                function[self.grid or self.lnc],
                kwargs=given,
                chip=machine,
                options=SimOptions(data=data, spill="model", uninitialized="zero"),
            )
        return (run.trace, *run.other_traces)

    def _file(self, traces: Path, rank: int) -> Path:
        digest = hashlib.sha256(self.key.encode()).hexdigest()[:16]
        return traces / f"{digest}-{rank}.npz"

    def _kept(self, traces: Path) -> tuple[Trace, ...] | None:
        files = [self._file(traces, rank) for rank in range(self.lnc)]
        if not all(file.exists() for file in files):
            return None
        try:
            return tuple(Trace.load(file) for file in files)
        except InputError:
            return None


def _with_data(value: Any) -> Any:
    """Zeros in place of a shape."""
    return np.zeros(value.shape, numpy_dtype(value.dtype)) if isinstance(value, Shape) else value


_DTYPES = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "fp32": "float32",
    "fp8": "float8_e4m3",
    "fp8_e4m3": "float8_e4m3",
    "fp8_e5m2": "float8_e5m2",
}


def dtype_of(text: str) -> str:
    """NKI's name of a dtype, which tables abbreviate.

    Errors: `CannotRun` where there is none.
    """
    name = _DTYPES.get(text.lower(), text.lower())
    if not is_dtype(name):
        raise CannotRun(f"dtype {text!r} is not known")
    return name
