"""Knows what a system's description holds: chips, how they are linked, what they draw."""

from __future__ import annotations

from dataclasses import dataclass

from rainshadow.machine.chip import Chip, quantity
from rainshadow.sources import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis of the scale-up network.

    kind: "ring" (torus axis), "line" or "switch" (all to all).  bandwidth: per direction and
    neighbour ("switch": per chip into the switch).  latency: per hop.
    """

    name: str
    size: int
    kind: str
    bandwidth: Figure = quantity("B/s")
    latency: Figure = quantity("s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The scale-out network. bandwidth: per chip and direction. latency: end to end."""

    name: str
    bandwidth: Figure = quantity("B/s")
    latency: Figure = quantity("s")


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Chips wired together.

    axes: the scale-up domain (its sizes multiply to the chips of one domain); domains: how many
    of them the scale-out network joins.  host_power: per chip, beside the chip's own power.
    price_item: the row name in data/prices, and chips_per_priced_unit of them.
    """

    name: str
    title: str
    chip: Chip
    aliases: tuple[str, ...] = ()
    chips_per_instance: int
    domains: int
    axes: tuple[Axis, ...]
    network: Network | None = None
    host_power: Figure | None = quantity("W", optional=True)
    price_item: str | None = None

    @property
    def chips_per_domain(self) -> int:
        """Chips joined by the scale-up network."""
        count = 1
        for axis in self.axes:
            count *= axis.size
        return count

    @property
    def num_chips(self) -> int:
        """All chips of the system."""
        return self.chips_per_domain * self.domains
