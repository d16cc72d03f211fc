"""Knows how a table of a data file becomes a dataclass of figures; collects every fault.

Finding files, inheritance and caching are left to `machine.load`. A leaf is `{ value, source,
grade, note, low, high, alternatives }`; the dataclass field tells its dimension.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

from rainshadow.dtypes import is_dtype
from rainshadow.errors import InputError
from rainshadow.sources import GRADES, Alternative, Figure
from rainshadow.units import parse_quantity

_FIGURE_KEYS = {"value", "source", "grade", "note", "low", "high", "alternatives"}
_REQUIRED_FIGURE_KEYS = ("value", "source", "grade")
#: A zero here would divide by zero, or mean that the part does not exist.
_POSITIVE = {"Hz", "B/s", "FLOPS", "B"}


@dataclasses.dataclass(slots=True)
class Reader:
    """Reads one file.

    file: its name in messages.  sources: the keys that figures may name.  faults: one sentence
    per fault, with file and key.  references: dataclass -> how to load one by name, for fields
    that hold another description.
    """

    file: str
    sources: Collection[str]
    references: Mapping[type, Callable[[str], Any]]
    faults: list[str] = dataclasses.field(default_factory=list)

    def fault(self, key: str, message: str) -> None:
        """Notes a fault, once."""
        text = f"{self.file}: {key}: {message}"
        if text not in self.faults:
            self.faults.append(text)

    def build(self, cls: type, raw: Any, key: str = "") -> Any:
        """A `cls` from a table, or None once there are faults."""
        if not isinstance(raw, dict):
            self.fault(key, f"expected a table, got {raw!r}")
            return None
        fields = {field.name: field for field in dataclasses.fields(cls)}
        hints = typing.get_type_hints(cls)
        for name in sorted(raw.keys() - fields.keys()):
            self.fault(_join(key, name), f"unknown key; known: {', '.join(fields)}")
        values: dict[str, Any] = {}
        for name, field in fields.items():
            path = _join(key, name)
            if name in raw:
                values[name] = self._read(hints[name], raw[name], path, field.metadata)
            elif field.default is dataclasses.MISSING:
                self.fault(path, "missing")
        return None if self.faults else cls(**values)

    def _read(self, hint: Any, raw: Any, key: str, metadata: Mapping[str, Any]) -> Any:
        if isinstance(hint, types.UnionType):
            hint = next(arg for arg in typing.get_args(hint) if arg is not types.NoneType)
        origin = typing.get_origin(hint)
        if hint is Figure:
            return self._figure(raw, key, metadata["dimension"])
        if origin is dict:
            return self._by_dtype(raw, key, metadata["dimension"])
        if origin is tuple:
            return self._items(typing.get_args(hint)[0], raw, key, metadata)
        if origin is typing.Literal:
            if raw not in typing.get_args(hint):
                self.fault(key, f"{raw!r} is not one of {', '.join(typing.get_args(hint))}")
            return raw
        if hint in self.references and isinstance(raw, str):
            return self._reference(self.references[hint], raw, key)
        if dataclasses.is_dataclass(hint):
            return self.build(typing.cast(type, hint), raw, key)
        if not isinstance(raw, hint) or (isinstance(raw, bool) and hint is not bool):
            self.fault(key, f"expected {hint.__name__}, got {raw!r}")
        elif isinstance(raw, int) and raw < 1 and hint is not bool:
            self.fault(key, f"expected 1 or more, got {raw}")
        elif key.rpartition(".")[2].startswith("sources["):
            self._known_source(raw, key)
        return raw

    def _items(self, item: Any, raw: Any, key: str, metadata: Mapping[str, Any]) -> Any:
        if not isinstance(raw, list):
            self.fault(key, f"expected a list, got {raw!r}")
            return ()
        return tuple(
            self._read(item, entry, f"{key}[{index}]", metadata) for index, entry in enumerate(raw)
        )

    def _by_dtype(self, raw: Any, key: str, dimension: str) -> dict[str, Figure | None]:
        if not isinstance(raw, dict) or not raw:
            self.fault(key, f"expected a table of dtypes, got {raw!r}")
            return {}
        for name in raw:
            if not is_dtype(name):
                self.fault(_join(key, name), "not an NKI dtype")
        return {name: self._figure(leaf, _join(key, name), dimension) for name, leaf in raw.items()}

    def _reference(self, load: Callable[[str], Any], name: str, key: str) -> Any:
        try:
            return load(name)
        except InputError as error:
            self.fault(key, str(error).replace("\n", "; "))
            return None

    def _known_source(self, source: Any, key: str) -> None:
        if not isinstance(source, str) or source not in self.sources:
            self.fault(key, f"{source!r} is not in sources.toml")

    def _figure(self, raw: Any, key: str, dimension: str) -> Figure | None:
        if not isinstance(raw, dict):
            self.fault(key, f"expected {{ value, source, grade }}, got {raw!r}")
            return None
        for name in sorted(raw.keys() - _FIGURE_KEYS):
            self.fault(_join(key, name), "unknown key")
        missing = [name for name in _REQUIRED_FIGURE_KEYS if name not in raw]
        for name in missing:
            self.fault(_join(key, name), "missing")
        if missing:
            return None
        if raw["grade"] not in GRADES:
            self.fault(_join(key, "grade"), f"{raw['grade']!r} is not one of {', '.join(GRADES)}")
        self._known_source(raw["source"], _join(key, "source"))
        if raw["grade"] == "assumed" and not ("low" in raw and "high" in raw):
            self.fault(key, "an assumed figure needs low and high")
        return self._figure_in_si(raw, key, dimension)

    def _figure_in_si(self, raw: dict[str, Any], key: str, dimension: str) -> Figure | None:
        def quantity(text: Any) -> float:
            try:
                return parse_quantity(text, dimension)
            except InputError as error:
                self.fault(key, str(error).replace("\n", "; "))
                return float("nan")

        value = quantity(raw["value"])
        low, high = quantity(raw.get("low", raw["value"])), quantity(raw.get("high", raw["value"]))
        if low > value or high < value:
            self.fault(key, f"value {raw['value']} is outside low..high")
        if low < 0 or (low == 0 and dimension in _POSITIVE):
            self.fault(key, f"{raw['value']} is not above zero")
        return Figure(
            value=value,
            text=str(raw["value"]),
            dimension=dimension,
            source=raw["source"],
            grade=raw["grade"],
            low=low,
            high=high,
            note=raw.get("note", ""),
            alternatives=tuple(self._alternatives(raw, value, key, quantity)),
        )

    def _alternatives(
        self, raw: dict[str, Any], value: float, key: str, quantity: Callable[[Any], float]
    ) -> list[Alternative]:
        found = []
        entries = raw.get("alternatives", [])
        if not isinstance(entries, list):
            self.fault(_join(key, "alternatives"), f"expected a list, got {entries!r}")
            return []
        for entry in entries:
            if not isinstance(entry, dict) or entry.keys() != {"value", "source"}:
                self.fault(_join(key, "alternatives"), f"expected {{ value, source }}: {entry!r}")
                continue
            self._known_source(entry["source"], _join(key, "alternatives"))
            text = str(entry["value"])
            other = Alternative(value=quantity(text), text=text, source=entry["source"])
            if other.value == value:
                self.fault(_join(key, "alternatives"), f"{text} agrees; name it in the note")
            found.append(other)
        return found


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
