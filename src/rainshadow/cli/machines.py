"""List chips, systems and sites, or print one with the grade and source of every figure.

Without NAME: everything there is. NAME is a name, an alias, or the path of your own .toml file.
--sources adds where each figure comes from (without NAME: the list of all sources); --conflicts
shows only the figures on which sources disagree.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from rainshadow.cli_options import Json
from rainshadow.errors import InputError, UnknownNameError
from rainshadow.machine import (
    Chip,
    Site,
    System,
    list_chips,
    list_sites,
    list_systems,
    load_chip,
    load_site,
    load_sources,
    load_system,
)
from rainshadow.sources import Figure
from rainshadow.units import format_bytes, format_flops, format_rate

Description = Chip | System | Site

_KINDS: dict[str, tuple[Callable[[], list[str]], Callable[[str], Description]]] = {
    "chips": (list_chips, load_chip),
    "systems": (list_systems, load_system),
    "sites": (list_sites, load_site),
}


def command(
    name: Annotated[str | None, typer.Argument(help="A chip, a system or a site.")] = None,
    sources: Annotated[bool, typer.Option("--sources", help="Print where figures are from.")] = (
        False
    ),
    conflicts: Annotated[
        bool, typer.Option("--conflicts", help="Only figures on which sources differ.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the machine descriptions."""
    if name is None and not conflicts:
        _print_sources(as_json) if sources else _print_list(as_json)
        return
    chosen = _everything() if name is None else [_find(name)]
    found = [{**_heading(one), "figures": _rows(one, conflicts)} for one in chosen]
    if as_json:
        print(json.dumps(found if name is None else found[0], indent=2))
        return
    shown = [one for one in found if one["figures"] or name is not None]
    print("\n\n".join(_text(one, sources=sources or conflicts) for one in shown))


def _everything() -> list[Description]:
    return [load(name) for list_names, load in _KINDS.values() for name in list_names()]


def _find(name: str) -> Description:
    """The description called `name`; a path is tried as a chip, a system, a site."""
    if name.endswith(".toml"):
        return _KINDS[_kind_of_file(name)][1](name)
    known: list[str] = []
    for list_names, load in _KINDS.values():
        for listed in list_names():
            known += [listed, *load(listed).aliases]
        try:
            return load(name)
        except UnknownNameError:
            continue
    raise UnknownNameError("chip, system or site", name, known)


def _kind_of_file(path: str) -> str:
    """What a user's file describes, told by the keys that only one kind has."""
    import tomllib
    from pathlib import Path

    if not Path(path).is_file():
        raise InputError(f"no file {path!r}", fix="check the path")
    try:
        raw = tomllib.loads(Path(path).read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML: {error}") from None
    if raw.get("extends") in list_systems() or "axes" in raw or "domains" in raw:
        return "systems"
    if raw.get("extends") in list_sites() or "pue" in raw:
        return "sites"
    return "chips"


def _print_list(as_json: bool) -> None:
    entries = {
        kind: [load(name) for name in list_names()] for kind, (list_names, load) in _KINDS.items()
    }
    if as_json:
        text = {kind: [_heading(one) for one in found] for kind, found in entries.items()}
        print(json.dumps(text, indent=2))
        return
    for kind, found in entries.items():
        width = max(len(one.name) for one in found)
        print(kind)
        for one in found:
            print(f"  {one.name:<{width}}  {_summary(one)}")
    print("\nfigures of one: rainshadow machines NAME [--sources]")


def _summary(one: Description) -> str:
    if isinstance(one, Chip):
        return (
            f"{one.title}: {format_flops(one.peak_flops['bfloat16'].value)}/s bf16, "
            f"{format_bytes(one.hbm.capacity.value)} at {format_rate(one.hbm.bandwidth.value)}"
        )
    if isinstance(one, System):
        chips = "1 chip" if one.num_chips == 1 else f"{one.num_chips:,} chips"
        return f"{one.title} ({chips})"
    return one.title


def _print_sources(as_json: bool) -> None:
    found = load_sources()
    if as_json:
        print(json.dumps({key: dict(entry) for key, entry in found.items()}, indent=2))
        return
    for key, entry in found.items():
        print(f"{key}\n  {entry['title']}\n  {entry['url']}, read {entry['read']}")


def _heading(one: Description) -> dict[str, Any]:
    heading: dict[str, Any] = {
        "name": one.name,
        "kind": type(one).__name__.lower(),
        "title": one.title,
        "aliases": list(one.aliases),
    }
    if isinstance(one, System):
        heading |= {
            "chip": one.chip.name,
            "num_chips": one.num_chips,
            "chips_per_domain": one.chips_per_domain,
            "domains": one.domains,
        }
    if not isinstance(one, Chip):
        heading |= {"note": one.note, "sources": list(one.sources)}
    return heading


def _rows(one: Description, conflicts: bool) -> list[dict[str, Any]]:
    """One row per figure; those of a system's chip are left to the chip."""
    return [
        {
            "key": key,
            "value": figure.text,
            "si": figure.value,
            "low": figure.low,
            "high": figure.high,
            "unit": figure.dimension,
            "grade": figure.grade,
            "source": figure.source,
            "note": figure.note,
            "alternatives": [
                {"value": other.text, "source": other.source} for other in figure.alternatives
            ],
        }
        for key, figure in _figures(one, "")
        if figure.alternatives or not conflicts
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
            yield from _figures(entry, f"{path}[{getattr(entry, 'name', index)}]")
    elif dataclasses.is_dataclass(value) and not (isinstance(value, Chip) and path):
        for field in dataclasses.fields(value):
            yield from _figures(getattr(value, field.name), f"{path}.{field.name}".lstrip("."))


def _text(one: dict[str, Any], *, sources: bool) -> str:
    lines = [f"{one['name']}: {one['title']}"]
    if "chip" in one:
        lines.append(f"  {one['num_chips']:,} x {one['chip']}")
    if one.get("note"):
        lines.append(f"  {one['note']}")
    rows = one["figures"]
    if not rows:
        return "\n".join([*lines, "  no figure on which sources differ"])
    key_width = max(len(row["key"]) for row in rows)
    value_width = max(len(row["value"]) for row in rows)
    for row in rows:
        text = f"  {row['key']:<{key_width}}  {row['value']:>{value_width}}  {row['grade']}"
        lines.append(text + (_range(row) if row["low"] != row["high"] else ""))
        if sources:
            lines += [f"      {line}" for line in _provenance(row)]
    return "\n".join(lines)


def _range(row: dict[str, Any]) -> str:
    """ ", 450 to 550 W": low and high in the unit that the source uses."""
    number, _, unit = row["value"].partition(" ")
    to_unit = float(number.replace(",", "")) / row["si"]
    return f", {row['low'] * to_unit:.4g} to {row['high'] * to_unit:.4g} {unit}".rstrip()


def _provenance(row: dict[str, Any]) -> list[str]:
    titles = {key: entry["title"] for key, entry in load_sources().items()}
    lines = [titles[row["source"]]]
    lines += [f"but {other['value']}: {titles[other['source']]}" for other in row["alternatives"]]
    if row["note"]:
        lines.append(f"note: {row['note']}")
    return lines
