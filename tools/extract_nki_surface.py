"""Writes the table of AWS's NKI names, parameters and defaults from AWS's published stubs.

    python tools/extract_nki_surface.py CHECKOUT > tests/repo/nki_surface.csv
    python tools/extract_nki_surface.py --first OLDER > tests/repo/nki_first_surface.csv

CHECKOUT: aws-neuron/aws-neuron-sdk.  OLDER: the same at tag v2.26.1, the last with the first
generation, whose table is written with --first. Names, parameters and defaults only; nothing AWS
wrote about them. tests/repo/test_nki_surface.py holds our own surface to the tables.
"""

from __future__ import annotations

import ast
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

MODULES = ("nki", "nki.collectives", "nki.isa", "nki.language")
FIRST_MODULES = ("nki", "nki.compiler", "nki.isa", "nki.language")
#: Modules of the first generation whose functions are those of a name of another module.
FIRST_PARTS = ("nki.compiler.psum", "nki.compiler.sbuf")
Row = tuple[str, str, str, str]


def stub_of(checkout: Path, module: str) -> Path:
    """The stub file of a module in a checkout."""
    path = checkout / "nki" / "api" / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def rows_of(module: str, text: str) -> Iterator[Row]:
    """(module, name, kind, parameters) of everything public that a stub defines."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef):
            yield module, node.name, "function", parameters(node, skip=0)
        elif isinstance(node, ast.ClassDef):
            yield module, node.name, "class", ""
            yield from _members(module, node)
        elif (name := _assigned(node)) is not None and not name.startswith("__"):
            yield module, name, "constant", ""


def _members(module: str, cls: ast.ClassDef) -> Iterator[Row]:
    is_enum = any(isinstance(base, ast.Name) and base.id == "Enum" for base in cls.bases)
    for node in cls.body:
        if isinstance(node, ast.FunctionDef):
            if node.name == "__init__":
                continue
            is_property = any(ast.unparse(d) == "property" for d in node.decorator_list)
            kind = "attribute" if is_property else "method"
            yield module, f"{cls.name}.{node.name}", kind, parameters(node, skip=1)
        elif (name := _assigned(node)) is not None:
            value = getattr(node, "value", None)
            shown = ast.unparse(value) if is_enum and value is not None else ""
            yield module, f"{cls.name}.{name}", "member" if is_enum else "attribute", shown


def _assigned(node: ast.stmt) -> str | None:
    target = node.target if isinstance(node, ast.AnnAssign) else None
    if isinstance(node, ast.Assign):
        target = node.targets[0]
    return target.id if isinstance(target, ast.Name) else None


def parameters(node: ast.FunctionDef, *, skip: int) -> str:
    """`a, b=1, *rest, **more`, without annotations and without the first `skip`."""
    arguments = node.args
    names = [argument.arg for argument in arguments.args][skip:]
    defaults: list[ast.expr | None] = [None] * (len(names) - len(arguments.defaults))
    defaults += arguments.defaults
    shown = [
        name if default is None else f"{name}={ast.unparse(default)}"
        for name, default in zip(names, defaults[-len(names) :] if names else [], strict=True)
    ]
    if arguments.vararg:
        shown.append(f"*{arguments.vararg.arg}")
    for argument, keyword_default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        given = "" if keyword_default is None else f"={ast.unparse(keyword_default)}"
        shown.append(argument.arg + given)
    if arguments.kwarg:
        shown.append(f"**{arguments.kwarg.arg}")
    return ", ".join(shown)


def first_rows(checkout: Path) -> Iterator[Row]:
    """The first generation's rows."""
    for module in FIRST_MODULES:
        yield from rows_of(f"neuronxcc.{module}", stub_of(checkout, module).read_text("utf-8"))
    for part in FIRST_PARTS:
        module, _, name = part.rpartition(".")
        for row in rows_of(f"neuronxcc.{module}", stub_of(checkout, part).read_text("utf-8")):
            yield row[0], f"{name}.{row[1]}", *row[2:]


def main() -> None:
    first, checkout = sys.argv[1] == "--first", Path(sys.argv[-1])
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("module", "name", "kind", "parameters"))
    if first:
        writer.writerows(first_rows(checkout))
        return
    for module in MODULES:
        writer.writerows(rows_of(module, stub_of(checkout, module).read_text("utf-8")))


if __name__ == "__main__":
    main()
