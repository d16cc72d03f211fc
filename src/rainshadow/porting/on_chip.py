"""Knows how a user's script runs on the simulated chip, and what of it is kept for the report.

The device itself is compiler.session's and the PyTorch front end's; the record is record.py's.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rainshadow.compiler.frontends.torch.device import DEVICE_TYPE, register_device
from rainshadow.compiler.session import HostFallback, Session, SessionOptions, Transfer
from rainshadow.porting.cuda_namespace import DeviceFacts
from rainshadow.porting.mixed_precision import PrecisionPolicy
from rainshadow.porting.record import HostOperation, Launch, RunRecord
from rainshadow.porting.redirect import Redirection
from rainshadow.porting.ties import TieLog
from rainshadow.porting.watch import TrainingWatch

if TYPE_CHECKING:
    from rainshadow.porting.child import Order

_Fallbacks = dict[tuple[str, str], tuple[HostFallback, int, float]]
_Transfers = dict[str, tuple[int, int]]


class SessionListener:
    """Keeps a session's totals at the end of each step; the session itself keeps them by run."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.fallbacks_at: list[_Fallbacks] = []
        self.transfers_at: list[_Transfers] = []

    def step_ended(self) -> None:
        """The front end has closed the step in the session; keep the totals of this moment."""
        self.fallbacks_at.append(self.fallbacks())
        self.transfers_at.append(self.transfers())

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Reads made inside count as no transfer: a real run would not make them."""
        before = self.transfers()
        try:
            yield
        finally:
            self.session.transfers.clear()
            for kind, (count, nbytes) in before.items():
                self.session.transfers[kind] = Transfer(kind, count, nbytes)

    def fallbacks(self) -> _Fallbacks:
        """Totals so far by operator and line."""
        return {
            (entry.op, str(entry.source)): (entry, entry.count, entry.flops)
            for entry in self.session.host_fallbacks
        }

    def transfers(self) -> _Transfers:
        """Totals so far by kind."""
        return {kind: (t.count, t.bytes) for kind, t in self.session.transfers.items()}


def run_on_chip(order: Order, log: TieLog, scratch: Path) -> RunRecord:
    """Run the script on the simulated NeuronCore; ties and versions are left to the caller.

    scratch: a folder for the kernels and traces that the record names.
    """
    from rainshadow.porting.child import execute, watched_record

    kernels = scratch / "kernels"
    kernels.mkdir()
    options = SessionOptions(
        precision="fp32" if order.precision == "fp32" else "bf16",
        allow_host=order.host,
        kernels_folder=kernels,
    )
    with Session(order.chip, options) as session:
        register_device()
        listener = SessionListener(session)
        watch = TrainingWatch(listener, order.step_limit)
        redirection = Redirection(
            DEVICE_TYPE,
            facts=device_facts(session),
            policy=PrecisionPolicy(autocast=order.precision == "bf16"),
            backend=DEVICE_TYPE,
            log=log,
            targets_seen=watch.targets_seen,
        )
        with redirection, watch:
            ending = execute(order)
        record = watched_record(order, watch, ending)
        return with_steady_step(record, listener, scratch)


def device_facts(session: Session) -> DeviceFacts:
    """What a script is told about the NeuronCore: one core, with its share of the chip's HBM."""
    return DeviceFacts(
        name=f"{session.chip.title} NeuronCore (simulated)",
        memory_bytes=session.chip.core_hbm_bytes,
        live_bytes=lambda: session.hbm.live_bytes,
        peak_bytes=lambda: session.hbm.peak_bytes,
        reset_peak=session.hbm.reset_peak,
    )


def steady_step(session: Session) -> int | None:
    """The last optimizer step that launches what most do; the first only if it is the only one.

    The first step compiles and initialises, and steps that evaluate or save launch more.
    """
    if not session.step:
        return None
    sequences: dict[int, tuple[int, ...]] = {}
    for step in range(1, session.step):
        sequences[step] = tuple(launch.kernel.number for launch in session.step_launches(step))
    if not sequences:
        return 0
    often = Counter(sequences.values())
    return max(sequences, key=lambda step: (often[sequences[step]], step))


def with_steady_step(record: RunRecord, listener: SessionListener, scratch: Path) -> RunRecord:
    """`record` with the kernels, traces and host work of one steady step.

    Of the whole run where the script made no optimizer step.
    """
    session = listener.session
    step = steady_step(session)
    record = replace(
        record,
        host_total=_host_operations({}, listener.fallbacks()),
        hbm_peak_bytes=session.hbm.peak_bytes,
        kernels=sorted((scratch / "kernels").glob("*.py")),
    )
    launches, traces, place = [], [], {}
    for launch in session.launches if step is None else session.step_launches(step):
        number = launch.kernel.number
        if launch.kernel.trace is None:
            continue
        if number not in place:
            place[number] = len(traces)
            path = scratch / f"{number}.npz"
            launch.kernel.trace.save(path)
            traces.append(path)
        launches.append(Launch(kernel=launch.kernel.name, phase=launch.phase, trace=place[number]))
    fallbacks = listener.fallbacks_at[step - 1] if step else {}
    moved = listener.transfers_at[step - 1] if step else {}
    all_fallbacks = listener.fallbacks() if step is None else listener.fallbacks_at[step]
    all_moved = listener.transfers() if step is None else listener.transfers_at[step]
    return replace(
        record,
        recorded_step=step,
        launches=launches,
        traces=traces,
        host_operations=_host_operations(fallbacks, all_fallbacks),
        transfers={
            kind: nbytes - moved.get(kind, (0, 0))[1]
            for kind, (_, nbytes) in all_moved.items()
            if nbytes > moved.get(kind, (0, 0))[1]
        },
    )


def _host_operations(before: _Fallbacks, after: _Fallbacks) -> list[HostOperation]:
    """What ran on the host between two totals."""
    rows = []
    for key, (entry, count, flops) in after.items():
        _, count_before, flops_before = before.get(key, (entry, 0, 0.0))
        if count > count_before:
            rows.append(
                HostOperation(
                    op=entry.op,
                    reason=entry.reason,
                    where=str(entry.source or ""),
                    count=count - count_before,
                    flops=int(flops - flops_before),
                )
            )
    return rows
