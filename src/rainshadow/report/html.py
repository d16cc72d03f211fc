"""A port's summary as one self-contained page: no scripts, no network, prints well."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from rainshadow.report.svg import bar_chart, line_chart, strip
from rainshadow.report.text import nothing_on_chip
from rainshadow.units import format_bytes, format_seconds

_TOP_KERNELS = 12


def port_page(summary: Mapping[str, Any], launches: list[tuple[str, str, float]]) -> str:
    """HTML. launches: (kernel, phase, seconds) of the step, in order."""
    folder = resources.files("rainshadow.report") / "templates"
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(
        seconds=format_seconds, bytes=format_bytes, name=lambda path: Path(path).name,
        range=_range, percent=lambda value: f"{value:.2%}", nothing_on_chip=nothing_on_chip,
    )  # fmt: skip
    template = environment.from_string((folder / "port.html").read_text("utf-8"))
    style = (folder / "page.css").read_text("utf-8")
    return template.render(summary=summary, charts=_charts(summary, launches), style=style)


def _range(estimate: Mapping[str, float] | None) -> str:
    if estimate is None:
        return "not known"
    if estimate["low"] == estimate["high"]:
        return f"{estimate['value']:.3g}"
    return f"{estimate['value']:.3g} ({estimate['low']:.3g} to {estimate['high']:.3g})"


def _charts(summary: Mapping[str, Any], launches: list[tuple[str, str, float]]) -> dict[str, str]:
    curves = {}
    for precision, parity in summary["parity"].items():
        curves.setdefault("CPU fp32", _drawable(parity["reference_losses"]))
        curves[f"chip {precision}"] = _drawable(parity["losses"])
    charts = {"losses": line_chart(curves, "step", "loss")}
    step = summary["step"]
    if step is not None:
        busy = {name: value for name, value in step["engine_busy_s"].items() if value}
        charts["engines"] = bar_chart(
            busy,
            {
                name: f"{format_seconds(value)} ({value / step['step_s']:.0%})"
                for name, value in busy.items()
            },
        )
        kernels = {
            f"{row['kernel']}: {row['function']}": row["time_s"]
            for row in step["top_kernels"][:_TOP_KERNELS]
        }
        charts["kernels"] = bar_chart(
            kernels, {name: format_seconds(value) for name, value in kernels.items()}
        )
        charts["strip"] = strip(launches)
    return charts


def _drawable(values: Sequence[float | None]) -> list[float]:
    """The values before the first that is not finite."""
    return [v for v in itertools.takewhile(lambda v: v is not None, values) if v is not None]
