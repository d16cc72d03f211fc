"""Knows every tie to CUDA that a script met while it ran: where, what, and how it was resolved.

The kinds of tie and the words for their resolution are data (data/porting/ties.csv); who notices
a tie is redirect.py's business.
"""

from __future__ import annotations

import csv
import fnmatch
import linecache
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from types import FrameType
from typing import Any

from rainshadow.errors import NotModelled, SourceLine

_COLUMNS = ("kind", "api", "resolution", "source")
_PACKAGE = str(Path(__file__).resolve().parents[1])


@dataclass(frozen=True, slots=True)
class TieRule:
    """A row of the table. api: name or shell pattern of names, such as torch.cuda.memory_*."""

    kind: str
    api: str
    resolution: str
    source: str


@dataclass(frozen=True, slots=True)
class Tie:
    """One line of the user's code that asked for CUDA. count: how often the line did."""

    kind: str
    api: str
    where: SourceLine
    resolution: str
    count: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(entry: Mapping[str, Any]) -> Tie:
        return Tie(**{**entry, "where": SourceLine(**entry["where"])})


@cache
def load_rules() -> tuple[TieRule, ...]:
    """The rows of data/porting/ties.csv, in the file's order: the first that fits wins."""
    table = resources.files("rainshadow").joinpath("data", "porting", "ties.csv")
    with table.open(encoding="utf-8", newline="") as stream:
        return tuple(
            TieRule(*(row[name].strip() for name in _COLUMNS)) for row in csv.DictReader(stream)
        )


@cache
def rule_for(api: str) -> TieRule:
    """The rule of an API name.

    Errors: `NotModelled` where the table has no row for it.
    """
    for rule in load_rules():
        if fnmatch.fnmatchcase(api, rule.api):
            return rule
    raise NotModelled(f"no rule for the CUDA call {api}", fix="add a row to data/porting/ties.csv")


@cache
def code_owner(filename: str) -> str:
    """Whose code a file is: "user", "rainshadow", "torch", "package" or "interpreter"."""
    if filename.startswith("<"):
        return "interpreter"
    path = str(Path(filename).resolve())
    if path.startswith(_PACKAGE):
        return "rainshadow"
    parts = Path(path).parts
    if "site-packages" in parts or "dist-packages" in parts:
        return "torch" if "torch" in parts else "package"
    paths = sysconfig.get_paths()
    if any(path.startswith(str(Path(paths[key]).resolve())) for key in ("stdlib", "platstdlib")):
        return "interpreter"
    return "user"


def calling_owner(depth: int = 2) -> str:
    """Whose code called the function that calls this (depth 2), its caller (3), ..."""
    return code_owner(sys._getframe(depth).f_code.co_filename)


def user_line(frame: FrameType | None, through: Iterable[str] = ()) -> SourceLine | None:
    """The user's line that a call came from, or None for a call PyTorch makes for itself.

    Frames of Rainshadow, of the interpreter and of third packages are passed over. Frames of
    PyTorch end the search, except files whose path contains one of `through`.
    """
    while frame is not None:
        filename = frame.f_code.co_filename
        owner = code_owner(filename)
        if owner == "user":
            text = linecache.getline(filename, frame.f_lineno).strip()
            return SourceLine(filename, frame.f_lineno, text)
        if owner == "torch" and not any(part in filename for part in through):
            return None
        frame = frame.f_back
    return None


class TieLog:
    """The ties of one run, counted by (file, line, API)."""

    def __init__(self) -> None:
        self._count: dict[tuple[str, int, str], int] = {}
        self._where: dict[tuple[str, int, str], SourceLine] = {}

    def met(self, api: str, *, through: Iterable[str] = ()) -> bool:
        """Note that the caller's caller asked for `api`; False where PyTorch itself did."""
        where = user_line(sys._getframe(2), through)
        if where is None:
            return False
        self.add(api, where)
        return True

    def add(self, api: str, where: SourceLine) -> None:
        """Note one use of `api` at `where`."""
        key = (where.file, where.line, api)
        self._where.setdefault(key, where)
        self._count[key] = self._count.get(key, 0) + 1

    def ties(self) -> list[Tie]:
        """All ties in order of file and line."""
        rows = []
        for key in sorted(self._count):
            rule = rule_for(key[2])
            rows.append(Tie(rule.kind, key[2], self._where[key], rule.resolution, self._count[key]))
        return rows
