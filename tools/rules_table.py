"""Write docs/rules.md, the table of hardware rules, from the code that checks them.

Usage: python tools/rules_table.py [--check]
--check: write nothing, and exit with 1 where the file is not current.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from rainshadow.isa import access, columns, indices
from rainshadow.isa.describe import Rule, engines_of, raised_in, rules_of, source_of, summary_of
from rainshadow.isa.instruction import load_instructions
from rainshadow.sim import recorder

TARGET = Path(__file__).resolve().parents[1] / "docs" / "rules.md"
HEAD = """\
# Hardware rules

Made by `python tools/rules_table.py` from the code that checks the rules; `rainshadow isa NAME`
shows one instruction with its cost. A rule that a kernel breaks raises `NkiValidationError` with
the kernel's file and line. Names in braces stand for what was asked.

"""


def table() -> str:
    """The whole document."""
    lines = [HEAD + "## Tensors and views\n"]
    lines += _rows(
        [*raised_in(access), *raised_in(indices), *raised_in(recorder)], with_operands=False
    )
    lines.append("\n## Columns that an index tile picks, on NeuronCore-v4\n")
    lines += _rows(raised_in(columns), with_operands=False)
    taking = [name for name, cls in sorted(load_instructions().items()) if cls.COLUMNS]
    lines.append(f"\nTaken by {', '.join(taking)}.")
    for name, cls in sorted(load_instructions().items()):
        lines.append(f"\n## {name}\n")
        lines.append(f"{summary_of(cls)} Engines: {', '.join(engines_of(cls))}.\n")
        lines += _rows(rules_of(cls), with_operands=True)
        lines.append(f"\n{source_of(cls)}")
    return "\n".join(lines) + "\n"


def _rows(rules: list[Rule], *, with_operands: bool) -> Iterator[str]:
    yield "| rule | operands | allowed |" if with_operands else "| rule | allowed |"
    yield "|---|---|---|" if with_operands else "|---|---|"
    for rule in rules:
        cells = [rule.text, ", ".join(rule.operands), rule.allowed]
        if not with_operands:
            del cells[1]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> int:
    """Write, or compare."""
    text = table()
    if "--check" in sys.argv[1:]:
        return int(not TARGET.is_file() or TARGET.read_text("utf-8") != text)
    TARGET.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
