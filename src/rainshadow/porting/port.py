"""Knows how a CUDA script is ported: three runs of it, their comparison, and one step on the chip.

The runs: CPU in exact fp32 (the reference), chip in the chip's bf16 policy, chip in exact fp32.
Printing and files are the report's and the command line's business; layout and price are
`porting.layout`'s.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from rainshadow.errors import InputError, ScriptError
from rainshadow.machine import Chip, load_neuron_chip
from rainshadow.porting.launch import ScriptRun, check_script, require_complete
from rainshadow.porting.parity import Parity, compare, is_drift
from rainshadow.porting.record import HostOperation, RunRecord
from rainshadow.porting.ties import Tie
from rainshadow.sim.timeline import Timeline
from rainshadow.sim.timing import time_trace
from rainshadow.sim.trace import Trace

_PS_PER_S = 1e12
_POLL_S = 0.05
#: After one run has failed, how long the run on show may take to fail in the same way.
_SAME_FAULT_S = 2.0


@dataclass(frozen=True, kw_only=True)
class PortOptions:
    """What to port and how.

    folder: where the records of the runs go.  step_limit: optimizer steps after which every run
    is ended, or None for the script's own end.  host: whether operators without a kernel may
    run on the host.  parallel: how many runs at a time.  seed: of the random numbers, where the
    script itself seeds none: runs can only be compared on the same numbers.
    """

    script: Path
    arguments: tuple[str, ...] = ()
    folder: Path
    chip: str = "trainium2"
    step_limit: int | None = None
    host: bool = True
    seed: int = 0
    parallel: int = field(default_factory=lambda: min(2, os.cpu_count() or 1))


@dataclass(frozen=True, kw_only=True)
class StepLaunch:
    """One kernel launch of the step. Launches of the same kernel share their timeline."""

    kernel: str
    phase: str
    timeline: Timeline

    @property
    def duration_ps(self) -> int:
        """Instructions and the fixed cost of starting the kernel."""
        return self.timeline.duration_ps + self.timeline.launch_ps


@dataclass(frozen=True, kw_only=True)
class ChipStep:
    """One steady training step on one NeuronCore.

    index: number of the optimizer step it is; None where the script made none, and this is all
    that it launched.  model_flops: what the step asks for, executed or
    not; 0 where unknown.  targets: loss targets (tokens), 0 where the script has no cross entropy.
    """

    chip: Chip
    index: int | None
    launches: tuple[StepLaunch, ...]
    host_operations: tuple[HostOperation, ...]
    transfers: dict[str, int]
    hbm_peak_bytes: int
    model_flops: int
    targets: int
    num_parameters: int

    @property
    def duration_s(self) -> float:
        """The launches one after another."""
        return sum(launch.duration_ps for launch in self.launches) / _PS_PER_S

    @property
    def executed_flops(self) -> int:
        """Matmul work of all launches, as executed."""
        return sum(launch.timeline.trace.flops for launch in self.launches)


@dataclass(frozen=True, kw_only=True)
class PortResult:
    """Everything a port found out.

    reference, bf16, fp32: the runs.  parity: bf16 and fp32 against the reference.  step: None
    where the bf16 run launched nothing.  failure: why the result is partial, or None.
    """

    script: Path
    arguments: tuple[str, ...]
    reference: RunRecord
    bf16: RunRecord
    fp32: RunRecord
    parity: tuple[Parity, ...]
    step: ChipStep | None
    failure: ScriptError | None
    wall_s: float

    @property
    def ties(self) -> list[Tie]:
        """The ties the chip run met."""
        return self.bf16.ties

    @property
    def partial(self) -> bool:
        return self.failure is not None


def port(options: PortOptions, *, output: IO[Any], progress: Callable[[str], None]) -> PortResult:
    """Run the script three times and time one step of it.

    output: where the bf16 run's own output goes as it comes; that of the other runs is kept in
    the folder's *.log.  progress: called with a line for the user when a run starts or ends.

    Errors: `InputError` for what is no script; `NotModelled` where an instruction of the step
    has no cost. A script that fails or is interrupted is no error: the result is partial and
    carries it.
    """
    check_script(options.script)
    began_s = time.perf_counter()
    chip = load_neuron_chip(options.chip)
    runs = _Runs(options, output, progress)
    records = runs.records()
    reference, bf16, fp32 = (records[name] for name in ("reference", "bf16", "fp32"))
    parity = compare(bf16, reference), compare(fp32, reference)
    if is_drift(parity[0]) and parity[1].agrees:
        host_bf16 = runs.one("rounding", "cpu", "bf16", "CPU in bf16, for what rounding does")
        parity = compare(bf16, reference, host_bf16), parity[1]
    return PortResult(
        script=options.script,
        arguments=options.arguments,
        reference=reference,
        bf16=bf16,
        fp32=fp32,
        parity=parity,
        step=time_step(bf16, reference, chip),
        failure=_failure(records.values()),
        wall_s=time.perf_counter() - began_s,
    )


def time_step(record: RunRecord, reference: RunRecord, chip: Chip) -> ChipStep | None:
    """The recorded step of a run, timed on `chip`; None where it launched nothing."""
    if not record.launches:
        return None
    timelines = [time_trace(Trace.load(path), chip) for path in record.traces]
    step = record.recorded_step
    targets = reference.targets_per_step
    return ChipStep(
        chip=chip,
        index=step,
        launches=tuple(
            StepLaunch(kernel=entry.kernel, phase=entry.phase, timeline=timelines[entry.trace])
            for entry in record.launches
        ),
        host_operations=tuple(record.host_operations),
        transfers=record.transfers,
        hbm_peak_bytes=record.hbm_peak_bytes,
        model_flops=reference.model_flops,
        targets=targets[step] if step is not None and step < len(targets) else 0,
        num_parameters=record.num_parameters,
    )


def _failure(records: Any) -> ScriptError | None:
    for record in records:
        try:
            require_complete(record)
        except ScriptError as error:
            error.exit_code = record.exit_code
            return error
    return None


class _Runs:
    """The three runs, at most `options.parallel` at a time, the longest first."""

    #: name, target, precision, what the user is told
    _PLAN = (
        ("bf16", "rainshadow", "bf16", "simulated chip, the chip's bf16 policy"),
        ("reference", "cpu", "fp32", "CPU reference, exact fp32"),
        ("fp32", "rainshadow", "fp32", "simulated chip, exact fp32"),
    )

    def __init__(
        self, options: PortOptions, output: IO[Any], progress: Callable[[str], None]
    ) -> None:
        self._options = options
        self._output = output
        self._progress = progress
        self._running: dict[str, ScriptRun] = {}
        self._records: dict[str, RunRecord] = {}

    def records(self) -> dict[str, RunRecord]:
        """All records by name. After a failure the runs not yet over are stopped."""
        waiting = list(self._PLAN)
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self._options.parallel:
                    self._start(*waiting.pop(0))
                self._collect()
                if any(record.partial for record in self._records.values()):
                    self._give_up()
                    break
                time.sleep(_POLL_S)
        except KeyboardInterrupt:
            self._progress("interrupted: keeping what the runs have so far")
            self._stop()
        except BaseException:
            self._stop()
            raise
        for name, target, precision, _ in self._PLAN:
            self._records.setdefault(name, self._never_ran(target, precision))
        return self._records

    def one(self, name: str, target: str, precision: str, text: str) -> RunRecord | None:
        """One more run by itself; None where it did not come to its end."""
        self._start(name, target, precision, text)
        try:
            while self._running:
                self._collect()
                time.sleep(_POLL_S)
        except KeyboardInterrupt:
            self._stop()
        record = self._records.pop(name)
        return None if record.partial else record

    def _start(self, name: str, target: str, precision: str, text: str) -> None:
        options = self._options
        self._progress(f"running {options.script.name}: {text}")
        order = {
            "script": str(options.script),
            "arguments": list(options.arguments),
            "target": target,
            "precision": precision,
            "folder": str((options.folder / name).resolve()),
            "chip": options.chip,
            "step_limit": options.step_limit,
            "host": options.host,
            "seed": options.seed,
        }
        if name == "bf16":
            self._running[name] = ScriptRun(order, output=self._output, share=options.parallel)
            return
        with self._log(name).open("w", encoding="utf-8") as log:
            self._running[name] = ScriptRun(order, output=log, share=options.parallel)

    def _log(self, name: str) -> Path:
        self._options.folder.mkdir(parents=True, exist_ok=True)
        return self._options.folder / f"{name}.log"

    def _collect(self) -> None:
        for name, run in list(self._running.items()):
            if run.poll():
                del self._running[name]
                record = self._records[name] = run.wait()
                state = "ended" if not record.partial else record.status
                self._progress(f"{name} run {state}: {record.num_steps} optimizer steps, "
                               f"{record.wall_s:.1f} s")  # fmt: skip

    def _give_up(self) -> None:
        """A run has failed: end the others, and show why if the user has not seen it."""
        until_s = time.monotonic() + _SAME_FAULT_S
        while "bf16" in self._running and time.monotonic() < until_s:
            time.sleep(_POLL_S)
            self._collect()
        seen = "bf16" in self._records and self._records["bf16"].partial
        for name, record in self._records.items():
            if record.partial and name != "bf16" and not seen:
                self._output.write(self._log(name).read_text(encoding="utf-8"))
        self._stop()

    def _stop(self) -> None:
        """Interrupt what runs; a second Ctrl-C must not keep a run from writing its record."""
        if not self._running:
            return
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for name, run in self._running.items():
                self._records[name] = run.stop()
        finally:
            signal.signal(signal.SIGINT, before)
        self._running.clear()

    def _never_ran(self, target: str, precision: str) -> RunRecord:
        return RunRecord(
            script=str(self._options.script),
            arguments=self._options.arguments,
            target=target,
            precision=precision,
            status="not started",
            error="another run of the script failed",
            exit_code=1,
        )


def concatenate(traces: Sequence[Trace]) -> Trace:
    """The traces of a step as one, in order, for `trace.npz`.

    Addresses are those of each launch: launches follow one another and share nothing on chip.

    Errors: `InputError` where there is none.
    """
    if not traces:
        raise InputError("no trace to keep", allowed="at least one kernel launch")
    import numpy as np

    def joined(name: str, offset: Callable[[Trace], int]) -> Any:
        parts, base = [], 0
        for trace in traces:
            parts.append(getattr(trace, name) + base)
            base += offset(trace)
        return np.concatenate(parts)

    return Trace(
        kernel="step",
        chip=traces[0].chip,
        signature=joined("signature", lambda t: len(t.signatures)),
        line=joined("line", lambda t: len(t.lines)),
        access=joined("access", lambda t: 2 * len(t.ranges)),
        access_end=joined("access_end", lambda t: len(t.access)),
        ranges=np.concatenate([trace.ranges for trace in traces]),
        signatures=[signature for trace in traces for signature in trace.signatures],
        lines=[line for trace in traces for line in trace.lines],
        peak_bytes={
            space: max(trace.peak_bytes.get(space, 0) for trace in traces)
            for space in {space for trace in traces for space in trace.peak_bytes}
        },
    )
