"""Knows what one run of a script left behind, and how that is kept in a folder.

A record is complete or absent: it is written beside its place and renamed. `record.json` holds
everything but arrays; `gradients.npz` the gradients; `traces/N.npz` the kernels of one step;
`kernels/*.py` their source.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from rainshadow.errors import InputError
from rainshadow.porting.ties import Tie

#: How a run ended. Only the first two are complete.
FINISHED, STEP_LIMIT, RAISED, EXITED, INTERRUPTED, KILLED = (
    "finished",
    "stopped at the step limit",
    "raised",
    "exited",
    "interrupted",
    "killed",
)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A kernel launched in the recorded step. trace: index into `RunRecord.traces`."""

    kernel: str
    phase: str
    trace: int


@dataclass(frozen=True, kw_only=True)
class HostOperation:
    """An operator that ran on the host. flops: its matmul work, over all its calls."""

    op: str
    reason: str
    where: str
    count: int
    flops: int


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What one run of a script left behind.

    target: "rainshadow" or "cpu".  precision: "bf16" or "fp32".  status: how the run ended.
    error: the last line of the traceback, or "".  exit_code: what the run is worth to a shell.
    losses: value of the root of each outermost backward(), gradient scaling undone; loss_step:
    number of optimizer steps done before each.  step_wall_s: host time between the ends of
    consecutive optimizer steps.  targets_per_step: loss targets (tokens) per optimizer step.
    model_flops: see model_flops.py, per optimizer step, counted on the reference run only.
    gradients: fp32, at the end of the last backward() before the first optimizer step, by
    parameter name.  launches, host_operations, transfers: those of optimizer step number
    `recorded_step` (from 0), between the end of the previous step and its own end; host_total:
    host operations of the whole run. Where there was no optimizer step, `recorded_step` is None and
    they are those of the whole run.  traces: files, by index.
    """

    script: str
    arguments: tuple[str, ...] = ()
    target: str
    precision: str
    status: str = FINISHED
    error: str = ""
    exit_code: int = 0
    losses: list[float] = field(default_factory=list)
    loss_step: list[int] = field(default_factory=list)
    step_wall_s: list[float] = field(default_factory=list)
    targets_per_step: list[int] = field(default_factory=list)
    gradients: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    num_parameters: int = 0
    model_flops: int = 0
    ties: list[Tie] = field(default_factory=list)
    recorded_step: int | None = None
    launches: list[Launch] = field(default_factory=list)
    host_operations: list[HostOperation] = field(default_factory=list)
    host_total: list[HostOperation] = field(default_factory=list)
    transfers: dict[str, int] = field(default_factory=dict)
    traces: list[Path] = field(default_factory=list)
    kernels: list[Path] = field(default_factory=list)
    hbm_peak_bytes: int = 0
    wall_s: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def partial(self) -> bool:
        """Whether the script did not come to its end."""
        return self.status not in (FINISHED, STEP_LIMIT)

    @property
    def num_steps(self) -> int:
        """Optimizer steps done."""
        return len(self.step_wall_s)

    @property
    def loss_curve(self) -> np.ndarray[Any, Any]:
        """float64[steps]: sum of the losses that each optimizer step came from.

        A script that accumulates gradients divides each loss by the number of parts, so that
        the sum is the loss of the step; where it does not, the sum is a multiple of it. Without
        an optimizer every loss stands for itself.
        """
        if not self.num_steps:
            return np.array(self.losses)
        curve = np.zeros(max(self.loss_step, default=-1) + 1)
        np.add.at(curve, self.loss_step, self.losses)
        return curve


def save_record(record: RunRecord, folder: Path) -> RunRecord:
    """Write `record` to `folder`, copying its traces and kernels there; returns it as stored.

    Errors: `InputError` if `folder` exists and is no folder of records.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".record-"))
    try:
        traces = [
            _keep(path, staged / "traces" / f"{i}.npz") for i, path in enumerate(record.traces)
        ]
        kernels = [_keep(path, staged / "kernels" / path.name) for path in record.kernels]
        np.savez(staged / "gradients.npz", **_numbered(record.gradients))
        entry = {f.name: getattr(record, f.name) for f in fields(record)}
        entry["gradients"] = list(record.gradients)
        entry["traces"] = [path.relative_to(staged).as_posix() for path in traces]
        entry["kernels"] = [path.relative_to(staged).as_posix() for path in kernels]
        for name in ("ties", "launches", "host_operations", "host_total"):
            entry[name] = [asdict(row) for row in entry[name]]
        (staged / "record.json").write_text(json.dumps(entry, indent=1), encoding="utf-8")
        if folder.exists():
            if not (folder / "record.json").exists():
                raise InputError(f"{folder} exists and holds no run record")
            shutil.rmtree(folder)
        staged.rename(folder)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    return load_record(folder)


def load_record(folder: Path) -> RunRecord:
    """Read what `save_record` wrote.

    Errors: `InputError` where there is no record or it cannot be read.
    """
    try:
        entry: Mapping[str, Any] = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        with np.load(folder / "gradients.npz") as data:
            arrays = [data[str(i)] for i in range(len(entry["gradients"]))]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder} holds no run record: {error}") from error
    return RunRecord(
        **{
            **entry,
            "arguments": tuple(entry["arguments"]),
            "gradients": dict(zip(entry["gradients"], arrays, strict=True)),
            "ties": [Tie.from_json(row) for row in entry["ties"]],
            "launches": [Launch(**row) for row in entry["launches"]],
            "host_operations": [HostOperation(**row) for row in entry["host_operations"]],
            "host_total": [HostOperation(**row) for row in entry["host_total"]],
            "traces": [folder / name for name in entry["traces"]],
            "kernels": [folder / name for name in entry["kernels"]],
        }
    )


def _keep(source: Path, place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, place)
    return place


def _numbered(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """npz entries by number: parameter names may hold characters that file names may not."""
    return {str(i): array for i, array in enumerate(arrays.values())}
