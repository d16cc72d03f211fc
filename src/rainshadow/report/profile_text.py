"""A kernel's profile, and two of them beside each other, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rainshadow.units import (
    format_bytes,
    format_count,
    format_flops,
    format_fraction,
    format_rate,
    format_seconds,
)

Summary = Mapping[str, Any]

_TOP_LINES = 15
_TOP_ADVICE = 5
_LINE_WIDTH = 72
_FORMATS: dict[str, Callable[[float], str]] = {
    "s": format_seconds,
    "B": format_bytes,
    "count": format_count,
    "fraction": format_fraction,
}


def profile_text(launch: Summary) -> list[str]:
    """One kernel launch: engines, waits, memory, the lines that take the time, and advice."""
    return [*_totals(launch), *_engines(launch), *_lines(launch), *_advice(launch)]


def _totals(launch: Summary) -> Iterator[str]:
    tensor, hbm, dma, ideal = (launch[part] for part in ("tensor", "hbm", "dma", "ideal"))
    yield (
        f"{launch['kernel']} on {_core(launch)}: "
        f"{format_seconds(launch['duration_s'])}, and {format_seconds(launch['launch_s'])} "
        "to start it"
    )
    yield f"  {launch['instructions']:,} instructions; busiest: {launch['bound_by']}"
    yield (
        f"  bound: {ideal['by']} alone takes {format_seconds(ideal['time_s'])}, "
        f"{ideal['fraction']:.1%} of the time; by the roofline the kernel is bound by "
        f"{ideal['roofline']}"
    )
    yield (
        f"  tensor: {format_flops(tensor['flops'])} of matmul, MFU {tensor['mfu_fraction']:.1%}, "
        f"HFU {tensor['hfu_fraction']:.1%} of the core's bf16 peak"
    )
    yield (
        f"  HBM: {format_bytes(hbm['read_bytes'])} read, {format_bytes(hbm['written_bytes'])} "
        f"written, {format_rate(hbm['bytes_per_s'])}, MBU {hbm['mbu_fraction']:.1%} "
        "of the core's share"
    )
    yield (
        f"  DMA: {dma['transfers']:,} transfers of {format_bytes(dma['mean_bytes'])} in runs of "
        f"{format_bytes(dma['mean_run_bytes'])}; {format_rate(dma['bytes_per_s'])} while active, "
        f"{dma['efficiency_fraction']:.1%} of what the DMA engines can move"
    )
    yield "  peaks: " + ", ".join(
        f"{space.upper()} {format_bytes(peak['used_bytes'])} of "
        f"{format_bytes(peak['capacity_bytes'])}{'' if space == 'hbm' else ' per partition'}"
        for space, peak in launch["peak_bytes"].items()
    )
    if any(launch["spill"].values()):
        spill = launch["spill"]
        yield (
            f"  spilled: {format_bytes(spill['saved_bytes'])} saved from SBUF to HBM for want of "
            f"room, {format_bytes(spill['reloaded_bytes'])} loaded back or again"
        )


def _core(launch: Summary) -> str:
    cores = launch["cores"]
    which = "one" if cores == 1 else f"core {launch['core']} of {cores}, a"
    return f"{which} simulated {launch['chip']} NeuronCore"


def _engines(launch: Summary) -> Iterator[str]:
    yield f"  {'engine':<14}{'busy':>10}{'share':>8}{'instructions':>14}"
    for row in launch["engines"]:
        yield (
            f"  {row['name']:<14}{format_seconds(row['busy_s']):>10}"
            f"{row['busy_fraction']:>8.1%}{row['instructions']:>14,}"
        )
    if launch["wait_s"]:
        waits = (f"{name} {format_seconds(value)}" for name, value in launch["wait_s"].items())
        yield "  waits, all engines: " + ", ".join(waits)


def _lines(launch: Summary) -> Iterator[str]:
    total = launch["duration_s"] or 1
    yield ""
    yield f"  {'adds':>10}{'share':>8}{'times':>8}  {'mostly waits for':<22}line"
    for row in launch["lines"][:_TOP_LINES]:
        yield (
            f"  {format_seconds(row['added_s']):>10}{row['added_s'] / total:>8.1%}"
            f"{row['instructions']:>8,}  {row['waits_for'] or '-':<22}"
            f"{Path(row['file']).name}:{row['line']}: {row['text'][:_LINE_WIDTH]}"
        )


def _advice(launch: Summary) -> Iterator[str]:
    if not launch.get("advice"):
        return
    yield ""
    yield "  what a change can save at most, by timing the same instructions without a cost:"
    for row in launch["advice"][:_TOP_ADVICE]:
        yield (
            f"  {format_seconds(row['saved_s']):>10}{row['saved_fraction']:>8.1%}  "
            f"without {row['without']}"
        )
        yield f"  {'':18}  {row['how']}"


def comparison_text(comparison: Summary, names: tuple[str, str]) -> list[str]:
    """Two profiles. names: what to call each."""
    first, second = comparison["first"], comparison["second"]
    speedup = comparison["speedup"]
    lines = [
        f"{first['kernel']} on {first['chip']} ({names[0]}) and "
        f"{second['kernel']} on {second['chip']} ({names[1]})"
        + (f": {speedup:.3g} times as fast" if speedup else "")
    ]
    lines.append(f"  {'':<28}{'first':>14}{'second':>14}{'change':>10}")
    for row in comparison["figures"]:
        shown = (_FORMATS[row["unit"]](value) for value in (row["first"], row["second"]))
        one, other = shown
        lines.append(
            f"  {row['name']:<28}{one:>14}{other:>14}{_change(row['first'], row['second']):>10}"
        )
    differing = [row for row in comparison["lines"] if row["first_s"] != row["second_s"]]
    if differing:
        lines += ["", f"  {'first adds':>12}{'second adds':>12}  line"]
    for row in differing[:_TOP_LINES]:
        lines.append(
            f"  {format_seconds(row['first_s']):>12}{format_seconds(row['second_s']):>12}  "
            f"{row['file']}: {row['function']}: {row['text'][:_LINE_WIDTH]}"
        )
    return lines


def _change(first: float, second: float) -> str:
    if first == second:
        return "same"
    return f"{second / first - 1:+.1%}" if first else "new"
