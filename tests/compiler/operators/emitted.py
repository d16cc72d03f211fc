"""Runs emitted NKI source on the simulator, for the tests of the operator emitters."""

from __future__ import annotations

import linecache
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from rainshadow.machine import load_chip
from rainshadow.nki import isa as nisa
from rainshadow.nki import language, record
from rainshadow.sim.options import SimOptions


class Lines:
    """The least a writer must be: indented lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def line(self, text: str = "") -> None:
        self.lines.append(("    " * self.depth + text).rstrip())

    @contextmanager
    def indent(self) -> Iterator[None]:
        self.depth += 1
        yield
        self.depth -= 1

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def run_emitted(
    writer: Lines, name: str, *arrays: Any, chip: str = "trainium2", data: str = "full"
) -> Any:
    """Execute function `name` of the emitted source; it writes its HBM arguments. -> Run"""
    file = f"<emitted {name} {id(writer)}>"
    linecache.cache[file] = (len(writer.text), None, writer.text.splitlines(True), file)
    scope: dict[str, Any] = {"nl": language, "nisa": nisa}
    exec(compile(writer.text, file, "exec"), scope)
    options = SimOptions(data=data)
    return record(scope[name], arrays, chip=load_chip(chip), options=options, keep_strides=True)


def relative_error(actual: Any, expected: Any) -> float:
    """Largest absolute error over the largest absolute expected value."""
    actual = np.asarray(actual, dtype=np.float64)
    expected = np.asarray(expected, dtype=np.float64)
    return float(np.max(np.abs(actual - expected)) / max(np.max(np.abs(expected)), 1e-30))
