"""Knows what the families of aws-neuron/nki-library have in common: folder, dtypes, options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rainshadow.validation.checkouts import Checkouts
from rainshadow.validation.launch import CannotRun
from rainshadow.validation.points import Point
from rainshadow.validation.target import Pool

CHECKOUT = "nki-library"
#: All reference times of the library together, and the largest median error of one kernel's.
LIBRARY = Pool(f"{CHECKOUT}: all", median=0.12, rank=0.97)
FAMILY_MEDIAN = 0.20
#: The second time of a pair is of a platform that the library does not name.
_CHIPS = {"trn1": "trn1", "trn2": "trn2", "trn3": "trn3"}
_UNSTATED = "trn3"


def source_folder(checkouts: Checkouts) -> Path:
    """What goes on the import path for `import nkilib_src`."""
    return checkouts.folder(CHECKOUT) / "src"


def chip_of(point: Point) -> str:
    """The chip of a point; trn3 where the table says that it is assumed."""
    return _CHIPS.get(point["device"], _UNSTATED)


def integer(options: Mapping[str, str], name: str, default: int | None = None) -> int:
    """An option as a number.

    Errors: `CannotRun` where it is missing without a default, or no number.
    """
    text = options.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise CannotRun(f"the column shapes says no number {name}") from None


def flag(options: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """An option that is True or False."""
    return options.get(name, str(default)) == "True"
