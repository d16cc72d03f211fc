"""Record and time an NKI kernel: engines, waits, memory, and the lines that take the time.

FILE.py:function calls one kernel with arguments made from --arg. FILE.py alone runs the file as a
script, words after -- being its own, and profiles every kernel it launches. --out gets
summary.json, the trace, and a timeline for ui.perfetto.dev.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer


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
    lnc: Annotated[int | None, typer.Option(help="Cores that the function runs on.")] = None,
    data: Annotated[str, typer.Option(help="full, or none: shapes only, much faster.")] = "full",
    seed: Annotated[int, typer.Option(help="Seed of the random arguments.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Output folder [rainshadow-out/<name>].")] = None,
    parquet: Annotated[bool, typer.Option(help="Also write each timeline as Parquet.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print summary.json.")] = False,
) -> None:
    """Run, time, write, print."""
    from rainshadow.machine import load_neuron_chip
    from rainshadow.nki.program import launch, split_target
    from rainshadow.porting.output import staged
    from rainshadow.report.profile import summarize_profile
    from rainshadow.report.text import profile_text
    from rainshadow.sim.timing import time_trace

    machine = load_neuron_chip(chip)
    path, name = split_target(kernel)
    folder = out or Path("rainshadow-out") / (f"{path.stem}-{name}" if name else path.stem)
    with staged(folder) as scratch:
        runs = launch(kernel, arg or [], arguments or [], machine, data=data, seed=seed, lnc=lnc)
        traces = [trace for run in runs for trace in (run.trace, *run.other_traces)]
        timelines = [time_trace(trace, machine) for trace in traces]
        summary = {"launches": [summarize_profile(timeline, machine) for timeline in timelines]}
        _write(scratch, timelines, summary, parquet=parquet)
    if as_json:
        print(json.dumps(summary, indent=2))
    else:
        print("\n\n".join("\n".join(profile_text(launch)) for launch in summary["launches"]))
    print(f"rainshadow: written to {folder}/", file=sys.stderr)


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
