"""Knows how every point of a table is computed again: its family, one run for all that share it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from traceback import extract_tb
from typing import Any

from rainshadow.errors import RainshadowError, SourceLine
from rainshadow.validation.checkouts import Checkouts
from rainshadow.validation.points import Point
from rainshadow.validation.target import Target

#: A reason is a line of a table, not a report.
_WHY_LENGTH = 120


@dataclass(frozen=True, slots=True)
class Outcome:
    """A point and what became of it. predicted: None where `why` says why it could not be run.

    duration_s, bound_s: of the run it was read from, and of that run's work at peak rates.
    baseline: what a simple rule gives, where the family has one to be compared with.
    """

    point: Point
    family: str
    target: Target | None
    predicted: float | None = None
    why: str = ""
    duration_s: float = 0.0
    bound_s: float = 0.0
    baseline: float | None = None

    @property
    def error(self) -> float | None:
        """(predicted - published) / published, of a rate's inverse where that is the target's."""
        return self._relative(self.predicted)

    @property
    def baseline_error(self) -> float | None:
        """The same of the baseline."""
        return self._relative(self.baseline)

    def _relative(self, figure: float | None) -> float | None:
        published = self.point.value
        if not figure or not published:
            return None
        if self.target is not None and self.target.of_rate:
            return published / figure - 1
        return figure / published - 1


@cache
def families() -> dict[str, Any]:
    """Every family by name: the modules of the folder."""
    package = importlib.import_module("rainshadow.validation.families")
    return {
        module.name: importlib.import_module(f"{package.__name__}.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
    }


def validate(
    points: Sequence[Point],
    checkouts: Checkouts,
    *,
    traces: Path | None = None,
    tell: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> list[Outcome]:
    """The outcome of every point, in their order. tell: called before each run with its name."""
    outcomes: dict[int, Outcome] = {}
    waiting: dict[str, tuple[Any, list[tuple[int, Point, str]]]] = {}
    for number, point in enumerate(points):
        name = next((name for name, family in families().items() if family.claims(point)), None)
        if name is None:
            outcomes[number] = Outcome(point, "", None, why=_unclaimed(point))
            continue
        try:  # other people's kernels raise whatever they like on sizes not meant for them
            launch = families()[name].launch(point, checkouts)
        except Exception as error:
            outcomes[number] = _failed(point, name, error)
            continue
        waiting.setdefault(launch.key, (launch, []))[1].append((number, point, name))
    for done, (key, (launch, sharing)) in enumerate(waiting.items()):
        tell(done, len(waiting), key)
        for number, outcome in _run(launch, sharing, traces):
            outcomes[number] = outcome
    return [outcomes[number] for number in range(len(points))]


def _run(
    launch: Any, sharing: Sequence[tuple[int, Point, str]], traces: Path | None
) -> Iterator[tuple[int, Outcome]]:
    try:
        measured = launch.measure(traces)
    except Exception as error:
        for number, point, name in sharing:
            yield number, _failed(point, name, error)
        return
    for number, point, name in sharing:
        family = families()[name]
        try:
            predicted = family.value(point, measured)
        except Exception as error:
            yield number, _failed(point, name, error)
            continue
        yield (
            number,
            Outcome(
                point,
                name,
                family.target(point),
                predicted,
                duration_s=measured.duration_s,
                bound_s=measured.bound_s,
                baseline=family.baseline(point) if hasattr(family, "baseline") else None,
            ),
        )


def _failed(point: Point, family: str, error: BaseException) -> Outcome:
    """The kernel or the family refused. A kernel's own assertion counts as a refusal."""
    what = error.what if isinstance(error, RainshadowError) else str(error)
    text = " ".join(what.split())
    if not text or not isinstance(error, RainshadowError | AssertionError):
        text = f"{type(error).__name__}: {text}"
    if len(text) > _WHY_LENGTH:
        text = f"{text[:_WHY_LENGTH].rsplit(' ', 1)[0]} ..."
    where = getattr(error, "where", None)
    if isinstance(where, SourceLine):
        text += f" ({Path(where.file).name}:{where.line})"
    elif not isinstance(error, RainshadowError) and (frames := extract_tb(error.__traceback__)):
        text += f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})"
    return Outcome(point, family, None, why=text)


def _unclaimed(point: Point) -> str:
    source = point["source_of_kernel"]
    if source in ("", "-") or source.startswith(("none", "optimized kernel not")):
        return "no kernel is published for it"
    return "no family computes it"
