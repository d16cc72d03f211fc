"""Checks a kernel by running it: hardware rules that it breaks, and hazards of its launches.

What the compiler would refuse in the source is `nki.subset`'s; finding hazards, `sim.hazards`'.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rainshadow.errors import (
    CapacityError,
    NkiValidationError,
    OutOfBoundsError,
    RainshadowError,
    SourceLine,
)
from rainshadow.findings import Finding, in_order
from rainshadow.machine import Chip
from rainshadow.nki.kernel import Run, numpy_from_torch, observe
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
    try:
        with watch_launches(chip, findings):
            run()
    except NkiValidationError as error:
        findings.append(_violation(error, path))
    return in_order(findings)


@contextmanager
def watch_launches(chip: Chip, findings: list[Finding]) -> Iterator[None]:
    """Adds to `findings` the hazards of every launch made inside the block, whoever makes it."""

    def look(launch: Run) -> None:
        traces = (launch.trace, *launch.other_traces)
        for first in range(0, len(traces), launch.lnc):
            cores = traces[first : first + launch.lnc]
            findings.extend(find_hazards(cores, chip, _dependence(launch)))

    with observe(look, chip, again=True):
        yield


def _dependence(launch: Run) -> Callable[[frozenset[SourceLine]], bool] | None:
    """Whether results change with what memory held before; None where there are no data."""
    again, options = launch.again, launch.options
    if again is None or options is None or options.data != "full":
        return None
    quiet = replace(options, record=False)

    def seen(zeroed: frozenset[SourceLine]) -> list[bytes]:
        try:
            return list(_contents(again(replace(quiet, zeroed=zeroed))))
        except RainshadowError as error:
            return [str(error).encode()]

    usual = functools.cache(lambda: seen(frozenset()))
    return lambda zeroed: seen(zeroed) != usual()


def _contents(value: Any) -> Iterator[bytes]:
    """The bytes of every array in a structure of tuples, lists and dictionaries."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _contents(item)
    elif hasattr(value, "detach"):
        yield numpy_from_torch(value).tobytes()
    elif isinstance(value, np.ndarray):
        yield value.tobytes()


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
