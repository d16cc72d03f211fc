"""Knows what a check of a kernel reports: one finding, what is wrong where, and what to write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rainshadow.errors import SourceLine


@dataclass(frozen=True, slots=True)
class Place:
    """Another line that has to do with a finding. what: its part in it."""

    what: str
    file: str
    line: int
    text: str = ""

    def __str__(self) -> str:
        return f"{self.what} at {SourceLine(self.file, self.line, self.text)}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found.

    rule: short name of the rule, for filters.  message: what was found and what is allowed.
    fix: what to write instead.  severity: "error" where a chip or AWS's compiler would refuse or
    go wrong, "warning" where AWS's documents do not say that it works.
    others: the other access of a conflict, where the memory was made.
    """

    rule: str
    message: str
    fix: str
    file: str
    line: int
    severity: Literal["error", "warning"]
    text: str = ""
    others: tuple[Place, ...] = ()

    def __str__(self) -> str:
        place = SourceLine(self.file, self.line, self.text)
        lines = [str(place), f"{self.severity} {self.rule}: {self.message}"]
        lines += [str(other) for other in self.others]
        return "\n  ".join([*lines, f"to mend it: {self.fix}"])

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of plain values."""
        return asdict(self)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """By file and line, each once."""
    return sorted(set(findings), key=lambda item: (item.file, item.line, item.rule, item.message))


def has_errors(findings: Sequence[Finding]) -> bool:
    """Whether any of them is an error."""
    return any(finding.severity == "error" for finding in findings)
