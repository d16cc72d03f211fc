"""A plan's answer as one self-contained page: cards, charts with ranges, tables, sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2

from rainshadow.report.plans import ranged, short_layout
from rainshadow.report.svg import bar_chart, scatter_chart
from rainshadow.units import format_bytes, format_seconds

_S_PER_DAY = 86400.0
Summary = Mapping[str, Any]


def render(
    title: str, lead: str, cards: Sequence[tuple[str, str, str]],
    charts: Sequence[tuple[str, str]],
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]], notes: Sequence[str],
) -> str:  # fmt: skip
    """The page from its parts."""
    folder = resources.files("rainshadow.report") / "templates"
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((folder / "plan.html").read_text("utf-8"))
    return template.render(
        title=title, lead=lead, cards=cards, charts=charts, tables=tables, notes=notes
    )


def training_page(summary: Summary) -> str:
    """HTML of `rainshadow plan`."""
    best = summary["plans"][0]
    work = summary["workload"]
    cards = [
        ("best", f"{best['chips']:,} chips", best["title"]),
        ("days", ranged(best["time_s"], 1 / _S_PER_DAY), best["time_s"]["grade"]),
        ("million USD", ranged(best["cost_usd"], 1e-6), (best["price"] or {}).get("kind", "")),
        ("MWh", ranged(best["energy_kwh"], 1e-3), f"at {summary['site']}"),
    ]
    charts = [
        ("Time against chips, best plans with ranges", _front(summary, "time_s", 1 / _S_PER_DAY)),
        ("Million USD against chips", _front(summary, "cost_usd", 1e-6)),
        ("Where a step of the best plan goes", _bars(best["causes_s"], format_seconds)),
        ("Memory of the fullest chip", _bars(best["memory_bytes"], format_bytes)),
    ]
    return render(
        f"Training {', '.join(summary['models'])}",
        f"{summary['tokens']:.4g} tokens, steps of {work['global_batch']:,} sequences of "
        f"{work['sequence']:,}; best {summary['objective']} among "
        f"{summary['members_searched']:,} layouts. Rainshadow {summary['version']}, data "
        f"{summary['data']}.",
        cards,
        [(heading, chart) for heading, chart in charts if chart],
        [*_tables(summary), figures_table(summary["figures"])],
        [*summary["notes"], *(f"left out: {text}" for text in summary["left_out"])],
    )


def _front(summary: Summary, key: str, scale: float) -> str:
    series: dict[str, list[tuple[float, float, float, float, str]]] = {}
    for plan in summary["pareto"]:
        found = plan[key]
        if found is not None:
            point = (
                float(plan["chips"]), found["value"] * scale, found["low"] * scale,
                found["high"] * scale, f"{plan['chips']:,} chips, {ranged(found, scale)}",
            )  # fmt: skip
            series.setdefault(plan["system"], []).append(point)
    return scatter_chart(series, "chips", key)


def _bars(values: Mapping[str, float], text: Any) -> str:
    shown = dict(sorted(((k, v) for k, v in values.items() if v > 0), key=lambda item: -item[1]))
    total = sum(shown.values()) or 1.0
    return bar_chart(shown, {name: f"{text(v)} ({v / total:.0%})" for name, v in shown.items()})


def _tables(summary: Summary) -> list[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
    columns = ("chips", "system", "layout", "days", "M USD", "MWh", "MFU", "grade")
    rows = [_row(plan) for plan in summary["plans"]]
    front = [_row(plan) for plan in summary["pareto"]]
    tables: list[tuple[str, Sequence[str], Sequence[Sequence[str]]]] = [
        ("Best plans", columns, rows),
        ("Nothing is better in time, cost, energy and chips at once", columns, front),
    ]
    if summary["rejected"]:
        tables.append(
            (
                "Not possible",
                ("what", "why", "to mend it"),
                [(e["what"], e["why"], e["fix"] or "") for e in summary["rejected"]],
            )
        )
    return tables


def _row(plan: Summary) -> tuple[str, ...]:
    return (
        f"{plan['chips']:,}",
        plan["system"],
        short_layout(plan["layout"]),
        ranged(plan["time_s"], 1 / _S_PER_DAY),
        ranged(plan["cost_usd"], 1e-6),
        ranged(plan["energy_kwh"], 1e-3),
        f"{plan['mfu_fraction']['value']:.1%}",
        plan["time_s"]["grade"],
    )


def figures_table(
    figures: Sequence[Summary],
) -> tuple[str, Sequence[str], Sequence[Sequence[str]]]:
    """Every figure an answer rests on."""
    rows = [(f["what"], f["value"], f["grade"], f["source"]) for f in figures]
    return ("Figures used", ("what", "value", "grade", "source"), rows)
