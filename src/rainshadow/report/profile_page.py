"""Kernel profiles as one self-contained page: bounds, engines, lines, advice, memory over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from rainshadow.report.occupancy import Occupancy
from rainshadow.report.svg import bar_chart
from rainshadow.sim.timeline import Timeline
from rainshadow.units import format_bytes, format_rate, format_seconds

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 1000, 220, 70, 24
_PS_PER_S = 1e12
_COLOURS = 4
#: The tensors that hold the most, bytes times time, are drawn.
_MAX_DRAWN = 2000
#: Launches on one page; the others are in summary.json.
_MAX_PAGES = 20


def profile_page(summary: Mapping[str, Any], timelines: Sequence[Timeline]) -> str:
    """HTML. summary: as `rainshadow profile` writes it, one launch for each timeline."""
    folder = resources.files("rainshadow.report") / "templates"
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(
        seconds=format_seconds, bytes=format_bytes, rate=format_rate,
        name=lambda path: Path(path).name, percent=lambda value: f"{value:.1%}",
    )  # fmt: skip
    template = environment.from_string((folder / "profile.html").read_text("utf-8"))
    pages = [
        {"launch": launch, "engines": _engines(launch), "maps": _maps(launch, timeline)}
        for launch, timeline in zip(summary["launches"][:_MAX_PAGES], timelines, strict=False)
    ]
    style = (folder / "page.css").read_text("utf-8")
    left_out = len(summary["launches"]) - len(pages)
    return template.render(pages=pages, left_out=left_out, style=style)


def _engines(launch: Mapping[str, Any]) -> str:
    busy = {row["name"]: row["busy_s"] for row in launch["engines"]}
    texts = {
        row["name"]: f"{format_seconds(row['busy_s'])} ({row['busy_fraction']:.0%})"
        for row in launch["engines"]
    }
    return bar_chart(busy, texts)


def _maps(launch: Mapping[str, Any], timeline: Timeline) -> dict[str, str]:
    found = {}
    for space in ("sbuf", "psum"):
        occupancy = Occupancy.of(timeline, space)
        if len(occupancy.tensor):
            capacity = int(launch["peak_bytes"][space]["capacity_bytes"])
            found[space.upper()] = memory_map(occupancy, timeline, capacity)
    return found


def memory_map(occupancy: Occupancy, timeline: Timeline, capacity_bytes: int) -> str:
    """Tensors as rectangles: time to the right, addresses within a partition upwards."""
    begin = int(timeline.start_ps.min())
    duration = max(timeline.duration_ps, 1)
    high = max(capacity_bytes, int((occupancy.address + occupancy.size_bytes).max()))
    area = occupancy.size_bytes * (occupancy.end_ps - occupancy.start_ps).astype(np.float64)
    drawn = np.sort(np.argsort(-area, kind="stable")[:_MAX_DRAWN])
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="memory over time" '
        'xmlns="http://www.w3.org/2000/svg">',
        *_axes(duration, high),
    ]
    across, up = (_WIDTH - _LEFT) / duration, (_HEIGHT - _BOTTOM) / high
    for index in drawn.tolist():
        tensor = timeline.trace.tensor(int(occupancy.tensor[index]))
        start, end = int(occupancy.start_ps[index]) - begin, int(occupancy.end_ps[index]) - begin
        address, size = int(occupancy.address[index]), int(occupancy.size_bytes[index])
        line = tensor.line.line if tensor.line else 0
        where = f" at {Path(tensor.line.file).name}:{line}" if tensor.line else ""
        title = (
            f"{tensor.name}{where}: {size:,} B per partition from {address:,}, "
            f"{format_seconds(start / _PS_PER_S)} to {format_seconds(end / _PS_PER_S)}"
        )
        parts.append(
            f'<rect class="bar s{line % _COLOURS} tile" x="{_LEFT + start * across:.1f}" '
            f'y="{_HEIGHT - _BOTTOM - (address + size) * up:.2f}" '
            f'width="{max((end - start) * across, 0.5):.1f}" height="{max(size * up, 0.5):.2f}">'
            f"<title>{escape(title)}</title></rect>"
        )
    left_out = len(occupancy.tensor) - len(drawn)
    note = f"<p class='soft'>{left_out:,} smaller tiles are not drawn.</p>" if left_out else ""
    return "".join(parts) + "</svg>" + note


def _axes(duration_ps: int, high: int) -> list[str]:
    base = _HEIGHT - _BOTTOM
    parts = []
    for part in range(5):
        y, x = base * (1 - part / 4), _LEFT + (_WIDTH - _LEFT) * part / 4
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="axis end" x="{_LEFT - 6}" y="{max(y + 4, 10):.1f}">'
            f"{format_bytes(high * part / 4)}</text>"
            f'<text class="axis{" end" if part == 4 else ""}" x="{x:.1f}" y="{_HEIGHT - 6}">'
            f"{format_seconds(duration_ps * part / 4 / _PS_PER_S)}</text>"
        )
    return parts
