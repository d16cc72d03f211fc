"""Prints the line budgets of the project and fails above them.

A file has at most 600 lines, a function 60, an instruction file 150 (docs of the design say why:
what is longer holds more than one subject).
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

FILE_LINES = 600
FUNCTION_LINES = 60
INSTRUCTION_LINES = 150
ROOT = Path(__file__).resolve().parent.parent


def functions(tree: ast.AST) -> list[tuple[str, int]]:
    """(name, lines) of every function."""
    return [
        (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    ]


def faults_of(path: Path) -> tuple[int, list[str]]:
    """Lines of a file and what is over budget in it."""
    text = path.read_text("utf-8")
    lines = text.count("\n")
    name = path.relative_to(ROOT)
    limit = INSTRUCTION_LINES if path.parent.name == "instructions" else FILE_LINES
    faults = [f"{name}: {lines} lines, at most {limit}"] if lines > limit else []
    for function, length in functions(ast.parse(text)):
        if length > FUNCTION_LINES:
            faults.append(f"{name}: {function} has {length} lines, at most {FUNCTION_LINES}")
    return lines, faults


def main() -> int:
    """Print lines per layer and everything over budget."""
    totals: dict[str, int] = {}
    faults: list[str] = []
    for path in sorted((ROOT / "src" / "rainshadow").rglob("*.py")):
        lines, found = faults_of(path)
        layer = path.relative_to(ROOT / "src" / "rainshadow").parts[0]
        totals[layer] = totals.get(layer, 0) + lines
        faults += found
    print("lines per layer:", ", ".join(f"{name} {count}" for name, count in totals.items()))
    for fault in faults:
        print("over budget:", fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
