"""Say what is installed, which versions, and what each missing extra would add.

Exit code 3 if something that is installed can't work.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from rainshadow import __version__
from rainshadow.errors import CheckFailed

#: The torch release the device and the compiler are tested with.
TESTED_TORCH = "2.13.0"
#: The Neuron documentation release the NKI surface follows.
NEURON_SDK = "2.32"


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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print versions and extras."""
    report = {
        "rainshadow": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "neuron_sdk_documentation": NEURON_SDK,
        "packages": {name: _version(name) for name in ("numpy", "ml_dtypes", "typer", "rich")},
        "extras": {
            extra.name: {"version": _version(extra.package), "gives": extra.gives}
            for extra in EXTRAS
        },
        "aws_nki_importable": importlib.util.find_spec("nki") is not None,
        "problems": _problems(),
    }
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        _print(report)
    if report["problems"]:
        raise CheckFailed("; ".join(report["problems"]))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _problems() -> list[str]:
    problems = []
    if sys.version_info < (3, 11):
        problems.append(f"Python {platform.python_version()} is too old: 3.11 or newer is needed")
    summary = importlib.metadata.metadata("rainshadow").get("Summary") or ""
    if "Trainium" not in summary:
        problems.append(
            "the installed distribution named rainshadow is another project of that name; "
            "uninstall it"
        )
    return problems


def _print(report: dict) -> None:
    print(f"rainshadow {report['rainshadow']}, Python {report['python']}, {report['platform']}")
    print(f"NKI surface: AWS Neuron documentation {report['neuron_sdk_documentation']}")
    for name, version in report["packages"].items():
        print(f"  {name:<12}{version}")
    print("extras (pip install 'rainshadow[NAME]'):")
    for name, extra in report["extras"].items():
        state = extra["version"] or "missing"
        print(f"  {name:<12}{state:<14}{extra['gives']}")
    torch = report["extras"]["torch"]["version"]
    if torch and not torch.startswith(TESTED_TORCH):
        print(f"note: torch {torch} is installed; {TESTED_TORCH} is the tested release")
    if report["aws_nki_importable"]:
        print("note: AWS's own nki package is importable; Rainshadow steps aside unless forced")
