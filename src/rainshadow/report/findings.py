"""Writes findings for people, programs and code hosts: text, JSON, SARIF 2.1.0, GitHub annotations.

SARIF: OASIS standard 2.1.0. Annotations: GitHub's workflow commands `error` and `warning`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rainshadow import __version__
from rainshadow.findings import Finding, Place

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def as_text(findings: Sequence[Finding]) -> str:
    """One paragraph each."""
    return "\n".join(map(str, findings))


def as_json(findings: Sequence[Finding]) -> str:
    """{"findings": [...]}, every field by its name."""
    return json.dumps({"findings": [finding.to_json() for finding in findings]}, indent=2)


def as_github(findings: Sequence[Finding]) -> str:
    """Workflow commands that put each finding beside its line in a pull request."""
    return "\n".join(map(_annotation, findings))


def as_sarif(findings: Sequence[Finding]) -> str:
    """A SARIF log of one run, for code scanning."""
    rules = sorted({finding.rule for finding in findings})
    run = {
        "tool": {
            "driver": {
                "name": "rainshadow",
                "version": __version__,
                "rules": [{"id": rule, "name": rule} for rule in rules],
            }
        },
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, rules.index(finding.rule)) for finding in findings],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


FORMATS: dict[str, Callable[[Sequence[Finding]], str]] = {
    "text": as_text,
    "json": as_json,
    "sarif": as_sarif,
    "github": as_github,
}


def _relative(file: str) -> str:
    """The file as seen from here, where it lies below."""
    path = Path(file)
    return path.relative_to(Path.cwd()).as_posix() if _is_below(path) else path.as_posix()


def _is_below(path: Path) -> bool:
    return path.is_absolute() and path.is_relative_to(Path.cwd())


def _annotation(finding: Finding) -> str:
    text = "\n".join([finding.message, *map(str, finding.others), f"to mend it: {finding.fix}"])
    place = f"file={_escaped(_relative(finding.file), ':,')},line={max(finding.line, 1)}"
    return f"::{finding.severity} {place},title={_escaped(finding.rule, ':,')}::{_escaped(text)}"


def _escaped(text: str, also: str = "") -> str:
    for letter in "%\r\n" + also:
        text = text.replace(letter, f"%{ord(letter):02X}")
    return text


def _result(finding: Finding, rule_index: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": rule_index,
        "level": finding.severity,
        "message": {"text": f"{finding.message}. To mend it: {finding.fix}"},
        "locations": [_location(finding.file, finding.line, finding.text)],
    }
    if finding.others:
        result["relatedLocations"] = [
            {"id": number, **_related(place)} for number, place in enumerate(finding.others)
        ]
    return result


def _related(place: Place) -> dict[str, Any]:
    return {**_location(place.file, place.line, place.text), "message": {"text": place.what}}


def _location(file: str, line: int, text: str) -> dict[str, Any]:
    path = Path(file)
    uri = path.as_uri() if path.is_absolute() and not _is_below(path) else _relative(file)
    region: dict[str, Any] = {"startLine": max(line, 1)}
    if text:
        region["snippet"] = {"text": text}
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}
