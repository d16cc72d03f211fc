"""Port a CUDA PyTorch script, unedited: ties to CUDA, parity, one step on the chip.

Words after -- go to the script. It runs three times: on the CPU in exact fp32, on the simulated
chip in bf16, and there in exact fp32. --out gets report.html, summary.json, the NKI kernels, the
trace, and a timeline for ui.perfetto.dev.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rainshadow.cli_options import (
    ChipName,
    CudaScript,
    NoHost,
    OptimizerSteps,
    Prices,
    ScriptArguments,
    SiteName,
    SummaryJson,
)

if TYPE_CHECKING:
    from rainshadow.machine import Site
    from rainshadow.porting.port import PortResult

_PS_PER_S = 1e12


def command(
    script: CudaScript,
    arguments: ScriptArguments = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder [rainshadow-out/<script>].")
    ] = None,
    chip: ChipName = "trainium2",
    steps: OptimizerSteps = None,
    price: Prices = None,
    site: SiteName = "aws_fleet",
    no_host: NoHost = False,
    as_json: SummaryJson = False,
) -> None:
    """Run, compare, time, write, print."""
    from rainshadow.cost.price import parse_prices
    from rainshadow.machine import load_site
    from rainshadow.porting.launch import check_script
    from rainshadow.porting.output import staged
    from rainshadow.porting.port import PortOptions, port
    from rainshadow.porting.summary import summarize
    from rainshadow.report.text import port_text

    check_script(script)
    prices, where = parse_prices(price or []), load_site(site)
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
        summary = {**summarize(result), "layout": _layout(result, where, prices)}
        _write(result, summary, scratch)
        shutil.rmtree(runs)
    print(json.dumps(summary, indent=2) if as_json else "\n".join(port_text(summary)))
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


def _layout(result: PortResult, site: Site, prices: dict[str, float]) -> dict[str, Any] | None:
    """Layout and price of the step; None where there is no step or no token to count."""
    from rainshadow.errors import NotModelled
    from rainshadow.porting.layout import lay_out_step, summarize_layout

    if result.step is None:
        return None
    try:
        rows = lay_out_step(result.step, result.script.name, site=site, prices=prices)
    except NotModelled as error:
        _say(f"no layout: {error.what}")
        return None
    return summarize_layout(rows, site)


def _write(result: PortResult, summary: dict[str, Any], folder: Path) -> None:
    from rainshadow.porting.port import concatenate
    from rainshadow.report.html import port_page
    from rainshadow.report.perfetto import TimelineLaunch, perfetto_json

    (folder / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    kernels = folder / "kernels"
    kernels.mkdir()
    for path in result.bf16.kernels:
        shutil.copy(path, kernels / path.name)
    if result.step is not None and result.step.launches:
        traces = [launch.timeline.trace for launch in result.step.launches]
        concatenate(traces).save(folder / "trace.npz")
    launches = result.step.launches if result.step else ()
    drawn = [TimelineLaunch(entry.kernel, entry.phase, entry.timeline) for entry in launches]
    (folder / "timeline.perfetto.json.gz").write_bytes(perfetto_json(drawn))
    bars = [(entry.kernel, entry.phase, entry.duration_ps / _PS_PER_S) for entry in launches]
    (folder / "report.html").write_text(port_page(summary, bars), encoding="utf-8")
