"""Knows how often chips stop a job, and how long it takes to go on: data/reliability.

Nothing is published for Trainium; Meta's Llama 3 run stands in for every chip, and says so.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from rainshadow.errors import InputError, MachineDataError, UnknownNameError
from rainshadow.machine import load_sources
from rainshadow.machine.chip import quantity
from rainshadow.machine.read import Reader
from rainshadow.sources import Figure

_DEFAULT = "llama3_h100"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """How a fleet fails.

    chip_hours_per_stop: chip-seconds between stops of a job.  hardware_share: of the stops that
    take a part out of service, for `repair`.  whole_restart: from the stop until every process has
    loaded a checkpoint from storage.  partial_restart: until a spare has taken the place.
    elastic_pause: until the other replicas go on without the one that failed.
    checkpoint_pause: beside the copy to the host.  storage_bandwidth: of all storage;
    storage_bandwidth_per_chip: what a chip's share of it can write.
    """

    name: str
    title: str
    sources: tuple[str, ...] = ()
    chip_hours_per_stop: Figure = quantity("s")
    hardware_share: Figure = quantity("count")
    whole_restart: Figure = quantity("s")
    partial_restart: Figure = quantity("s")
    elastic_pause: Figure = quantity("s")
    repair: Figure = quantity("s")
    checkpoint_pause: Figure = quantity("s")
    storage_bandwidth_per_chip: Figure = quantity("B/s")
    storage_bandwidth: Figure = quantity("B/s")


def list_reliability() -> list[str]:
    """Names of the shipped descriptions."""
    folder = resources.files("rainshadow") / "data" / "reliability"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir())


@cache
def load_reliability(name: str = _DEFAULT) -> Reliability:
    """A description by name, or the path of a TOML.

    Errors: `UnknownNameError`; `MachineDataError` with every fault of the file.
    """
    if name.endswith(".toml"):
        try:
            text = Path(name).read_text("utf-8")
        except OSError as error:
            raise InputError(f"cannot read {name!r}: {error.strerror}") from None
    elif name in list_reliability():
        folder = resources.files("rainshadow") / "data" / "reliability"
        text = (folder / f"{name}.toml").read_text("utf-8")
    else:
        raise UnknownNameError("reliability", name, list_reliability())
    reader = Reader(f"reliability/{Path(name).name}", load_sources(), {})
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MachineDataError([f"{name}: not TOML: {error}"]) from None
    found = reader.build(Reliability, {"name": Path(name).stem, **raw})
    if reader.faults:
        raise MachineDataError(reader.faults)
    assert isinstance(found, Reliability)
    return found
