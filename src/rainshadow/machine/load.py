"""Reads data/machines and data/systems into the dataclasses; reports every fault at once.

The only module that knows the files' form: TOML; a leaf is `{ value, source, grade, note, low,
high, alternatives }`; `extends` names a file whose entries this one overrides.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from rainshadow.errors import InputError, MachineDataError, UnknownNameError
from rainshadow.machine.chip import Chip
from rainshadow.machine.system import System
from rainshadow.sources import GRADES, Alternative, Figure
from rainshadow.units import parse_quantity

_FIGURE_KEYS = {"value", "source", "grade", "note", "low", "high", "alternatives"}
_REQUIRED_FIGURE_KEYS = ("value", "source", "grade")


def _folder(kind: str) -> Any:
    return resources.files("rainshadow") / "data" / kind


@cache
def _raw_files(kind: str) -> dict[str, dict[str, Any]]:
    """Every TOML file of a folder by stem, unchecked."""
    faults: list[str] = []
    files: dict[str, dict[str, Any]] = {}
    for entry in sorted(_folder(kind).iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".toml"):
            try:
                files[entry.name.removesuffix(".toml")] = tomllib.loads(entry.read_text("utf-8"))
            except tomllib.TOMLDecodeError as error:
                faults.append(f"{kind}/{entry.name}: {error}")
    if faults:
        raise MachineDataError(faults)
    return files


@cache
def load_sources() -> Mapping[str, Mapping[str, str]]:
    """Every source of the data files: key -> title, url, read (date)."""
    text = (resources.files("rainshadow") / "data" / "sources.toml").read_text("utf-8")
    return tomllib.loads(text)


def _merged(kind: str, name: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """A file's entries over those of the file it extends."""
    files = _raw_files(kind)
    if name in seen or name not in files:
        raise MachineDataError([f"{kind}/{seen[-1]}.toml: extends: no usable file {name!r}"])
    raw = dict(files[name])
    parent = raw.pop("extends", None)
    if parent is None:
        return raw
    return _overlay(_merged(kind, parent, (*seen, name)), raw)


