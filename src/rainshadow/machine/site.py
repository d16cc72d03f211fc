"""Knows what a site's description holds: power overhead, water, carbon, price of electricity.

Load, heat and water over time are left to the `facility` layer.
"""

from __future__ import annotations

from dataclasses import dataclass

from rainshadow.machine.chip import quantity
from rainshadow.sources import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A data center and its grid.

    pue: facility energy over IT energy.  wue: water per IT energy, l/kWh.  carbon_intensity: of
    the grid, location-based, g CO2e/kWh.  sources: of what the note says.
    """

    name: str
    title: str
    aliases: tuple[str, ...] = ()
    pue: Figure = quantity("count")
    wue: Figure = quantity("l/kWh")
    carbon_intensity: Figure = quantity("g/kWh")
    electricity_price: Figure = quantity("USD/kWh")
    sources: tuple[str, ...] = ()
    note: str = ""
