"""Port a CUDA PyTorch script, unedited: ties to CUDA, parity, one step on the chip.

Words after -- go to the script. It runs three times: on the CPU in exact fp32, on the simulated
chip in bf16, and there in exact fp32. --out gets summary.json, the NKI kernels and the trace.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rainshadow.porting.port import PortResult


def command(
    script: Annotated[Path, typer.Argument(help="A Python script written for CUDA.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="Its arguments, after --.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder [rainshadow-out/<script>].")
    ] = None,
    chip: Annotated[str, typer.Option(help="The chip: see `rainshadow machines`.")] = "trainium2",
    steps: Annotated[int | None, typer.Option(help="End after so many optimizer steps.")] = None,
    no_host: Annotated[bool, typer.Option(help="Refuse operators without a kernel.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print summary.json.")] = False,
) -> None:
    """Run, compare, time, write, print."""
    from rainshadow.porting.launch import check_script
    from rainshadow.porting.output import staged
    from rainshadow.porting.port import PortOptions, port
    from rainshadow.porting.summary import summarize

    check_script(script)
    folder = out or Path("rainshadow-out") / script.stem
    with staged(folder) as scratch:
        runs = scratch / "runs"
        options = PortOptions(
            script=script,
            arguments=tuple(arguments or ()),
            folder=runs,
            chip=chip,
            step_limit=steps,
            host=not no_host,
        )
        result = port(options, output=sys.stderr, progress=_say)
        summary = summarize(result)
        _write(result, summary, scratch)
        shutil.rmtree(runs)
    print(json.dumps(summary, indent=2) if as_json else "\n".join(_text(summary)))
    _say(f"written to {folder}/")
    _judge(result)


def _say(line: str) -> None:
    print(f"rainshadow: {line}", file=sys.stderr, flush=True)


def _judge(result: PortResult) -> None:
    """Exit as what was found deserves.

    Errors: `ScriptError` where the script failed; `CheckFailed` where the chip disagrees.
    """
    from rainshadow.errors import CheckFailed

    if result.failure is not None:
        raise result.failure
    faults = [f"{p.precision}: {fault}" for p in result.parity for fault in p.faults]
    if faults:
        raise CheckFailed(
            "the simulated chip and the CPU disagree: " + "; ".join(faults),
            allowed="loss and gradient errors within the limits of summary.json",
        )


def _write(result: PortResult, summary: dict[str, Any], folder: Path) -> None:
    from rainshadow.porting.port import concatenate

    (folder / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    kernels = folder / "kernels"
    kernels.mkdir()
    for path in result.bf16.kernels:
        shutil.copy(path, kernels / path.name)
    if result.step is not None and result.step.launches:
        traces = [launch.timeline.trace for launch in result.step.launches]
        concatenate(traces).save(folder / "trace.npz")


def _text(summary: dict[str, Any]) -> list[str]:
    """The answer for a terminal."""
    head = f"{summary['script']} on a simulated {_chip(summary)}"
    lines = [head + (", PARTIAL" if summary["partial"] else ""), "", "1. Ties to CUDA"]
    for tie in summary["ties"]:
        where = tie["where"]
        lines.append(
            f"  {Path(where['file']).name}:{where['line']:<5} {tie['api']:<34} x{tie['count']:<6}"
            f"{tie['resolution']}"
        )
    lines += ["", "2. Parity with the CPU in exact fp32"]
    for precision, parity in summary["parity"].items():
        lines += _parity_lines(precision, parity)
    if summary["step"] is not None:
        lines += ["", *_step_lines(summary["step"])]
    return lines


def _chip(summary: dict[str, Any]) -> str:
    return summary["step"]["chip"] if summary["step"] else "chip"


def _parity_lines(precision: str, parity: dict[str, Any]) -> list[str]:
    verdict = "agrees" if parity["agrees"] else "DISAGREES"
    worst = parity["gradients"][0] if parity["gradients"] else None
    loss, limit = parity["worst_loss_error"], parity["loss_limit"]
    lines = [f"  {precision}: {verdict}"]
    if loss is not None:
        lines.append(
            f"    worst loss difference {loss:.2e} (limit {limit:g}) over {len(parity['losses'])} "
            f"steps; last loss {parity['losses'][-1]:.4f}, CPU {parity['reference_losses'][-1]:.4f}"
        )
    if worst is not None:
        error = "not finite" if worst["norm_error"] is None else f"{worst['norm_error']:.2e}"
        lines.append(
            f"    worst gradient difference at step 1 {error} "
            f"(limit {parity['gradient_limit']:g}): {worst['name']}"
        )
    return lines + [f"    {fault}" for fault in parity["faults"]]


def _step_lines(step: dict[str, Any]) -> list[str]:
    from rainshadow.units import format_bytes, format_seconds

    host = step["host_operations"]
    lines = [
        f"3. Step {step['index']} on one NeuronCore: {format_seconds(step['step_s'])}",
        f"  {step['launches']} kernel launches, {step['instructions']:,} instructions, "
        f"{format_seconds(step['launch_s'])} of it starting kernels",
        f"  MFU {step['mfu_fraction']:.2%}, HFU {step['hfu_fraction']:.2%} "
        f"of the core's bf16 peak; busiest: {step['bound_by']}",
        "  phases: " + _seconds(step["phase_s"]),
        "  engines busy: " + _seconds(step["engine_busy_s"]),
        "  peaks: "
        f"SBUF {format_bytes(step['sbuf_peak_bytes_per_partition'])} and "
        f"PSUM {format_bytes(step['psum_peak_bytes_per_partition'])} per partition, "
        f"HBM {format_bytes(step['hbm_peak_bytes'])}",
        f"  on the host: {sum(row['count'] for row in host)} operators"
        + (f", {step['host_flops_fraction']:.2%} of the FLOP" if host else ""),
        *(f"    {row['op']} x{row['count']} at {row['where']}: {row['reason']}" for row in host),
        "  top kernels:",
    ]
    for row in step["top_kernels"][:8]:
        lines.append(f"    {format_seconds(row['time_s']):>10}  {row['kernel']}: {row['function']}")
    return lines


def _seconds(times: dict[str, float]) -> str:
    from rainshadow.units import format_seconds

    return ", ".join(f"{name} {format_seconds(value)}" for name, value in times.items() if value)
