"""A port's summary as plain text for a terminal. Numbers come ready made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rainshadow.units import format_bytes, format_seconds

_TOP_KERNELS = 8
Summary = Mapping[str, Any]


def port_text(summary: Summary) -> list[str]:
    """The four parts of a port: ties, parity, on the chip, layout and price."""
    chip = summary["step"]["chip"] if summary["step"] else "chip"
    partial = ", PARTIAL" if summary["partial"] else ""
    lines = [f"{summary['script']} on a simulated {chip}{partial}", "", "1. Ties to CUDA"]
    for tie in summary["ties"]:
        where = tie["where"]
        lines.append(
            f"  {Path(where['file']).name}:{where['line']:<5} {tie['api']:<34} x{tie['count']:<6}"
            f"{tie['resolution']}"
        )
    if not summary["ties"]:
        lines.append("  none met")
    lines += ["", "2. Parity with the CPU in exact fp32"]
    for precision, parity in summary["parity"].items():
        lines += _parity(precision, parity, summary["runs"][precision]["partial"])
    if summary["step"] is not None:
        lines += ["", *step_text(summary["step"])]
    elif not summary["partial"]:
        first, *rows = nothing_on_chip(summary)
        lines += ["", f"3. {first}", *(f"    {row}" for row in rows)]
    if summary.get("layout") is not None:
        lines += ["", *layout_text(summary["layout"])]
    return lines


def nothing_on_chip(summary: Summary) -> list[str]:
    """Why no kernel was launched: a sentence, then the operators that ran on the host instead."""
    host = [row for run in summary["runs"].values() for row in run["host_operations"]]
    if not host:
        return ["Nothing ran on the chip: the script puts no tensor on a CUDA device"]
    rows = sorted({_on_host(row) for row in host})
    return ["Nothing ran on the chip: all its operators ran on the host", *rows]


def _on_host(row: Summary) -> str:
    return f"{row['op']} x{row['count']} at {row['where']}: {row['reason']}"


def _parity(precision: str, parity: Summary, partial: bool) -> list[str]:
    verdict = parity["verdict"].upper() if parity["faults"] else parity["verdict"]
    worst = parity["gradients"][0] if parity["gradients"] else None
    loss, limit = parity["worst_loss_error"], parity["loss_limit"]
    lines = [f"  {precision}: {verdict}"]
    if loss is not None:
        lines.append(
            f"    worst loss difference {loss:.2e} (limit {limit:g}) over {len(parity['losses'])} "
            f"steps; last loss {_loss(parity['losses'])}, CPU {_loss(parity['reference_losses'])}"
        )
    if parity["verdict"] == "not compared":
        reason = "the run ended early" if partial else "the script never called backward()"
        lines.append(f"    {reason}: there is no loss to compare")
    if parity["losses"] and not parity["gradients"] and not parity["faults"]:
        lines.append("    gradients are not compared: there is no optimizer over the parameters")
    if parity["rounding_loss_error"] is not None:
        lines.append(
            f"    PyTorch's own bf16 on the CPU differs by {parity['rounding_loss_error']:.2e}: "
            "this training amplifies rounding; the limit is twice that"
        )
    if worst is not None:
        error = "not finite" if worst["norm_error"] is None else f"{worst['norm_error']:.2e}"
        lines.append(
            f"    worst gradient difference at step 1 {error} "
            f"(limit {parity['gradient_limit']:g}): {worst['name']}"
        )
    return lines + [f"    {fault}" for fault in parity["faults"]]


def _loss(curve: Sequence[float | None]) -> str:
    return "not finite" if curve[-1] is None else f"{curve[-1]:.4f}"


def step_text(step: Summary) -> list[str]:
    """One training step on one core."""
    host = step["host_operations"]
    peaks = (
        f"SBUF {format_bytes(step['sbuf_peak_bytes_per_partition'])} and "
        f"PSUM {format_bytes(step['psum_peak_bytes_per_partition'])} per partition, "
        f"HBM {format_bytes(step['hbm_peak_bytes'])}"
    )
    lines = [
        f"3. {_which(step)} on one NeuronCore: {format_seconds(step['step_s'])}",
        f"  {step['launches']} kernel launches, {step['instructions']:,} instructions, "
        f"{format_seconds(step['launch_s'])} of it starting kernels",
        f"  MFU {step['mfu_fraction']:.2%}, HFU {step['hfu_fraction']:.2%} "
        f"of the core's bf16 peak; busiest: {step['bound_by']}",
        "  phases: " + _seconds(step["phase_s"]),
        "  engines busy: " + _seconds(step["engine_busy_s"]),
        f"  peaks: {peaks}",
        f"  on the host: {sum(row['count'] for row in host)} operators"
        + (", not timed" if host else "")
        + (f", {step['host_flops_fraction']:.2%} of the FLOP" if host else ""),
        *(f"    {_on_host(row)}" for row in host),
        "  top kernels:",
    ]
    for row in step["top_kernels"][:_TOP_KERNELS]:
        lines.append(f"    {format_seconds(row['time_s']):>10}  {row['kernel']}: {row['function']}")
    return lines


def _which(step: Summary) -> str:
    return "All launches" if step["index"] is None else f"Step {step['index']}"


def _seconds(times: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {format_seconds(value)}" for name, value in times.items() if value)


def layout_text(layout: Summary) -> list[str]:
    """The step on whole systems; ranges in brackets."""
    lines = [
        f"4. The same step on every core of a system, site {layout['site']['name']}",
        f"  {'system':<19}{'chips':>7}{'tokens/s':>10}{'sum':>7}  "
        f"{'USD per M tokens':<30}{'price':<11}{'kWh per M tokens':<30}grade",
    ]
    for row in layout["systems"]:
        usd, energy = row["usd_per_million_tokens"], row["kwh_per_million_tokens"]
        kind = row["price"]["kind"].replace("_", " ") if row["price"] else "-"
        lines.append(
            f"  {row['system']:<19}{row['chips']:>7,}{row['tokens_per_s']['value']:>10.3g}"
            f"{row['exposed_fraction']:>7.1%}  {_range(usd):<30}{kind:<11}{_range(energy):<30}"
            f"{row['tokens_per_s']['grade']}"
        )
        lines += [f"    {reason}" for reason in row["why"]]
    lines.append("  sum: share of the step spent waiting for the gradients' all-reduce")
    lines.append("  left out:")
    lines += [f"    {text}" for text in layout["left_out"]]
    return lines


def _range(estimate: Mapping[str, float] | None) -> str:
    if estimate is None:
        return "not known"
    value = f"{estimate['value']:.3g}"
    if estimate["low"] == estimate["high"]:
        return value
    return f"{value} [{estimate['low']:.3g}-{estimate['high']:.3g}]"
