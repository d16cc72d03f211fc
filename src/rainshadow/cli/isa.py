"""Show an instruction: operands, rules, cost, engines, sources and an example; or list them all.

What is shown is read from the instruction's own code, so it is what the simulator does.
"""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rainshadow.cli_options import Json

if TYPE_CHECKING:
    from rainshadow.isa.instruction import Instruction

_WIDTH = 96


def command(
    name: Annotated[str | None, typer.Argument(help="An instruction, such as nc_matmul.")] = None,
    as_json: Json = False,
) -> None:
    """Print one instruction, or the list."""
    from rainshadow.errors import UnknownNameError
    from rainshadow.isa.instruction import load_instructions

    known = load_instructions()
    if name is None:
        rows = [_headline(cls) for _, cls in sorted(known.items())]
        print(json.dumps(rows, indent=2) if as_json else "\n".join(_list_text(rows)))
        return
    function = _without_instruction(name)
    if name not in known and function is not None:
        print(json.dumps(function, indent=2) if as_json else "\n".join(function.values()))
        return
    if name not in known:
        raise UnknownNameError("instruction", name, known)
    entry = _entry(known[name])
    print(json.dumps(entry, indent=2) if as_json else "\n".join(_text(entry)))


def _without_instruction(name: str) -> dict[str, str] | None:
    """A function of nki.isa that issues another's instruction, or none: registers, queries."""
    import inspect

    from rainshadow.nki import isa

    function = getattr(isa, name, None)
    if not inspect.isfunction(function) or not function.__module__.startswith("rainshadow.nki."):
        return None
    return {
        "signature": f"nki.isa.{name}({', '.join(inspect.signature(function).parameters)})",
        "summary": inspect.getdoc(function) or "",
        "instruction": "It has no instruction of its own.",
    }


def _headline(cls: type[Instruction]) -> dict[str, Any]:
    from rainshadow.isa.describe import engines_of, summary_of

    return {
        "name": cls.opcode,
        "module": f"nki.{cls.MODULE}",
        "engines": engines_of(cls),
        "summary": summary_of(cls),
    }


def _entry(cls: type[Instruction]) -> dict[str, Any]:
    import importlib
    import inspect
    from dataclasses import asdict

    from rainshadow.isa.describe import cost_of, cost_terms, operands_of, rules_of, source_of

    function = getattr(importlib.import_module(f"rainshadow.nki.{cls.MODULE}"), cls.opcode)
    return {
        **_headline(cls),
        "signature": f"{cls.opcode}({', '.join(inspect.signature(function).parameters)})",
        "operands": operands_of(cls),
        "reads": list(cls.READS),
        "writes": list(cls.WRITES),
        "rows_by_index": list(cls.INDIRECT),
        "columns_by_index": list(cls.COLUMNS),
        "options": list(cls.PARAMS),
        "rules": [asdict(rule) for rule in rules_of(cls)],
        "cost": cost_of(cls),
        "cost_terms": cost_terms(cls),
        "source": source_of(cls),
        "example": cls.EXAMPLE,
    }


def _list_text(rows: list[dict[str, Any]]) -> list[str]:
    width = max(len(row["name"]) for row in rows)
    lines = []
    for row in rows:
        engines = "/".join(row["engines"])
        lines.append(f"{row['name']:<{width}}  {engines:<22}  {row['summary']}")
    return lines


def _text(entry: dict[str, Any]) -> list[str]:
    lines = [f"{entry['module']}.{entry['signature']}", *_wrapped(entry["summary"], "")]
    lines += ["", f"engines: {', '.join(entry['engines'])}", ""]
    lines += _wrapped(entry["operands"], "operands: ")
    lines.append(
        f"reads {', '.join(entry['reads']) or 'nothing'}; "
        f"writes {', '.join(entry['writes']) or 'nothing'}"
    )
    for what in ("rows", "columns"):
        if entry[f"{what}_by_index"]:
            where = " (gen4)" if what == "columns" else ""
            lines.append(f"{what} by an index tile{where}: {', '.join(entry[f'{what}_by_index'])}")
    lines += ["", "rules:"]
    for rule in entry["rules"]:
        about = f" ({', '.join(rule['operands'])})" if rule["operands"] else ""
        limit = f" Allowed: {rule['allowed']}" if rule["allowed"] else ""
        lines += _wrapped(f"{rule['text']}{about}{limit}", "  - ")
    lines += ["", "cost:", *textwrap.indent(entry["cost"], "    ").splitlines()]
    for term, meaning in entry["cost_terms"].items():
        lines += _wrapped(f"{term}: {meaning}", "  ")
    lines += ["", *_wrapped(entry["source"], ""), "", "example:", f"    {entry['example']}"]
    return lines


def _wrapped(text: str, first: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=" " * len(first))
