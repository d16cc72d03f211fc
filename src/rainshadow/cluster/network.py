"""Knows the links between chips as numbers, and which collective algorithm is fastest on them.

Model: a message takes latency + bytes / bandwidth on each link it crosses; opposite directions
do not disturb each other; algorithms keep every link of an axis busy. Left out: protocol and
software overhead per call, congestion by other jobs.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from types import ModuleType

from rainshadow.machine import System
from rainshadow.sources import Picker


@dataclass(frozen=True, slots=True)
class AxisLinks:
    """One axis of the scale-up network: chips, bytes/s per direction and neighbour, s per hop."""

    size: int
    kind: str
    bandwidth_bytes_per_s: float
    latency_s: float

    @property
    def injection_bytes_per_s(self) -> float:
        """What a chip can send along this axis: both directions of a ring, one port of a switch."""
        return self.bandwidth_bytes_per_s * (2 if self.kind == "ring" and self.size > 2 else 1)


@dataclass(frozen=True, slots=True)
class Links:
    """The network of a system. domains: scale-up domains; outer: the network that joins them.

    outer_*: per chip and direction, end to end; 0 where there is only one domain.
    """

    axes: tuple[AxisLinks, ...]
    domains: int
    outer_bandwidth_bytes_per_s: float
    outer_latency_s: float

    @property
    def chips_per_domain(self) -> int:
        count = 1
        for axis in self.axes:
            count *= axis.size
        return count

    @property
    def num_chips(self) -> int:
        return self.chips_per_domain * self.domains


def links_of(system: System, pick: Picker) -> Links:
    """The links of a system in one scenario."""
    axes = tuple(
        AxisLinks(
            axis.size,
            axis.kind,
            pick.higher_is_better(axis.bandwidth, f"{system.name} {axis.name} axis bandwidth"),
            pick.lower_is_better(axis.latency, f"{system.name} {axis.name} axis latency"),
        )
        for axis in system.axes
    )
    if system.domains == 1 or system.network is None:
        return Links(axes, 1, 0.0, 0.0)
    network = system.network
    return Links(
        axes,
        system.domains,
        pick.higher_is_better(network.bandwidth, f"{system.name} {network.name} bandwidth"),
        pick.lower_is_better(network.latency, f"{system.name} {network.name} latency"),
    )


def algorithms() -> list[ModuleType]:
    """Every all-reduce algorithm: the modules of `cluster.collectives`."""
    package = importlib.import_module("rainshadow.cluster.collectives")
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


def all_reduce_s(size_bytes: float, links: Links) -> tuple[float, str]:
    """(seconds, algorithm) of the fastest all-reduce of `size_bytes` held by every chip."""
    if links.num_chips == 1:
        return 0.0, "none"
    times = [
        (algorithm.all_reduce_s(size_bytes, links), algorithm.__name__.rsplit(".", 1)[-1])
        for algorithm in algorithms()
        if algorithm.accepts(links)
    ]
    return min(times)


def lower_bound_s(size_bytes: float, links: Links) -> float:
    """No all-reduce is faster: a chip must send and receive 2 (n-1)/n of the data.

    Through all its links at once; across domains through its share of the outer network.
    """
    count = links.num_chips
    if count == 1:
        return 0.0
    inside = sum(axis.injection_bytes_per_s for axis in links.axes)
    outside = links.outer_bandwidth_bytes_per_s
    bound = 2 * (count - 1) / count * size_bytes / (inside + outside)
    if links.domains > 1:
        crossing = 2 * (links.domains - 1) / links.domains * size_bytes / links.chips_per_domain
        bound = max(bound, crossing / outside)
    return bound
