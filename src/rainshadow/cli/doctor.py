"""Say what is installed, which versions, and what each missing extra would add.

Exit code 3 if something that is installed can't work.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rainshadow import __version__
from rainshadow.cli_options import Json
from rainshadow.errors import CheckFailed
from rainshadow.machine import data_faults

#: What the device, the compiler and the NKI surface are tested with.
KNOWN_TO_WORK = {"torch": "2.13.0", "nki": "0.6 (AWS Neuron SDK 2.32)"}
CORE = ("numpy", "ml_dtypes", "typer", "rich", "jinja2")
#: Oldest torch whose private-use device hooks the device needs.
OLDEST_TORCH = (2, 13)


@dataclass(frozen=True, slots=True)
class Extra:
    """An optional dependency; gives: what works with it."""

    name: str
    package: str
    gives: str


EXTRAS = (
    Extra("torch", "torch", "port, run: PyTorch scripts and the compiler's front end"),
    Extra("fast", "numba", "timing of long traces at full speed"),
    Extra("tables", "duckdb", "traces and timelines as Parquet tables"),
)


def command(
    as_json: Json = False,
) -> None:
    """Print versions and extras."""
    report = examine()
    print(json.dumps(report, indent=2) if as_json else text_of(report))
    if report["problems"]:
        raise CheckFailed(
            f"{len(report['problems'])} problem(s) found",
            fix="see the lines that begin with PROBLEM, or the JSON's problems",
        )


def examine() -> dict[str, Any]:
    """Everything doctor knows."""
    versions = {extra.name: _version(extra.package) for extra in EXTRAS}
    metadata = _metadata("rainshadow")
    return {
        "rainshadow": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "known_to_work": KNOWN_TO_WORK,
        "core": {name: _version(name) for name in CORE},
        "extras": {
            extra.name: {
                "package": extra.package,
                "version": versions[extra.name],
                "gives": extra.gives,
            }
            for extra in EXTRAS
        },
        "aws_nki": importlib.util.find_spec("nki") is not None,
        "notes": _notes(versions["torch"], metadata),
        "problems": [*_problems(versions["torch"], metadata), *data_faults()],
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _metadata(package: str) -> Mapping[str, str] | None:
    try:
        return dict(importlib.metadata.metadata(package).items())
    except importlib.metadata.PackageNotFoundError:
        return None


def _notes(torch: str | None, metadata: Mapping[str, str] | None) -> list[str]:
    notes = []
    if metadata is None:
        notes.append("rainshadow runs from its source folder, it is not installed")
    if torch and torch.partition("+")[0] != KNOWN_TO_WORK["torch"]:
        notes.append(f"torch {torch} is installed; {KNOWN_TO_WORK['torch']} is the tested release")
    if importlib.util.find_spec("nki") is not None:
        notes.append("AWS's own nki package is importable; Rainshadow steps aside unless forced")
    return notes


def _problems(torch: str | None, metadata: Mapping[str, str] | None) -> list[str]:
    problems = []
    # Another project has the name rainshadow on the package index.
    if metadata is not None and "Trainium" not in metadata.get("Summary", ""):
        problems.append(
            f"the installed distribution rainshadow {metadata.get('Version')} is another project "
            "of that name: pip uninstall rainshadow, then install this one from its folder"
        )
    if torch and tuple(int(part) for part in torch.split(".")[:2]) < OLDEST_TORCH:
        problems.append(f"torch {torch} is too old: pip install 'torch>=2.13'")
    problems += [f"{name} is missing: pip install {name}" for name in CORE if not _version(name)]
    return problems


def text_of(report: dict[str, Any]) -> str:
    """The report for people."""
    works = ", ".join(f"{name} {version}" for name, version in report["known_to_work"].items())
    lines = [
        f"rainshadow {report['rainshadow']}, Python {report['python']}, {report['platform']}",
        f"known to work with: {works}",
        *(f"  {name:<10}{version}" for name, version in report["core"].items()),
        "extras (pip install '.[NAME]' in the checkout):",
    ]
    for name, extra in report["extras"].items():
        state = f"{extra['package']} {extra['version'] or 'missing'}"
        lines.append(f"  {name:<10}{state:<18}{extra['gives']}")
    lines += [f"note: {note}" for note in report["notes"]]
    lines += [f"PROBLEM: {problem}" for problem in report["problems"]]
    return "\n".join(lines if report["problems"] else [*lines, "all is well"])
