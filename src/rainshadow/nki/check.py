"""Checks a kernel by running it: hardware rules that it breaks, and hazards of its launches.

What the compiler would refuse in the source is `nki.subset`'s; finding hazards, `sim.hazards`'.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rainshadow.errors import CapacityError, NkiValidationError, OutOfBoundsError, SourceLine
from rainshadow.findings import Finding, in_order
from rainshadow.machine import Chip
from rainshadow.nki.kernel import Run, observe
from rainshadow.sim.hazards import find_hazards

#: Names of the rules that end a run, by the error that says so.
_RULES: tuple[tuple[type[NkiValidationError], str], ...] = (
    (CapacityError, "capacity"),
    (OutOfBoundsError, "out-of-bounds"),
    (NkiValidationError, "hardware-rule"),
)


def check_launches(run: Callable[[], Any], chip: Chip, path: Path) -> list[Finding]:
    """What is wrong with the launches that `run` makes, in order of file and line.

    A launch that breaks a rule of the hardware ends there; that is one finding.
    path: the file that findings without a line are about.
    Errors: those of `run` that are not about NKI's rules.
    """
    findings: list[Finding] = []

    def look(launch: Run) -> None:
        findings.extend(find_hazards((launch.trace, *launch.other_traces), chip))

    try:
        with observe(look, chip):
            run()
    except NkiValidationError as error:
        findings.append(_violation(error, path))
    return in_order(findings)


def _violation(error: NkiValidationError, path: Path) -> Finding:
    rule = next(name for kind, name in _RULES if isinstance(error, kind))
    where = error.where if isinstance(error.where, SourceLine) else SourceLine(str(path), 0)
    allowed = f"; allowed: {error.allowed}" if error.allowed else ""
    return Finding(
        rule=rule,
        message=error.what + allowed,
        fix=error.fix or "keep to what is allowed",
        file=where.file,
        line=where.line,
        severity="error",
        text=where.text,
    )
