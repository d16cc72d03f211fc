"""Runs somebody else's pytest suite, unmodified, with `--rainshadow`, and reads what came of it."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import rainshadow

SOURCE = str(Path(rainshadow.__file__).parents[1])
#: Named by `-p` alone: an installed Rainshadow would register the plugin a second time, and other
#: plugins that happen to be installed are none of the suite's business.
SETTINGS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True)
class Outcome:
    """Tests by what became of them, and what pytest printed."""

    passed: set[str]
    failed: set[str]
    skipped: set[str]
    output: str


def run(folder: Path, report: Path, *arguments: str, path: tuple[Path, ...] = ()) -> Outcome:
    """The suite in `folder`. path: more places for its imports."""
    command = [
        *(sys.executable, "-m", "pytest", "-p", "rainshadow.pytest_plugin", "--rainshadow"),
        *("-p", "no:cacheprovider", "-c", os.devnull, f"--rootdir={folder}"),
        *(f"--junitxml={report}", "-q", *arguments),
    ]
    places = os.pathsep.join([SOURCE, *map(str, path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | SETTINGS | {"PYTHONPATH": places},
        capture_output=True,
        text=True,
    )
    assert report.exists(), f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    found: dict[str, set[str]] = {"passed": set(), "failed": set(), "skipped": set()}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        tags = {child.tag for child in case}
        kind = "failed" if tags & {"failure", "error"} else "skipped" if tags else "passed"
        kind = "passed" if tags and tags <= {"system-out", "system-err"} else kind
        found[kind].add(name)
    return Outcome(**found, output=done.stdout)
