"""List chips and systems, or print one with the source and grade of every figure.

Without NAME: all chips and systems. --sources adds where each figure comes from; --conflicts
shows only the figures on which sources disagree.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from rainshadow.errors import UnknownNameError
from rainshadow.machine import (
    list_chips,
    list_systems,
    load_chip,
    load_sources,
    load_system,
)
from rainshadow.sources import Figure


def command(
    name: Annotated[str | None, typer.Argument(help="A chip or a system.")] = None,
    sources: Annotated[bool, typer.Option(help="Print the source of every figure.")] = False,
    conflicts: Annotated[bool, typer.Option(help="Only figures on which sources differ.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the machine descriptions."""
    if name is None and not conflicts:
        _print_list(as_json)
        return
    rows = [row for one in ([name] if name else list_chips()) for row in _rows(one)]
    if conflicts:
        rows = [row for row in rows if row["alternatives"]]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(_line(row, sources=sources or conflicts))


def _print_list(as_json: bool) -> None:
    chips = {chip: load_chip(chip).title for chip in list_chips()}
    systems = {system: load_system(system).title for system in list_systems()}
    if as_json:
        print(json.dumps({"chips": chips, "systems": systems}, indent=2))
        return
    for heading, entries in (("Chips", chips), ("Systems", systems)):
        print(heading)
        for key, title in entries.items():
            print(f"  {key:<18}{title}")


def _load(name: str) -> Any:
    try:
        return load_chip(name)
    except UnknownNameError:
        pass
    try:
        return load_system(name)
    except UnknownNameError:
        raise UnknownNameError("chip or system", name, [*list_chips(), *list_systems()]) from None


def _rows(name: str) -> list[dict[str, Any]]:
    machine = _load(name)
    return [
        {
            "machine": machine.name,
            "key": key,
            "value": figure.text,
            "grade": figure.grade,
            "source": figure.source,
            "note": figure.note,
            "low": figure.low,
            "high": figure.high,
            "alternatives": [
                {"value": other.text, "source": other.source} for other in figure.alternatives
            ],
        }
        for key, figure in _figures(machine, "")
    ]


def _figures(value: Any, path: str) -> Iterator[tuple[str, Figure]]:
    """Every figure of a description with its dotted key."""
    if isinstance(value, Figure):
        yield path, value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from _figures(entry, f"{path}.{key}")
    elif isinstance(value, tuple):
        for index, entry in enumerate(value):
            yield from _figures(entry, f"{path}[{index}]")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            entry = getattr(value, field.name)
            yield from _figures(entry, f"{path}.{field.name}".lstrip("."))


def _line(row: dict[str, Any], *, sources: bool) -> str:
    text = f"{row['machine']:<14}{row['key']:<42}{row['value']:<14}{row['grade']:<9}"
    if not sources:
        return text.rstrip()
    lines = [f"{text}{_title(row['source'])}"]
    lines += [
        f"{'':<70}  but {other['value']}: {_title(other['source'])}"
        for other in row["alternatives"]
    ]
    if row["note"]:
        lines.append(f"{'':<70}  note: {row['note']}")
    return "\n".join(lines)


def _title(key: str) -> str:
    return load_sources()[key]["title"]
