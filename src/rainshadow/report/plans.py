"""Plans as text: a table of the best, who else is on the front, what was tried in vain, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rainshadow.report.rejections import rejection_lines
from rainshadow.units import format_bytes, format_fraction, format_seconds

_S_PER_DAY = 86400.0
Summary = Mapping[str, Any]
_SHORT = {
    "tensor_parallel": "tp",
    "pipeline_parallel": "pp",
    "virtual_stages": "vp",
    "context_parallel": "cp",
    "expert_parallel": "ep",
    "data_parallel": "dp",
    "micro_batch": "mbs",
}


def short_layout(layout: Summary) -> str:
    """ "tp8 pp4 vp3 dp32 mbs1 zero1 recompute selective": degrees above one, then choices."""
    words = [
        f"{short}{layout[name]}"
        for name, short in _SHORT.items()
        if layout[name] > 1 or name in ("tensor_parallel", "data_parallel", "micro_batch")
    ]
    shard = f"/{layout['shard_size']}" if layout["shard_size"] else ""
    words.append(f"zero{layout['zero']}{shard}")
    if layout["pipeline_parallel"] > 1 and layout["schedule"] != "1f1b":
        words.append(layout["schedule"])
    if layout["recompute"] != "none":
        words.append(f"recompute-{layout['recompute']}")
    if layout["offload"] != "none":
        words.append(f"offload-{layout['offload']}")
    return " ".join([*words, layout["precision"]])


def ranged(estimate: Summary | None, scale: float = 1.0) -> str:
    """ "12.3 [10.1-15.2]"; "not known" for none."""
    if estimate is None:
        return "not known"
    value, low, high = (estimate[key] * scale for key in ("value", "low", "high"))
    if low == high:
        return f"{value:,.4g}"
    return f"{_plain(value)} [{_plain(low)}-{_plain(high)}]"


def _plain(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def plans_text(summary: Summary) -> list[str]:
    """The answer of `rainshadow plan`."""
    work = summary["workload"]
    lines = [
        f"{', '.join(summary['models'])}: {summary['tokens']:.4g} tokens in steps of "
        f"{work['global_batch']:,} sequences of {work['sequence']:,}, best {summary['objective']}",
        f"  searched {summary['members_searched']:,} layouts"
        + ("" if summary["complete"] else "; INTERRUPTED, what was found so far"),
        _row("chips", "system", ("days", "M USD", "MWh", "MFU", "grade")),
    ]
    for plan in summary["plans"]:
        lines += _plan_lines(plan)
    if len(summary["best_of_each"]) > 1:
        lines.append("  the best of each model and system:")
        for plan in summary["best_of_each"]:
            lines += [*_plan_lines(plan), *(f"          {note}" for note in plan["notes"])]
    lines.append("  no other plan is better in time, cost, energy and chips at once:")
    for plan in summary["pareto"]:
        lines.append(_row(f"{plan['chips']:,}", plan["system"], _totals(plan)))
    lines += rejection_lines(summary["rejected"])
    lines += [f"  note: {note}" for note in summary["notes"]]
    lines.append("  left out: " + "; ".join(summary["left_out"]))
    return lines


def _row(chips: str, system: str, cells: Sequence[str]) -> str:
    """Cells under each other; one that is too wide for its column keeps two spaces behind it."""
    widths = (22, 24, 24, 8, 0)
    padded = (f"{cell + '  ':<{width}}" for cell, width in zip(cells, widths, strict=False))
    return f"  {chips:>7} {system + '  ':<18}{''.join(padded)}".rstrip()


def _totals(plan: Summary) -> list[str]:
    return [
        ranged(plan["time_s"], 1 / _S_PER_DAY),
        ranged(plan["cost_usd"], 1e-6),
        ranged(plan["energy_kwh"], 1e-3),
    ]


def _plan_lines(plan: Summary) -> list[str]:
    more = (f"{plan['mfu_fraction']['value']:.1%}", plan["time_s"]["grade"])
    lines = [
        _row(f"{plan['chips']:,}", plan["system"], (*_totals(plan), *more)),
        f"          {short_layout(plan['layout'])}; step {ranged(plan['step_s'])} s; "
        f"{format_bytes(plan['memory_total_bytes'])} of "
        f"{format_bytes(plan['memory_capacity_bytes'])}; {_price(plan['price'])}",
    ]
    return lines + [f"          {reason}" for reason in plan["why"]]


def _price(price: Summary | None) -> str:
    if price is None:
        return "no price"
    return f"{price['kind'].replace('_', ' ')} price {price['usd_per_hour']:.3g} USD per chip-hour"


def compare_text(plans: Sequence[Summary]) -> list[str]:
    """Plans side by side: what each costs, where its step goes, what its chip holds."""
    width = max(22, *(len(short_layout(plan["layout"])) for plan in plans)) + 2

    def row(name: str, cells: Sequence[str]) -> str:
        return f"  {name:<22}" + "".join(f"{cell:<{width}}" for cell in cells).rstrip()

    lines = [
        row("", [plan["model"] for plan in plans]),
        row("", [f"{plan['chips']:,} x {plan['system']}" for plan in plans]),
        row("layout", [short_layout(plan["layout"]) for plan in plans]),
        row("days", [ranged(plan["time_s"], 1 / _S_PER_DAY) for plan in plans]),
        row("million USD", [ranged(plan["cost_usd"], 1e-6) for plan in plans]),
        row("MWh", [ranged(plan["energy_kwh"], 1e-3) for plan in plans]),
        row("step, s", [ranged(plan["step_s"]) for plan in plans]),
        row("tokens/s a chip", [ranged(plan["tokens_per_s"], 1 / plan["chips"]) for plan in plans]),
        row("MFU", [f"{plan['mfu_fraction']['value']:.1%}" for plan in plans]),
        row("evidence", [plan["time_s"]["grade"] for plan in plans]),
        row("price", [_price(plan["price"]) for plan in plans]),
    ]
    for name in plans[0]["causes_s"]:
        shares = [plan["causes_s"][name] / plan["step_s"]["value"] for plan in plans]
        if max(shares) > 0:
            lines.append(row(f"  {name}", [f"{share:.1%}" for share in shares]))
    for name in plans[0]["memory_bytes"]:
        sizes = [plan["memory_bytes"][name] for plan in plans]
        if max(sizes) > 0:
            lines.append(row(f"  {name}", [format_bytes(size) for size in sizes]))
    notes = dict.fromkeys(note for plan in plans for note in (*plan["notes"], *plan["why"]))
    return lines + [f"  note: {note}" for note in notes]


def explain_text(plan: Summary, decisive: Sequence[Summary]) -> list[str]:
    """Where a plan's time and memory go, and which figures decide."""
    total = plan["step_s"]["value"]
    lines = [
        f"{plan['model']} on {plan['chips']:,} chips of {plan['title']}",
        f"  {short_layout(plan['layout'])}",
        f"  step {ranged(plan['step_s'])} s ({plan['step_s']['grade']}), "
        f"{ranged(plan['tokens_per_s'])} tokens/s, "
        f"MFU {format_fraction(plan['mfu_fraction']['value'])}",
        "  where the time goes:",
    ]
    for name, seconds in sorted(plan["causes_s"].items(), key=lambda item: -item[1]):
        if seconds > 0:
            lines.append(f"    {name:<12}{format_seconds(seconds):>10}{seconds / total:>8.1%}")
    lines.append(
        f"  memory: {format_bytes(plan['memory_total_bytes'])} of "
        f"{format_bytes(plan['memory_capacity_bytes'])} on the fullest chip: "
        + ", ".join(
            f"{name} {format_bytes(size)}" for name, size in plan["memory_bytes"].items() if size
        )
    )
    proof = plan["proof"]
    lines.append(
        f"  of {proof['members']:,} layouts in {proof['families']:,} families, "
        f"{proof['evaluated']:,} were evaluated, {proof['ruled_out']:,} ruled out by a bound"
        + (f" (none below {proof['next_bound_s']:.4g} s)" if proof["next_bound_s"] else "")
        + f", {proof['without_memory']:,} by memory"
    )
    lines.append("  figures that decide (step time won if the figure were a tenth better):")
    for entry in decisive:
        lines.append(
            f"    {entry['gain_fraction']:>6.1%}  {entry['what']}: {entry['value']} "
            f"({entry['grade']}, {entry['source']})"
        )
    return [*lines, *(f"  note: {note}" for note in plan["notes"])]
