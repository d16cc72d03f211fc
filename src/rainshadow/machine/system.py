"""Knows what a system's description holds: chips, how they are linked, what they draw.

Moving data over the links is left to the `cluster` layer, prices to `cost`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from rainshadow.machine.chip import Chip, quantity
from rainshadow.sources import Figure

AxisKind = Literal["ring", "line", "switch", "mesh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis of the scale-up network.

    kind: "ring" (torus axis), "line", "mesh" (a link to every other chip) or "switch".
    bandwidth: per direction and neighbour ("switch": per chip into the switch; "mesh": per pair).
    latency: per hop.  achieved: the fraction of the bandwidth that measured collectives reach.
    reduces: the switch can sum in the network.
    """

    name: str
    size: int
    kind: AxisKind
    bandwidth: Figure = quantity("B/s")
    latency: Figure = quantity("s")
    achieved: Figure | None = quantity("count", optional=True)
    reduces: bool = False

    @property
    def wraparound(self) -> bool:
        """Whether the last chip is a neighbour of the first."""
        return self.kind == "ring"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The scale-out network. bandwidth: per chip and direction. latency: end to end.

    achieved: the fraction of the bandwidth that measured collectives reach.
    """

    name: str
    bandwidth: Figure = quantity("B/s")
    latency: Figure = quantity("s")
    achieved: Figure | None = quantity("count", optional=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Chips wired together.

    axes: the scale-up domain (its sizes multiply to the chips of one domain); domains: how many
    of them the scale-out network joins.  chips_per_instance: chips of the instance that is
    rented.  host_power: per chip, beside the chip's own power.  price_item: the item in
    data/prices, whose rows say how many chips one price buys.  sources: where the counts come
    from, keys of data/sources.toml.
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
    sources: tuple[str, ...] = ()
    note: str = ""

    @property
    def chips_per_domain(self) -> int:
        """Chips joined by the scale-up network."""
        return math.prod(axis.size for axis in self.axes)

    @property
    def num_chips(self) -> int:
        """All chips of the system."""
        return self.chips_per_domain * self.domains

    @property
    def instances(self) -> float:
        """Rented instances, num_chips / chips_per_instance: 1/16 for one chip of sixteen."""
        return self.num_chips / self.chips_per_instance
