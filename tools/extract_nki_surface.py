"""Writes the table of AWS's NKI names, parameters and defaults from AWS's published stubs.

    python tools/extract_nki_surface.py CHECKOUT > tests/repo/nki_surface.csv

CHECKOUT: aws-neuron/aws-neuron-sdk. Names, parameters and defaults only; nothing AWS wrote about
them. tests/repo/test_nki_surface.py holds our own surface to the table.
"""

from __future__ import annotations

import ast
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

MODULES = ("nki", "nki.collectives", "nki.isa", "nki.language")
Row = tuple[str, str, str, str]


def stub_of(checkout: Path, module: str) -> Path:
    """The stub file of a module in a checkout."""
    return checkout / "nki" / "api" / module.replace(".", "/") / "__init__.py"


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
    shown += [argument.arg for argument in arguments.kwonlyargs]
    if arguments.kwarg:
        shown.append(f"**{arguments.kwarg.arg}")
    return ", ".join(shown)


def main() -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("module", "name", "kind", "parameters"))
    for module in MODULES:
        text = stub_of(Path(sys.argv[1]), module).read_text("utf-8")
        writer.writerows(rows_of(module, text))


if __name__ == "__main__":
    main()
