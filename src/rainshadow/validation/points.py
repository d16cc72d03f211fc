"""Knows tables of published figures: one row a point, whatever it is about, its value in SI.

A table needs the columns id, metric, value, unit and source; the others say what was measured
and are read by the family that knows how to compute it again (`validation.families`).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rainshadow.errors import InputError
from rainshadow.units import UNITS

_NEEDED = ("id", "metric", "value", "unit", "source")
_OPTION = re.compile(r"(\w+)=(\S+)")


@dataclass(frozen=True, slots=True)
class Point:
    """A published figure.

    value: in `dimension`, an SI unit or, for units that are no quantity's ("tokens/s/GPU"), the
    table's own; None where the table gives a range.  row: the table's columns.
    """

    id: str
    metric: str
    value: float | None
    dimension: str
    row: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        """A column's text, "" where the table has no such column."""
        return self.row.get(column) or ""

    @property
    def options(self) -> dict[str, str]:
        """What the column "shapes" says as NAME=VALUE."""
        return dict(_OPTION.findall(self["shapes"]))


def read_points(path: Path) -> list[Point]:
    """All points of a CSV file, in its order.

    Errors: `InputError` for a file that can't be read or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}", allowed="a CSV file of points") from None
    missing = [name for name in _NEEDED if not rows or name not in rows[0]]
    if missing:
        raise InputError(
            f"{path} is no table of points: no column {', '.join(missing)}",
            allowed=f"a CSV file with the columns {', '.join(_NEEDED)}",
        )
    return [_point(row) for row in rows]


def _point(row: Mapping[str, str]) -> Point:
    dimension, factor = UNITS.get(row["unit"], (row["unit"], 1.0))
    try:
        value: float | None = float(row["value"]) * factor
    except ValueError:
        value = None
    return Point(row["id"], row["metric"], value, dimension, row)
