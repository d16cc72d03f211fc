"""Record and time an NKI kernel: engines, waits, memory, and the lines that take the time.

FILE.py:function calls one kernel with arguments made from --arg. FILE.py alone runs the file as a
script, words after -- being its own, and profiles every kernel it launches. --out gets
summary.json, the trace, and a timeline for ui.perfetto.dev.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rainshadow.nki import Run

_FUNCTION = re.compile(r"^(?P<path>.+):(?P<name>[A-Za-z_]\w*)$")


def command(
    kernel: Annotated[str, typer.Argument(help="FILE.py:function, or FILE.py to run as a script.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(help="The script's arguments, after --.")
    ] = None,
    arg: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=VALUE of the function: 128x512:bfloat16 (random), @FILE.npy, or a literal."
        ),
    ] = None,
    chip: Annotated[str, typer.Option(help="The chip: see `rainshadow machines`.")] = "trainium2",
    data: Annotated[str, typer.Option(help="full, or none: shapes only, much faster.")] = "full",
    seed: Annotated[int, typer.Option(help="Seed of the random arguments.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Output folder [rainshadow-out/<name>].")] = None,
    parquet: Annotated[bool, typer.Option(help="Also write each timeline as Parquet.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print summary.json.")] = False,
) -> None:
    """Run, time, write, print."""
    from rainshadow.errors import InputError
    from rainshadow.machine import load_neuron_chip
    from rainshadow.porting.output import staged
    from rainshadow.report.profile import summarize_profile
    from rainshadow.report.text import profile_text
    from rainshadow.sim.timing import time_trace

    if data not in ("full", "none"):
        raise InputError(f"--data {data}", allowed="full or none")
    machine = load_neuron_chip(chip)
    match = _FUNCTION.match(kernel)
    path = Path(match["path"] if match else kernel)
    name = f"{path.stem}-{match['name']}" if match else path.stem
    folder = out or Path("rainshadow-out") / name
    with staged(folder) as scratch:
        runs = (
            [_call(path, match["name"], arg or [], machine, data=data == "full", seed=seed)]
            if match
            else _script(path, arguments or [], arg, machine)
        )
        traces = [trace for run in runs for trace in (run.trace, *run.other_traces)]
        timelines = [time_trace(trace, machine) for trace in traces]
        summary = {"launches": [summarize_profile(timeline, machine) for timeline in timelines]}
        _write(scratch, timelines, summary, parquet=parquet)
    if as_json:
        print(json.dumps(summary, indent=2))
    else:
        print("\n\n".join("\n".join(profile_text(launch)) for launch in summary["launches"]))
    print(f"rainshadow: written to {folder}/", file=sys.stderr)


def _call(path: Path, name: str, given: list[str], machine: Any, *, data: bool, seed: int) -> Run:
    from rainshadow.errors import InputError
    from rainshadow.nki import record
    from rainshadow.nki.program import as_script, bind_arguments, load_kernel
    from rainshadow.sim.options import SimOptions

    function = load_kernel(path, name)
    values = bind_arguments(function, given, data=data, seed=seed)
    options = SimOptions(data="full" if data else "none", seed=seed)
    with as_script(path, ()):
        return record(function, kwargs=values, chip=machine, options=options)
    raise InputError(f"{path}:{name} ended the program instead of returning")


def _script(path: Path, arguments: list[str], arg: list[str] | None, machine: Any) -> list[Run]:
    from rainshadow.errors import InputError
    from rainshadow.nki.program import run_program

    if arg:
        raise InputError("--arg without a function", allowed="FILE.py:function --arg NAME=VALUE")
    return run_program(path, arguments, machine)


def _write(folder: Path, timelines: list[Any], summary: dict[str, Any], *, parquet: bool) -> None:
    from rainshadow.report.perfetto import TimelineLaunch, perfetto_json
    from rainshadow.report.tables import write_parquet

    (folder / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    drawn = [TimelineLaunch(t.trace.kernel, "kernel", t) for t in timelines]
    (folder / "timeline.perfetto.json.gz").write_bytes(perfetto_json(drawn))
    for number, timeline in enumerate(timelines):
        stem = f"{number:03d}-{timeline.trace.kernel}"
        timeline.trace.save(folder / f"{stem}.npz")
        if parquet:
            write_parquet(timeline, folder / f"{stem}.parquet")
