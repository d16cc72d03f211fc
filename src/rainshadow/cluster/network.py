"""Knows the links between chips as numbers, and which collective algorithm is fastest on them.

A group of ranks sees a part of the system: `place` says how far it reaches along each axis. Sizes
may be arrays (a table of layouts), so every formula works element by element.

Model: a message takes latency + bytes / bandwidth on each link it crosses; opposite directions do
not disturb each other; algorithms keep every link of an axis busy, and the phases of large
messages inside and outside a scale-up domain run at the same time (measured on B200 nodes: 382
GB/s over four nodes leaves no room for a phase inside). Left out: congestion by other jobs.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rainshadow.machine import System
from rainshadow.sources import Picker

#: A number, or an array with one per layout.
Real: TypeAlias = float | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AxisLinks:
    """One axis of the scale-up network, or the part of it that a group reaches.

    size: chips of the group along it.  bandwidth: bytes/s per direction and neighbour ("mesh":
    per pair of chips; "switch": per chip).  latency: s per hop.  full: the axis' own size, 0 for
    `size`; part of a ring is a line.  reduces: the switch sums in the network.
    """

    size: Any
    kind: str
    bandwidth_bytes_per_s: float
    latency_s: float
    full: int = 0
    reduces: bool = False

    @property
    def injection_bytes_per_s(self) -> Any:
        """What a chip can send along this axis to the group: all its links of the axis at once."""
        if self.kind == "mesh":
            return self.bandwidth_bytes_per_s * np.maximum(1, np.asarray(self.size) - 1)
        if self.kind != "ring":
            return self.bandwidth_bytes_per_s
        closed = (np.asarray(self.size) > 2) & (np.asarray(self.size) >= self.full)
        return self.bandwidth_bytes_per_s * (1 + closed)


@dataclass(frozen=True, slots=True)
class Links:
    """The network of a system or of a group. domains: scale-up domains that are joined.

    outer_*: the scale-out network, per chip and direction, end to end; 0 if there is one domain.
    message_s, ramp_s: a collective costs message_s more than its bytes, and runs slower while
    it is short: t = message_s + x + sqrt(ramp_s x), x its time at full rate.
    """

    axes: tuple[AxisLinks, ...]
    domains: Any
    outer_bandwidth_bytes_per_s: float
    outer_latency_s: float
    message_s: float = 0.0
    ramp_s: float = 0.0

    @property
    def chips_per_domain(self) -> Any:
        count = 1
        for axis in self.axes:
            count = count * axis.size
        return count

    @property
    def num_chips(self) -> Any:
        return self.chips_per_domain * self.domains

    @property
    def inside_bytes_per_s(self) -> Any:
        """What a chip can send to the group inside its domain, all axes at once."""
        return sum(
            np.where(np.asarray(axis.size) > 1, axis.injection_bytes_per_s, 0.0)
            for axis in self.axes
        )


def links_of(system: System, pick: Picker, *, achieved: bool = False) -> Links:
    """The links of a system in one scenario.

    achieved: at the rates that benchmarks measured, where the system has them, instead of the
    makers'.
    """

    def rate(owner: Any, what: str) -> float:
        full = pick.higher_is_better(owner.bandwidth, f"{what} bandwidth")
        if achieved and owner.achieved is not None:
            full *= pick.higher_is_better(owner.achieved, f"{what} achieved fraction")
        return full

    axes = tuple(
        AxisLinks(
            axis.size,
            axis.kind,
            rate(axis, f"{system.name} {axis.name} axis"),
            pick.lower_is_better(axis.latency, f"{system.name} {axis.name} axis latency"),
            axis.size,
            axis.reduces and achieved,
        )
        for axis in system.axes
    )
    if system.domains == 1 or system.network is None:
        return Links(axes, 1, 0.0, 0.0)
    network = system.network
    return Links(
        axes,
        system.domains,
        rate(network, f"{system.name} {network.name}"),
        pick.lower_is_better(network.latency, f"{system.name} {network.name} latency"),
    )


def place(links: Links, size: Any, stride: Any) -> Links:
    """The part of `links` that a group of `size` ranks, `stride` ranks apart, reaches.

    Ranks fill the axes in order, then the domains. A group that no axis divides evenly reaches
    the next domain as if it did.
    """
    left = np.asarray(size, dtype=np.float64)
    apart = np.asarray(stride, dtype=np.float64)
    inner = 1.0
    axes = []
    for axis in links.axes:
        outer = inner * axis.size
        room = np.maximum(1.0, np.floor(outer / np.maximum(apart, inner)))
        extent = np.minimum(left, room)
        left = left / extent
        axes.append(dataclasses.replace(axis, size=extent))
        inner = outer
    return dataclasses.replace(links, axes=tuple(axes), domains=np.ceil(left - 1e-9))


@cache
def algorithms() -> tuple[ModuleType, ...]:
    """Every collective algorithm: the modules of `cluster.collectives`."""
    package = importlib.import_module("rainshadow.cluster.collectives")
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(importlib.import_module(f"{package.__name__}.{name}") for name in names)


def all_reduce_s(size_bytes: float, links: Links) -> tuple[float, str]:
    """(seconds, algorithm) of the fastest all-reduce of `size_bytes` held by every chip."""
    if links.num_chips == 1:
        return 0.0, "none"
    times = [
        (float(algorithm.all_reduce_s(size_bytes, links)), algorithm.__name__.rsplit(".", 1)[-1])
        for algorithm in algorithms()
        if np.all(algorithm.accepts(links))
    ]
    return min(times)


def fastest_s(operation: str, size_bytes: Any, links: Links) -> NDArray[np.float64]:
    """Seconds of the fastest algorithm, element by element; 0 for groups of one rank.

    operation: "all_reduce", "gather" (all-gather or reduce-scatter of `size_bytes` in all) or
    "all_to_all" (`size_bytes` leave every rank).
    """
    ranks = np.asarray(links.num_chips, dtype=np.float64)
    best = np.full(np.broadcast(np.asarray(size_bytes), ranks).shape, np.inf)
    for algorithm in algorithms():
        function = getattr(algorithm, f"{operation}_s", None)
        if function is not None:
            mask = algorithm.accepts(links)
            if np.any(mask):
                best = np.minimum(best, np.where(mask, function(size_bytes, links), np.inf))
    best = np.where(ranks > 1, best, 0.0)
    return np.where(ranks > 1, best + links.message_s + np.sqrt(links.ramp_s * best), 0.0)


def lower_bound_s(size_bytes: float, links: Links) -> float:
    """No all-reduce is faster: a chip must send and receive 2 (n-1)/n of the data.

    Through all its links at once; across domains through its share of the outer network. A
    switch that sums halves it: every chip must still send its data once.
    """
    count = links.num_chips
    if count == 1:
        return 0.0
    inside = sum(axis.injection_bytes_per_s for axis in links.axes)
    outside = links.outer_bandwidth_bytes_per_s
    rounds = 1 if any(axis.reduces for axis in links.axes) else 2
    bound = rounds * (count - 1) / count * size_bytes / (inside + outside)
    if links.domains > 1:
        crossing = rounds * (links.domains - 1) / links.domains * size_bytes
        bound = max(bound, crossing / links.chips_per_domain / outside)
    return float(bound)
