"""Small charts as SVG text: lines, bars, and a strip of launches. Colours come from the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 640, 240
_LEFT, _BOTTOM, _TOP, _RIGHT = 52, 28, 12, 12
_BAR, _GAP, _LABEL = 16, 8, 230
_TICKS = 4


def line_chart(series: Mapping[str, Sequence[float]], x_label: str, y_label: str) -> str:
    """One line per series over 1, 2, 3...; classes s0, s1... colour them."""
    points = [value for values in series.values() for value in values]
    if not points:
        return ""
    low, high = min(points), max(points)
    span = (high - low) or 1.0
    longest = max(len(values) for values in series.values())

    def x(index: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * index / max(1, longest - 1)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - value) / span

    parts = [_open(_WIDTH, _HEIGHT, f"{y_label} over {x_label}")]
    for tick in range(_TICKS + 1):
        value = low + span * tick / _TICKS
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" '
            f'y2="{y(value):.1f}"/><text class="axis end" x="{_LEFT - 6}" y="{y(value) + 4:.1f}">'
            f"{value:.3g}</text>"
        )
    for number, (name, values) in enumerate(series.items()):
        path = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(values))
        parts.append(f'<polyline class="line s{number}" points="{path}"><title>{escape(name)}'
                     "</title></polyline>")  # fmt: skip
        left = _LEFT + 8 + 150 * number
        parts.append(
            f'<rect class="bar s{number}" x="{left}" y="{_HEIGHT - 12}" width="10" height="10"/>'
            f'<text class="axis" x="{left + 14}" y="{_HEIGHT - 3}">{escape(name)}</text>'
        )
    return "".join(parts) + "</svg>"


def bar_chart(values: Mapping[str, float], text_of: Mapping[str, str]) -> str:
    """Horizontal bars, longest scale 1; text_of: what stands behind each bar."""
    largest = max(values.values(), default=0.0) or 1.0
    height = (len(values)) * (_BAR + _GAP) + _GAP
    parts = [_open(_WIDTH, height, "bars")]
    room = _WIDTH - _LABEL - 110
    for number, (name, value) in enumerate(values.items()):
        top = _GAP + number * (_BAR + _GAP)
        parts.append(
            f'<text class="axis end small" x="{_LABEL - 8}" y="{top + 12}">'
            f"{escape(_short(name))}</text>"
            f'<rect class="bar s0" x="{_LABEL}" y="{top}" width="{room * value / largest:.1f}" '
            f'height="{_BAR}"><title>{escape(name)}</title></rect>'
            f'<text class="axis" x="{_LABEL + room * value / largest + 6:.1f}" y="{top + 12}">'
            f"{escape(text_of[name])}</text>"
        )
    return "".join(parts) + "</svg>"


def strip(parts_s: Sequence[tuple[str, str, float]]) -> str:
    """(name, phase, seconds) one after another on one line; phases p0, p1... colour them."""
    total = sum(seconds for _, _, seconds in parts_s) or 1.0
    phases = list(dict.fromkeys(phase for _, phase, _ in parts_s))
    out = [_open(_WIDTH, 64, "launches of the step")]
    left = 0.0
    for name, phase, seconds in parts_s:
        width = _WIDTH * seconds / total
        out.append(
            f'<rect class="bar s{phases.index(phase)}" x="{left:.1f}" y="6" '
            f'width="{max(width - 0.6, 0.4):.1f}" height="30"><title>{escape(name)}: '
            f"{seconds * 1e6:.1f} us</title></rect>"
        )
        left += width
    for number, phase in enumerate(phases):
        at = 8 + 150 * number
        out.append(
            f'<rect class="bar s{number}" x="{at}" y="46" width="10" height="10"/>'
            f'<text class="axis" x="{at + 14}" y="55">{escape(phase)}</text>'
        )
    return "".join(out) + "</svg>"


def scatter_chart(
    series: Mapping[str, Sequence[tuple[float, float, float, float, str]]],
    x_label: str,
    y_label: str,
) -> str:
    """Points on logarithmic axes: (x, y, low y, high y, text); the range is a line through each."""
    points = [point for found in series.values() for point in found]
    if not points:
        return ""
    left, right = _log_range([p[0] for p in points])
    low, high = _log_range([y for p in points for y in p[1:4]])

    def at_x(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (math.log10(value) - left) / (right - left)

    def at_y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - math.log10(value)) / (high - low)

    parts = [_open(_WIDTH, _HEIGHT + 24, f"{y_label} over {x_label}")]
    for tick in range(_TICKS + 1):
        y = 10 ** (low + (high - low) * tick / _TICKS)
        x = 10 ** (left + (right - left) * tick / _TICKS)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at_y(y):.1f}" '
            f'y2="{at_y(y):.1f}"/><text class="axis end" x="{_LEFT - 6}" y="{at_y(y) + 4:.1f}">'
            f'{y:.3g}</text><text class="axis" x="{at_x(x) - 10:.1f}" y="{_HEIGHT - 12}">{x:.3g}'
            "</text>"
        )
    for number, (name, found) in enumerate(series.items()):
        for x, y, bottom, top, text in found:
            parts.append(
                f'<line class="span" x1="{at_x(x):.1f}" x2="{at_x(x):.1f}" '
                f'y1="{at_y(bottom):.1f}" y2="{at_y(top):.1f}"/>'
                f'<circle class="dot s{number % 7}" cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="4">'
                f"<title>{escape(name)}: {escape(text)}</title></circle>"
            )
        start = _LEFT + 8 + 150 * number
        parts.append(
            f'<rect class="bar s{number % 7}" x="{start}" y="{_HEIGHT + 8}" width="10" '
            f'height="10"/><text class="axis" x="{start + 14}" y="{_HEIGHT + 17}">{escape(name)}'
            "</text>"
        )
    return "".join(parts) + "</svg>"


def _log_range(values: Sequence[float]) -> tuple[float, float]:
    low, high = math.log10(min(values)), math.log10(max(values))
    return (low - 0.05, high + 0.05) if high > low else (low - 0.5, high + 0.5)


def _short(text: str) -> str:
    return text if len(text) <= 34 else text[:16] + "…" + text[-17:]


def _open(width: float, height: float, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}" '
        'xmlns="http://www.w3.org/2000/svg">'
    )
