"""Deployments as text and as a page: latency, tokens a second, money, what was tried in vain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rainshadow.report.plan_page import figures_table, render
from rainshadow.report.plans import ranged
from rainshadow.report.rejections import rejection_lines
from rainshadow.report.svg import scatter_chart
from rainshadow.units import format_bytes

Summary = Mapping[str, Any]
_COLUMNS = (
    "system", "chips", "how", "batch", "TTFT, ms", "TPOT, ms", "tokens/s a chip",
    "USD per M tokens", "kWh per M tokens", "grade",
)  # fmt: skip


def _how(plan: Summary) -> str:
    words = [plan["mode"]]
    if plan["mode"] == "chunked":
        words.append(f"of {plan['chunk']}")
    if plan["mode"] == "disaggregated":
        words.append(f"{plan['prefill_per_decode']:.2g} prefill each")
    if plan["mode"] == "speculative":
        words.append(f"{plan['draft_tokens']} of {plan['draft']}")
    if plan["replica"]["attention"] == "data":
        words.append("attention by sequence")
    return " ".join(words)


def _money(plan: Summary) -> str:
    kind = f", {plan['price']['kind'].replace('_', ' ')}" if plan["price"] else ""
    return ranged(plan["usd_per_million_tokens"]) + kind


def _cells(plan: Summary) -> tuple[str, ...]:
    return (
        plan["system"],
        str(plan["replica"]["chips"]),
        _how(plan),
        f"{plan['batch']:,.0f}",
        ranged(plan["time_to_first_token_s"], 1e3),
        ranged(plan["time_per_output_token_s"], 1e3),
        ranged(plan["tokens_per_s_per_chip"]),
        _money(plan),
        ranged(plan["kwh_per_million_tokens"]),
        plan["tokens_per_s"]["grade"],
    )


def _heading(summary: Summary) -> str:
    request, promise = summary["request"], summary["promise"]
    limits = [
        f"{name} <= {promise[key] * 1e3:,.4g} ms"
        for name, key in (("TTFT", "ttft_s"), ("TPOT", "tpot_s"))
        if promise[key] is not None
    ]
    return (
        f"{summary['model']} in {summary['precision']}: {request['prompt']:,} tokens in, "
        f"{request['output']:,} out; {', '.join(limits) or 'no limit on latency'}; best "
        f"{summary['objective']}"
    )


def serving_text(summary: Summary) -> list[str]:
    """The answer of `rainshadow serve-plan`."""
    lines = [_heading(summary)]
    sections = [("best plans", "plans")]
    if len(summary["best_of_each"]) > 1:
        sections.append(("the best of each system", "best_of_each"))
    sections.append((f"nothing is better in {summary['objective']} and TPOT at once", "front"))
    tables = {key: [_cells(plan) for plan in summary[key]] for _, key in sections}
    every = [_COLUMNS, *(row for rows in tables.values() for row in rows)]
    widths = [max(len(row[n]) for row in every) for n in range(len(_COLUMNS))]

    def row(cells: tuple[str, ...]) -> str:
        return "  " + "  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip()

    for title, key in sections:
        lines += [f"{title}:", row(_COLUMNS)]
        for plan, cells in zip(summary[key], tables[key], strict=True):
            lines.append(row(cells))
            lines += [f"      {reason}" for reason in plan["why"]]
    best = summary["plans"][0]
    lines.append(
        f"  the best holds {format_bytes(best['memory_bytes'])} of "
        f"{format_bytes(best['memory_capacity_bytes'])} on a chip; {best['max_batch']:,} "
        "sequences would fit"
    )
    if best["replicas"] is not None:
        lines.append(
            f"  {summary['requests_per_s']:g} requests/s: {best['replicas']:,} replicas, "
            f"{best['chips_in_all']:,} chips"
        )
    lines += rejection_lines(summary["rejected"])
    lines += [f"  note: {note}" for note in summary["notes"]]
    return [*lines, "  left out: " + "; ".join(summary["left_out"])]


def serving_page(summary: Summary) -> str:
    """HTML of `rainshadow serve-plan`."""
    best = summary["plans"][0]
    cards = [
        ("best", best["system"], f"{best['replica']['chips']} chips, {_how(best)}"),
        ("TTFT, ms", ranged(best["time_to_first_token_s"], 1e3), best["tokens_per_s"]["grade"]),
        ("TPOT, ms", ranged(best["time_per_output_token_s"], 1e3), f"batch {best['batch']:,.0f}"),
        (
            "USD per M tokens", ranged(best["usd_per_million_tokens"]),
            (best["price"] or {}).get("kind", ""),
        ),
    ]  # fmt: skip
    shown = {str(_cells(plan)): plan for key in ("plans", "front") for plan in summary[key]}
    charts = [
        ("Tokens/s a chip against time per output token, ms", _chart(shown, "")),
        ("USD per million tokens against time per output token, ms", _chart(shown, "usd")),
    ]
    tables = [
        ("Best plans", _COLUMNS, [_cells(plan) for plan in summary["plans"]]),
        ("The best of each system", _COLUMNS, [_cells(p) for p in summary["best_of_each"]]),
        (
            f"Nothing is better in {summary['objective']} and TPOT at once", _COLUMNS,
            [_cells(plan) for plan in summary["front"]],
        ),
    ]  # fmt: skip
    if summary["rejected"]:
        rows = [(e["what"], e["why"], e["fix"] or "") for e in summary["rejected"]]
        tables.append(("Not possible", ("what", "why", "to mend it"), rows))
    return render(
        f"Serving {summary['model']}",
        f"{_heading(summary)}. Rainshadow {summary['version']}, data {summary['data']}.",
        cards,
        [(heading, chart) for heading, chart in charts if chart],
        [*tables, figures_table(summary["figures"])],
        [*summary["notes"], *(f"left out: {text}" for text in summary["left_out"])],
    )


def _chart(plans: Mapping[str, Summary], what: str) -> str:
    key = "usd_per_million_tokens" if what else "tokens_per_s_per_chip"
    series: dict[str, list[tuple[float, float, float, float, str]]] = {}
    for plan in plans.values():
        if plan[key] is not None:
            point = (
                plan["time_per_output_token_s"]["value"] * 1e3, plan[key]["value"],
                plan[key]["low"], plan[key]["high"],
                f"{plan['replica']['chips']} chips, {_how(plan)}: {ranged(plan[key])}",
            )  # fmt: skip
            series.setdefault(plan["system"], []).append(point)
    return scatter_chart(series, "time per output token, ms", key.replace("_", " "))
