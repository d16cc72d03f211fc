"""Lays one training step out on systems and prices it: tokens/s, USD and kWh per million tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rainshadow.cluster.step import ClusterStep, StepProfile, step_on
from rainshadow.cost.price import ChipPrice, chip_price
from rainshadow.errors import NotModelled
from rainshadow.facility.power import kwh, power_of
from rainshadow.machine import Chip, Site, System
from rainshadow.sources import SCENARIOS, Estimate, Ledger, Picker

_S_PER_HOUR = 3600.0
_MILLION = 1e6

#: What a port is laid out on, by the generation it was simulated on.
DEFAULT_SYSTEMS = {
    "trainium1": ("trn1_32xlarge", "p5_48xlarge", "p5en_48xlarge"),
    "trainium2": (
        "trn2_chip",
        "trn2_48xlarge",
        "trn2_ultraserver",
        "rainier",
        "p5_48xlarge",
        "p5en_48xlarge",
    ),
    "trainium3": ("trn3_gen1_ultraserver", "p5_48xlarge", "p5en_48xlarge"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutRow:
    """One system. price: None where none is known; then why says what to type."""

    step: ClusterStep
    price: ChipPrice | None
    usd_per_million_tokens: Estimate | None
    kwh_per_million_tokens: Estimate | None
    why: tuple[str, ...]
    ledger: Ledger

    @property
    def system(self) -> System:
        return self.step.system


def lay_out(
    profile: StepProfile,
    systems: Sequence[System],
    *,
    seen_on: Chip,
    site: Site,
    prices: Mapping[str, float],
) -> list[LayoutRow]:
    """One row per system, in the order given. prices: see `cost.price.parse_prices`.

    Errors: as `cluster.step.step_on`. A missing price or power leaves that column empty.
    """
    return [_row(profile, system, seen_on, site, prices) for system in systems]


def _row(
    profile: StepProfile, system: System, seen_on: Chip, site: Site, prices: Mapping[str, float]
) -> LayoutRow:
    step = step_on(profile, system, seen_on)
    ledger = Ledger()
    ledger.merge(step.ledger)
    why: list[str] = []
    price, usd = None, None
    try:
        price = chip_price(system, prices)
        usd = _usd(step, price)
    except NotModelled as error:
        why.append(f"{error.what}: {error.fix}")
    energy = None
    try:
        energy = _kwh(step, site, ledger)
    except NotModelled as error:
        why.append(f"{error.what}: {error.fix}")
    return LayoutRow(
        step=step,
        price=price,
        usd_per_million_tokens=usd,
        kwh_per_million_tokens=energy,
        why=tuple(why),
        ledger=ledger,
    )


def _usd(step: ClusterStep, price: ChipPrice) -> Estimate:
    """Chip-hours times price, over the range of both."""
    rates = (step.tokens_per_s.value, step.tokens_per_s.high, step.tokens_per_s.low)
    costs = (price.usd_per_hour, price.low, price.high)
    chips = step.system.num_chips
    per_million = [
        _MILLION / rate / _S_PER_HOUR * cost * chips
        for rate, cost in zip(rates, costs, strict=True)
    ]
    return Estimate.over(per_million, step.tokens_per_s.grade)


def _kwh(step: ClusterStep, site: Site, ledger: Ledger) -> Estimate:
    """Facility energy of a million tokens."""
    rates = (step.tokens_per_s.value, step.tokens_per_s.high, step.tokens_per_s.low)
    energies = []
    for scenario, rate in zip(SCENARIOS, rates, strict=True):
        power = power_of(step.system, site, Picker(ledger, scenario))
        energies.append(kwh(power.facility_power_w, _MILLION / rate))
    return Estimate.over(energies, ledger.grade)