def _overlay(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in top.items():
        old = result.get(key)
        is_leaf = isinstance(value, dict) and "value" in value
        if isinstance(value, dict) and isinstance(old, dict) and not is_leaf:
            result[key] = _overlay(old, value)
        else:
            result[key] = value
    return result


@dataclasses.dataclass(slots=True)
class _Reader:
    """Builds dataclasses from nested dicts, collecting faults instead of raising."""

    file: str
    faults: list[str]

    def fault(self, key: str, message: str) -> None:
        self.faults.append(f"{self.file}: {key}: {message}")

    def build(self, cls: type, raw: Any, key: str) -> Any:
        if not isinstance(raw, dict):
            self.fault(key, f"expected a table, got {raw!r}")
            return None
        fields = {field.name: field for field in dataclasses.fields(cls)}
        hints = typing.get_type_hints(cls)
        for name in raw.keys() - fields.keys():
            self.fault(f"{key}.{name}".lstrip("."), "unknown key")
        values: dict[str, Any] = {}
        for name, field in fields.items():
            path = f"{key}.{name}".lstrip(".")
            if name in raw:
                values[name] = self.read(hints[name], raw[name], path, field.metadata)
            elif field.default is dataclasses.MISSING:
                self.fault(path, "missing")
                values[name] = None
        return cls(**values) if not self.faults else None

    def read(self, hint: Any, raw: Any, key: str, metadata: Mapping[str, Any]) -> Any:
        options = [arg for arg in typing.get_args(hint) if arg is not types.NoneType]
        if isinstance(hint, types.UnionType):
            hint = options[0]
        if hint is Figure:
            return self.figure(raw, key, metadata["dimension"])
        if typing.get_origin(hint) is dict:
            return {
                name: self.figure(leaf, f"{key}.{name}", metadata["dimension"])
                for name, leaf in raw.items()
            }
        if typing.get_origin(hint) is tuple:
            item = typing.get_args(hint)[0]
            return tuple(
                self.read(item, entry, f"{key}[{index}]", metadata)
                for index, entry in enumerate(raw)
            )
        if hint is Chip and isinstance(raw, str):
            return load_chip(raw)
        if dataclasses.is_dataclass(hint):
            return self.build(typing.cast(type, hint), raw, key)
        if not isinstance(raw, hint):
            self.fault(key, f"expected {hint.__name__}, got {raw!r}")
        return raw

    def figure(self, raw: Any, key: str, dimension: str) -> Figure | None:
        if not isinstance(raw, dict):
            self.fault(key, f"expected {{ value, source, grade }}, got {raw!r}")
            return None
        for name in raw.keys() - _FIGURE_KEYS:
            self.fault(f"{key}.{name}", "unknown key")
        missing = [name for name in _REQUIRED_FIGURE_KEYS if name not in raw]
        for name in missing:
            self.fault(f"{key}.{name}", "missing")
        if missing:
            return None
        if raw["grade"] not in GRADES:
            self.fault(f"{key}.grade", f"{raw['grade']!r} is not one of {', '.join(GRADES)}")
        if raw["source"] not in load_sources():
            self.fault(f"{key}.source", f"{raw['source']!r} is not in sources.toml")
        if raw["grade"] == "assumed" and not ("low" in raw and "high" in raw):
            self.fault(key, "an assumed figure needs low and high")
        return self._checked_figure(raw, key, dimension)

    def _checked_figure(self, raw: dict[str, Any], key: str, dimension: str) -> Figure | None:
        try:
            value = parse_quantity(raw["value"], dimension)
            low = parse_quantity(raw.get("low", raw["value"]), dimension)
            high = parse_quantity(raw.get("high", raw["value"]), dimension)
            others = tuple(
                Alternative(
                    value=parse_quantity(entry["value"], dimension),
                    text=str(entry["value"]),
                    source=entry["source"],
                )
                for entry in raw.get("alternatives", ())
            )
        except (InputError, KeyError) as error:
            self.fault(key, str(error).replace("\n", "; "))
            return None
        if not low <= value <= high:
            self.fault(key, f"value {raw['value']} is outside low..high")
        for other in others:
            if other.source not in load_sources():
                self.fault(f"{key}.alternatives", f"{other.source!r} is not in sources.toml")
        return Figure(
            value=value,
            text=str(raw["value"]),
            dimension=dimension,
            source=raw["source"],
            grade=raw["grade"],
            low=low,
            high=high,
            note=raw.get("note", ""),
            alternatives=others,
        )


def _build(kind: str, cls: type, name: str) -> Any:
    reader = _Reader(f"{kind}/{name}.toml", [])
    result = reader.build(cls, {"name": name, **_merged(kind, name)}, "")
    if reader.faults:
        raise MachineDataError(reader.faults)
    return result


def _resolve(kind: str, word: str, name: str) -> str:
    files = _raw_files(kind)
    if name in files:
        return name
    by_alias = {alias: stem for stem, raw in files.items() for alias in raw.get("aliases", ())}
    if name in by_alias:
        return by_alias[name]
    raise UnknownNameError(word, name, [*files, *by_alias])


@cache
def load_chip(name: str) -> Chip:
    """A chip by file name or alias.

    Errors: `UnknownNameError`; `MachineDataError` with every fault of the file.
    """
    return _build("machines", Chip, _resolve("machines", "chip", name))  # type: ignore[no-any-return]


@cache
def load_system(name: str) -> System:
    """A system by file name or alias.

    Errors: as `load_chip`.
    """
    return _build("systems", System, _resolve("systems", "system", name))  # type: ignore[no-any-return]


def list_chips() -> list[str]:
    """Names of all chips."""
    return sorted(_raw_files("machines"))


def list_systems() -> list[str]:
    """Names of all systems."""
    return sorted(_raw_files("systems"))
