"""Knows where the descriptions lie: data/machines, data/systems, data/sites and a user's own file.

How a table becomes a dataclass is left to `machine.read`. `extends` names a file of the same
folder whose entries this one overrides. A name that ends in .toml is a path to a user's file; it
may extend a file of ours or, by path, another of the user's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from rainshadow.errors import InputError, MachineDataError, UnknownNameError
from rainshadow.machine.chip import Chip
from rainshadow.machine.read import Reader
from rainshadow.machine.site import Site
from rainshadow.machine.system import System

#: Folder of data/ -> what one of its files describes.
KINDS: dict[str, type] = {"machines": Chip, "systems": System, "sites": Site}
_WORDS = {"machines": "chip", "systems": "system", "sites": "site"}


def _data() -> Traversable:
    return resources.files("rainshadow") / "data"


def _parse(text: bytes, name: str) -> dict[str, Any]:
    """A TOML file's table; `MachineDataError` if it is none."""
    try:
        return tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MachineDataError([f"{name}: not TOML: {error}"]) from None


@cache
def _shipped(kind: str) -> dict[str, dict[str, Any]]:
    """Every TOML file of a folder by stem, unchecked."""
    entries = sorted((_data() / kind).iterdir(), key=lambda item: item.name)
    return {
        entry.name.removesuffix(".toml"): _parse(entry.read_bytes(), f"{kind}/{entry.name}")
        for entry in entries
        if entry.name.endswith(".toml")
    }


@cache
def load_sources() -> Mapping[str, Mapping[str, str]]:
    """Every source of the data files: key -> title, url, read (date)."""
    return _parse((_data() / "sources.toml").read_bytes(), "sources.toml")


def _is_path(name: str) -> bool:
    return name.endswith(".toml")


def _raw(kind: str, name: str) -> dict[str, Any]:
    """One file's own entries."""
    if not _is_path(name):
        return _shipped(kind)[name]
    path = Path(name)
    if not path.is_file():
        raise InputError(f"no file {name!r}", fix=f"name a file, or one of {_names(kind)}")
    return _parse(path.read_bytes(), name)


def _merged(kind: str, name: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """A file's entries over those of the file it extends."""
    raw = dict(_raw(kind, name))
    parent = raw.pop("extends", None)
    if parent is None:
        return raw
    if not isinstance(parent, str):
        raise MachineDataError([f"{_label(kind, name)}: extends: {parent!r} is not a name"])
    if _is_path(parent):
        parent = str(Path(name).parent / parent)
    chain = (*seen, name)
    if parent in chain or not (_is_path(parent) or parent in _shipped(kind)):
        raise MachineDataError([f"{_label(kind, name)}: extends: no usable file {parent!r}"])
    base = _merged(kind, parent, chain)
    # Aliases and notes name the file that they stand in, not its children.
    return _overlay({key: base[key] for key in base.keys() - {"aliases", "note"}}, raw)


def _overlay(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """`top` over `base`, table by table; a figure or a list replaces the old one whole."""
    result = dict(base)
    for key, value in top.items():
        old = result.get(key)
        is_figure = isinstance(value, dict) and "value" in value
        if isinstance(value, dict) and isinstance(old, dict) and not is_figure:
            result[key] = _overlay(old, value)
        else:
            result[key] = value
    return result


def _label(kind: str, name: str) -> str:
    return name if _is_path(name) else f"{kind}/{name}.toml"


def _build(kind: str, name: str) -> Any:
    reader = Reader(_label(kind, name), load_sources(), {Chip: load_chip})
    stem = Path(name).stem if _is_path(name) else name
    result = reader.build(KINDS[kind], {"name": stem, **_merged(kind, name)})
    if reader.faults:
        raise MachineDataError(reader.faults)
    return result


def _names(kind: str) -> str:
    return ", ".join(_shipped(kind))


def _resolve(kind: str, name: str) -> str:
    """The file that `name`, a file's name, alias or path, stands for."""
    files = _shipped(kind)
    if _is_path(name):
        return name
    by_alias = {alias: stem for stem, raw in files.items() for alias in raw.get("aliases", ())}
    found = {stem: stem for stem in files} | by_alias
    for word in (name.lower(), name.lower().replace("-", "_")):
        if word in found:
            return found[word]
    raise UnknownNameError(_WORDS[kind], name, [*files, *by_alias])


@cache
def load_chip(name: str) -> Chip:
    """A chip by file name, alias or path.

    Errors: `UnknownNameError`; `MachineDataError` with every fault of the file.
    """
    return _build("machines", _resolve("machines", name))  # type: ignore[no-any-return]


def load_neuron_chip(name: str) -> Chip:
    """A chip with NeuronCores, which kernels can run on.

    Errors: as `load_chip`; `InputError` for a chip of another family.
    """
    chip = load_chip(name)
    if chip.core is None:
        cores = [known for known in list_chips() if load_chip(known).core is not None]
        raise InputError(
            f"{chip.name} has no NeuronCore to run NKI kernels on", allowed=", ".join(cores)
        )
    return chip


@cache
def load_system(name: str) -> System:
    """A system by file name, alias or path.

    Errors: as `load_chip`.
    """
    return _build("systems", _resolve("systems", name))  # type: ignore[no-any-return]


@cache
def load_site(name: str) -> Site:
    """A site by file name, alias or path.

    Errors: as `load_chip`.
    """
    return _build("sites", _resolve("sites", name))  # type: ignore[no-any-return]


def list_chips() -> list[str]:
    """Names of all chips."""
    return list(_shipped("machines"))


def list_systems() -> list[str]:
    """Names of all systems."""
    return list(_shipped("systems"))


def list_sites() -> list[str]:
    """Names of all sites."""
    return list(_shipped("sites"))


def data_faults() -> list[str]:
    """Every fault of every description that is shipped, each once; empty if all is well."""
    faults: dict[str, None] = {}
    for kind in KINDS:
        for name in _loadable(kind, faults):
            try:
                _build(kind, name)
            except MachineDataError as error:
                faults.update(dict.fromkeys(error.faults))
    return list(faults)


def _loadable(kind: str, faults: dict[str, None]) -> Iterable[str]:
    """Names of the files of a folder, or none if one of them is not TOML."""
    try:
        return list(_shipped(kind))
    except MachineDataError as error:
        faults.update(dict.fromkeys(error.faults))
        return []
