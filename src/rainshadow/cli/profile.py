"""Record and time an NKI kernel: engines, waits, memory, the lines that take the time, advice.

FILE.py:function calls one kernel with arguments made from --arg. FILE.py alone runs the file as a
script, words after -- being its own, and profiles every kernel it launches. TRACE.npz, which an
earlier profile wrote, is timed again. --out gets summary.json, report.html, the trace, and a
timeline for ui.perfetto.dev. --what-if FIGURE=VALUE,... times the same instructions on a chip with
other figures (see `rainshadow machines`; sbuf=48MiB is all of SBUF). --compare A B shows two
profiles beside each other: each a folder that --out has written, or a TRACE.npz.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rainshadow.cli_options import (
    Cores,
    Data,
    KernelArguments,
    KernelChip,
    ScriptArguments,
    Seed,
    Spill,
    SummaryJson,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rainshadow.machine import Chip
    from rainshadow.nki.program import LaunchOptions
    from rainshadow.sim.timeline import Timeline
    from rainshadow.sim.trace import Trace


def command(
    kernel: Annotated[
        str | None, typer.Argument(help="FILE.py:function, FILE.py to run as a script, TRACE.npz.")
    ] = None,
    arguments: ScriptArguments = None,
    arg: KernelArguments = None,
    chip: KernelChip = None,
    lnc: Cores = None,
    data: Data = "full",
    seed: Seed = 0,
    spill: Spill = "reject",
    what_if: Annotated[
        str | None, typer.Option(help="Time on a chip with sbuf=48MiB,hbm.bandwidth=4TB/s too.")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Two profiles: folders or TRACE.npz.")
    ] = None,
    advice: Annotated[bool, typer.Option(help="Say what a change can save at most.")] = True,
    out: Annotated[Path | None, typer.Option(help="Output folder [rainshadow-out/<name>].")] = None,
    parquet: Annotated[
        bool, typer.Option(help="Also write Parquet: each timeline, and Neuron Explorer's tables.")
    ] = False,
    as_json: SummaryJson = False,
) -> None:
    """Run, time, write, print."""
    from rainshadow.errors import InputError
    from rainshadow.machine.what_if import what_if as chip_if
    from rainshadow.nki.program import LaunchOptions, named_chip, split_target
    from rainshadow.porting.output import staged

    machine = named_chip(chip)
    changed = chip_if(machine, what_if) if what_if is not None else None
    if compare is not None:
        if kernel is not None:
            raise InputError("--compare with a kernel", allowed="--compare A B alone")
        _print_comparison(compare, machine, as_json=as_json)
        return
    if kernel is None:
        raise InputError("no kernel", allowed="FILE.py:function, FILE.py, TRACE.npz or --compare")
    options = LaunchOptions(data=data, seed=seed, spill=spill, lnc=lnc)
    path, name = split_target(kernel)
    folder = out or Path("rainshadow-out") / (f"{path.stem}-{name}" if name else path.stem)
    with staged(folder) as scratch:
        launches = _launched(kernel, arg or [], arguments or [], machine, options)
        timed = [_timed(traces, machine, cores) for traces, cores in launches]
        summary = {
            "launches": [
                each
                for timelines, (_, cores) in zip(timed, launches, strict=True)
                for each in _summaries(timelines, machine, changed, cores, advice=advice)
            ]
        }
        cores = [count for traces, count in launches for _ in traces]
        _write(scratch, timed, cores, summary, machine, parquet=parquet)
    print(json.dumps(summary, indent=2) if as_json else _text(summary))
    print(f"rainshadow: written to {folder}/", file=sys.stderr)


def _launched(
    kernel: str,
    arg: list[str],
    arguments: list[str],
    machine: Chip,
    options: LaunchOptions,
) -> list[tuple[list[Trace], int]]:
    """Of every launch the traces, one a core, and how many cores a rank has."""
    from rainshadow.nki.program import launch
    from rainshadow.sim.trace import Trace

    if kernel.endswith(".npz"):
        return [([Trace.load(Path(kernel))], options.lnc or 1)]
    runs = launch(kernel, arg, arguments, machine, options)
    return [([run.trace, *run.other_traces], run.lnc) for run in runs]


def _timed(traces: Sequence[Trace], machine: Chip, cores: int) -> tuple[Timeline, ...]:
    from rainshadow.sim.launch_timing import time_launch
    from rainshadow.sim.timing import TimingOptions

    return time_launch(traces, machine, TimingOptions(lnc=cores))


def _summaries(
    timelines: Sequence[Timeline], machine: Chip, changed: Chip | None, cores: int, *, advice: bool
) -> list[dict[str, Any]]:
    """One for each core of a launch."""
    from rainshadow.report.advice import advise
    from rainshadow.report.compare import compare_profiles
    from rainshadow.report.profile import summarize_profile
    from rainshadow.sim.place_again import place_again
    from rainshadow.sim.timing import TimingOptions

    options = TimingOptions(lnc=cores)
    count = len(timelines)
    summaries = [
        summarize_profile(timeline, machine, core, count) for core, timeline in enumerate(timelines)
    ]
    for core, summary in enumerate(summaries):
        summary["advice"] = advise(timelines, core, machine, options) if advice else []
    if changed is not None:
        traces = [place_again(timeline.trace, changed) for timeline in timelines]
        for core, (summary, again) in enumerate(
            zip(summaries, _timed(traces, changed, cores), strict=True)
        ):
            other = summarize_profile(again, changed, core, count)
            summary["what_if"] = {"profile": other, **compare_profiles(summary, other)}
    return summaries


def _text(summary: dict[str, Any]) -> str:
    from rainshadow.report.profile_text import comparison_text, profile_text

    parts = []
    for launch in summary["launches"]:
        parts.append(profile_text(launch))
        if "what_if" in launch:
            parts.append(comparison_text(launch["what_if"], ("as it is", "what if")))
    return "\n\n".join("\n".join(lines) for lines in parts)


def _print_comparison(paths: tuple[Path, Path], machine: Chip, *, as_json: bool) -> None:
    from rainshadow.errors import InputError
    from rainshadow.report.compare import compare_profiles
    from rainshadow.report.profile_text import comparison_text

    first, second = (_launches(path, machine) for path in paths)
    if len(first) != len(second):
        raise InputError(
            f"{paths[0]} has {len(first)} launches, {paths[1]} has {len(second)}",
            allowed="the same number in both",
        )
    pairs = [compare_profiles(one, other) for one, other in zip(first, second, strict=True)]
    if as_json:
        print(json.dumps({"comparisons": pairs}, indent=2))
        return
    names = (str(paths[0]), str(paths[1]))
    print("\n\n".join("\n".join(comparison_text(pair, names)) for pair in pairs))


def _launches(path: Path, machine: Chip) -> list[dict[str, Any]]:
    """Profiles that lie in a folder, or a trace timed now."""
    from rainshadow.errors import InputError
    from rainshadow.report.profile import summarize_profile
    from rainshadow.sim.trace import Trace

    if path.suffix == ".npz":
        return [summarize_profile(_timed([Trace.load(path)], machine, 1)[0], machine)]
    try:
        launches = json.loads((path / "summary.json").read_text("utf-8"))["launches"]
        complete = all("ideal" in launch for launch in launches)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no profile: {error}", allowed="a folder of --out, or a TRACE.npz"
        ) from None
    if not complete:
        raise InputError(f"{path} is a profile of an older version", fix="profile the kernel again")
    return list(launches)


def _write(
    folder: Path,
    launches: list[tuple[Timeline, ...]],
    cores: list[int],
    summary: dict[str, Any],
    machine: Chip,
    *,
    parquet: bool,
) -> None:
    from rainshadow.report.explorer import write_explorer_tables
    from rainshadow.report.perfetto import TimelineLaunch, perfetto_json
    from rainshadow.report.profile_page import profile_page
    from rainshadow.report.tables import write_parquet

    timelines = [timeline for launch in launches for timeline in launch]
    (folder / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    (folder / "report.html").write_text(profile_page(summary, timelines), encoding="utf-8")
    drawn = [
        TimelineLaunch(timeline.trace.kernel, "kernel", timeline, core)
        for launch in launches
        for core, timeline in enumerate(launch)
    ]
    (folder / "timeline.perfetto.json.gz").write_bytes(perfetto_json(drawn))
    for number, timeline in enumerate(timelines):
        stem = f"{number:03d}-{timeline.trace.kernel}"
        timeline.trace.save(folder / f"{stem}.npz")
        if parquet:
            write_parquet(timeline, folder / f"{stem}.parquet")
            place, count = folder / f"{stem}-explorer", cores[number]
            write_explorer_tables(timeline, machine, place, number % count, count)
