"""Knows the power of a system at a site: chips and hosts at their rated power, times PUE.

PUE is facility power over IT power (The Green Grid). Left out: power below the rating at low use.
"""

from __future__ import annotations

from dataclasses import dataclass

from rainshadow.errors import NotModelled
from rainshadow.machine import Site, System
from rainshadow.sources import Picker

_J_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class Power:
    """it_power_w: chips and hosts.  facility_power_w: with cooling and losses."""

    it_power_w: float
    facility_power_w: float


def power_of(system: System, site: Site, pick: Picker) -> Power:
    """Power of the whole system.

    Errors: `NotModelled` where the chip's or the host's power is unknown.
    """
    chip = system.chip
    if chip.tdp is None or system.host_power is None:
        missing = (
            f"data/machines/{chip.name}.toml: tdp"
            if chip.tdp is None
            else (f"data/systems/{system.name}.toml: host_power")
        )
        raise NotModelled(f"power of {system.title}", fix=f"add {missing} with its source")
    per_chip = pick.lower_is_better(chip.tdp, f"{chip.name} power")
    per_chip += pick.lower_is_better(system.host_power, f"{system.name} host power per chip")
    pue = pick.lower_is_better(site.pue, f"{site.name} PUE")
    it_power = per_chip * system.num_chips
    return Power(it_power, it_power * pue)


def kwh(power_w: float, seconds: float) -> float:
    """Energy of `power_w` over `seconds` in kWh."""
    return power_w * seconds / _J_PER_KWH
