"""Knows what a user means by a system, a range of chips, a number of tokens, a span of time."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TypeVar

from rainshadow.errors import InputError, UnknownNameError
from rainshadow.machine import System, list_chips, list_systems, load_chip, load_system

_Name = TypeVar("_Name", bound=str)
_SCALES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12, "p": 1e15}
_SPANS = {
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
    "days": 86400.0,
}
_SPANS |= {"w": 7 * 86400.0, "weeks": 7 * 86400.0, "months": 30 * 86400.0}
#: More sizes than this in one range are a slip of the pen.
_MAX_COUNTS = 200


def system_for(word: str) -> System:
    """A system by name, alias or path; or, for a chip's name, the system that chip is rented in.

    Of several systems with the chip the one with a price of its own is taken, then one that
    scales out.
    Errors: `UnknownNameError` with the nearest systems and chips.
    """
    try:
        return load_system(word)
    except UnknownNameError:
        pass
    try:
        chip = load_chip(word)
    except UnknownNameError:
        known = [*list_systems(), *list_chips()]
        known += [alias for name in list_systems() for alias in load_system(name).aliases]
        raise UnknownNameError("system or chip", word, known) from None
    if chip.family == "cpu":
        raise InputError(
            f"--on {word}: {chip.title}",
            allowed="systems of accelerators: `rainshadow machines` lists them",
            fix="name the accelerator; its host's power is part of the system already",
        )
    found = [system for system in map(load_system, list_systems()) if system.chip == chip]
    if not found:
        raise InputError(
            f"no system is described with {chip.name}",
            fix="add one to data/systems, or name a .toml of your own",
        )
    return max(found, key=_preference)


def _preference(system: System) -> tuple[bool, bool, bool, str]:
    return (
        bool(system.price_item) and system.price_item in system.aliases,
        bool(system.price_item),
        system.network is not None,
        system.name,
    )


def chip_counts(text: str) -> list[int]:
    """ "64..16384" (doubling), "64..1024/64" (in steps of 64), "64,96" or "512".

    Errors: `InputError` for what is no range.
    """
    counts: list[int] = []
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(\d+)(?:\.\.(\d+)(?:/(\d+))?)?", part.replace("_", ""))
        if match is None:
            raise InputError(
                f"--chips {text}",
                allowed="a number, a list 64,96, a range 64..16384 that doubles, or 64..1024/64",
            )
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if first < 1 or last < first:
            raise InputError(f"--chips {text}", allowed="from a number above 0 to one no smaller")
        step = int(match[3]) if match[3] else None
        if step == 0:
            raise InputError(f"--chips {text}", allowed="a step above 0")
        value = first
        while value <= last:
            counts.append(value)
            value = value + step if step else value * 2
            if len(counts) > _MAX_COUNTS:
                raise InputError(
                    f"--chips {text}: more than {_MAX_COUNTS} sizes",
                    fix="take larger steps",
                )
    return sorted(set(counts))


def quantity(text: str, option: str) -> float:
    """ "15T" -> 15e12, "2.5M" -> 2.5e6.

    Errors: `InputError`.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?(?:[eE][0-9]+)?)\s*([kKmMbBgGtTpP]?)", text.strip())
    if match is None or float(match[1]) <= 0:
        raise InputError(f"{option} {text}", allowed="a number above 0, with k, M, B or T if large")
    return float(match[1]) * _SCALES[match[2].lower()]


def span_s(text: str, option: str) -> float:
    """ "30d" -> seconds; us, ms, s, min, h, d, w.

    Errors: `InputError`.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)", text.strip().lower())
    if match is None or match[2] not in _SPANS or float(match[1]) <= 0:
        raise InputError(f"{option} {text}", allowed="a time such as 50ms, 2s, 12h, 30d or 6w")
    return float(match[1]) * _SPANS[match[2]]


def chosen(what: str, word: str, known: Collection[_Name]) -> _Name:
    """The one of `known` that is typed.

    Errors: `UnknownNameError` with the nearest.
    """
    for name in known:
        if name == word:
            return name
    raise UnknownNameError(what, word, known)


def system_names(text: str) -> list[str]:
    """What loads each system of a comma-separated list: its name or its file, each once.

    Errors: as `system_for`.
    """
    words: Sequence[str] = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise InputError(f"--on {text!r}", allowed="systems or chips, separated by commas")
    return list(
        dict.fromkeys(word if word.endswith(".toml") else system_for(word).name for word in words)
    )
