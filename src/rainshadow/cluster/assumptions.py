"""Knows what the planner assumes: data/calibration/assumptions.toml, listed in docs/planner.md."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class Assumption:
    """A number that nothing published gives. unit: of value, "" where it has none."""

    value: float
    unit: str
    meaning: str
    why: str


@cache
def assumptions() -> dict[str, Assumption]:
    """All of them by name."""
    path = resources.files("rainshadow") / "data/calibration/assumptions.toml"
    raw = tomllib.loads(path.read_text("utf-8"))
    return {name: Assumption(**row) for name, row in raw.items()}


def assumed(name: str) -> float:
    """The number of an assumption, in its unit."""
    return assumptions()[name].value
