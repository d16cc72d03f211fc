"""Run a CUDA PyTorch script, unedited, on the simulated Trainium.

Words after -- go to the script. Nothing is compared or priced: see `rainshadow port`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from rainshadow.cli_options import (
    ChipName,
    CudaScript,
    NoHost,
    OptimizerSteps,
    ScriptArguments,
)
from rainshadow.porting.record import RunRecord


def command(
    script: CudaScript,
    arguments: ScriptArguments = None,
    chip: ChipName = "trainium2",
    precision: Annotated[str, typer.Option(help="bf16 (the script's autocast) or fp32.")] = "bf16",
    steps: OptimizerSteps = None,
    no_host: NoHost = False,
    keep: Annotated[Path | None, typer.Option(help="Folder for the run's record.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Run the script as its own process; its exit state is this command's."""
    from rainshadow.errors import InputError
    from rainshadow.machine import load_neuron_chip
    from rainshadow.porting.launch import ScriptRun, check_script, require_complete

    check_script(script)
    load_neuron_chip(chip)
    if precision not in ("bf16", "fp32"):
        raise InputError(f"precision {precision!r}", allowed="bf16 or fp32")
    with tempfile.TemporaryDirectory(prefix="rainshadow-") as scratch:
        order: dict[str, Any] = {
            "script": str(script),
            "arguments": arguments or [],
            "target": "rainshadow",
            "precision": precision,
            "folder": str((keep or Path(scratch) / "record").resolve()),
            "chip": chip,
            "step_limit": steps,
            "host": not no_host,
        }
        output = sys.stderr if as_json else sys.stdout
        run = ScriptRun(order, output=output, errors=sys.stderr, stdin=True)
        record = run.wait()
    print(json.dumps(_summary(record), indent=2) if as_json else "", end="")
    for line in _lines(record):
        print(line, file=sys.stderr)
    if record.partial:
        try:
            require_complete(record)
        except InputError as error:
            error.exit_code = record.exit_code
            raise


def _summary(record: RunRecord) -> dict[str, Any]:
    """The record without its arrays."""
    return {
        "script": record.script,
        "arguments": list(record.arguments),
        "status": record.status,
        "partial": record.partial,
        "precision": record.precision,
        "losses": record.loss_curve.tolist(),
        "steps": record.num_steps,
        "ties": [tie.to_json() for tie in record.ties],
        "host_operations": [asdict(row) for row in record.host_total],
        "hbm_peak_bytes": record.hbm_peak_bytes,
        "wall_s": record.wall_s,
        "versions": record.versions,
    }


def _lines(record: RunRecord) -> list[str]:
    lines = [
        f"rainshadow: {record.status}; {record.num_steps} optimizer steps in "
        f"{record.wall_s:.1f} s, {len(record.ties)} ties to CUDA resolved"
    ]
    for row in record.host_total:
        lines.append(f"rainshadow: on the host: {row.op} x {row.count} at {row.where}")
    return lines
