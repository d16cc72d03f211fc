"""Two profiles of a kernel beside each other: which figures differ, and on which lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Summary = Mapping[str, Any]


def compare_profiles(first: Summary, second: Summary) -> dict[str, Any]:
    """figures: name, unit, first, second.  lines: the same of what each adds to the end, those
    that differ most first; a line is known by its function and text, wherever it stands.
    """
    figures = [
        {"name": name, "unit": unit, "first": one, "second": other}
        for name, unit, one, other in _figures(first, second)
    ]
    return {
        "first": {"kernel": first["kernel"], "chip": first["chip"]},
        "second": {"kernel": second["kernel"], "chip": second["chip"]},
        "speedup": _ratio(first["duration_s"], second["duration_s"]),
        "figures": figures,
        "lines": _lines(first, second),
    }


def _ratio(first: float, second: float) -> float | None:
    return first / second if second else None


def _figures(first: Summary, second: Summary) -> list[tuple[str, str, Any, Any]]:
    rows: list[tuple[str, str, Any, Any]] = [
        ("time", "s", first["duration_s"], second["duration_s"]),
        ("instructions", "count", first["instructions"], second["instructions"]),
        ("ideal time", "s", first["ideal"]["time_s"], second["ideal"]["time_s"]),
    ]
    shares = (("tensor", "mfu"), ("tensor", "hfu"), ("hbm", "mbu"), ("dma", "efficiency"))
    for part, name in shares:
        both = (summary[part][f"{name}_fraction"] for summary in (first, second))
        label = f"DMA {name}" if part == "dma" else name.upper()
        rows.append((label, "fraction", *both))
    for name in ("read_bytes", "written_bytes"):
        label = f"HBM {name.removesuffix('_bytes')}"
        rows.append((label, "B", first["hbm"][name], second["hbm"][name]))
    rows.append(("DMA transfers", "count", first["dma"]["transfers"], second["dma"]["transfers"]))
    for space in ("sbuf", "psum"):
        both = (summary["peak_bytes"][space]["used_bytes"] for summary in (first, second))
        rows.append((f"{space.upper()} per partition", "B", *both))
    busy = [{row["name"]: row["busy_s"] for row in one["engines"]} for one in (first, second)]
    waits = [one["wait_s"] for one in (first, second)]
    for label, pair in (("busy", busy), ("wait:", waits)):
        for name in dict.fromkeys([*pair[0], *pair[1]]):
            text = f"{name} {label}" if label == "busy" else f"{label} {name}"
            rows.append((text, "s", pair[0].get(name, 0.0), pair[1].get(name, 0.0)))
    return rows


def _lines(first: Summary, second: Summary) -> list[dict[str, Any]]:
    added: list[Counter[tuple[str, str, str]]] = [Counter(), Counter()]
    for counter, summary in zip(added, (first, second), strict=True):
        for row in summary["lines"]:
            counter[Path(row["file"]).name, row["function"], row["text"]] += row["added_s"]
    rows = [
        {
            "file": key[0],
            "function": key[1],
            "text": key[2],
            "first_s": added[0][key],
            "second_s": added[1][key],
        }
        for key in dict.fromkeys([*added[0], *added[1]])
    ]
    return sorted(rows, key=lambda row: -abs(row["first_s"] - row["second_s"]))
