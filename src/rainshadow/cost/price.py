"""Knows what an hour of a chip costs: rows of data/prices, or what the user says.

A price of the user is `NAME=USD/h`: for a chip (`trn2=1.9`) per chip-hour, for an instance
(`trn2.48xlarge=30`) per instance-hour. Without one the on-demand price is taken, then the
capacity block, then the spot price, and the kind is always named.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from rainshadow.errors import InputError, NotModelled, UnknownNameError
from rainshadow.machine import System, list_chips, load_chip
from rainshadow.sources import Grade

#: Kinds of price, the most binding first.
KINDS = ("on_demand", "capacity_block", "spot")


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRow:
    """One row of data/prices: `value` USD/h buys `num_chips` chips in `region`."""

    item: str
    chip: str
    num_chips: int
    kind: str
    value: float
    region: str
    date: str
    source: str
    grade: Grade
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipPrice:
    """USD per chip-hour with its range over regions. kind: on_demand, ..., or "yours"."""

    usd_per_hour: float
    low: float
    high: float
    kind: str
    grade: Grade
    source: str
    date: str


@cache
def price_rows() -> Sequence[PriceRow]:
    """Every row of data/prices/*.csv."""
    folder = resources.files("rainshadow") / "data" / "prices"
    rows = []
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".csv"):
            rows += [_row(raw) for raw in csv.DictReader(entry.read_text("utf-8").splitlines())]
    return tuple(rows)


def _row(raw: Mapping[str, str]) -> PriceRow:
    return PriceRow(
        item=raw["item"],
        chip=raw["chip"],
        num_chips=int(raw["num_chips"]),
        kind=raw["attribute"],
        value=float(raw["value"]),
        region=raw["region"],
        date=raw["date"],
        source=raw["source"],
        grade=raw["grade"],  # type: ignore[arg-type]
        note=raw["note"],
    )


def parse_prices(words: Sequence[str]) -> dict[str, float]:
    """["trn2=1.9", "p5.48xlarge=50"] -> USD per chip-hour by chip name or by item name.

    Errors: `InputError` for a malformed word; `UnknownNameError` for an unknown chip or item.
    """
    items = {row.item: row.num_chips for row in price_rows()}
    prices: dict[str, float] = {}
    for word in words:
        name, _, text = word.partition("=")
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value < math.inf:
            raise InputError(
                f"--price {word}",
                allowed="NAME=USD/h: a chip (per chip-hour) or an instance (per instance-hour)",
                fix="for example --price trn2=1.90 or --price trn2.48xlarge=30.40",
            )
        if name in items:
            prices[name] = value / items[name]
            continue
        try:
            prices[load_chip(name).name] = value
        except UnknownNameError:
            raise UnknownNameError("chip or instance", name, [*items, *list_chips()]) from None
    return prices


def chip_price(system: System, given: Mapping[str, float], region: str | None = None) -> ChipPrice:
    """Price of one chip-hour of a system. given: from `parse_prices`. region: only rows there.

    Errors: `NotModelled` naming the option to type where no price is known.
    """
    own = given.get(system.price_item or "", given.get(system.chip.name))
    if own is not None:
        return ChipPrice(
            usd_per_hour=own, low=own, high=own, kind="yours", grade="stated", source="--price",
            date="",
        )  # fmt: skip
    every = [row for row in price_rows() if row.item == system.price_item]
    rows = [row for row in every if region is None or row.region.lower() == region.lower()]
    for kind in KINDS:
        chosen = [row for row in rows if row.kind == kind]
        if chosen:
            per_chip = [row.value / row.num_chips for row in chosen]
            first = chosen[0]
            return ChipPrice(
                usd_per_hour=per_chip[0], low=min(per_chip), high=max(per_chip), kind=kind,
                grade=first.grade, source=first.source, date=first.date,
            )  # fmt: skip
    elsewhere = ", ".join(sorted({row.region for row in every}))
    raise NotModelled(
        f"price of {system.title}" + (f" in {region}" if region else ""),
        allowed=f"prices are known in {elsewhere}" if region and elsewhere else None,
        fix=f"type --price {system.chip.aliases[0] if system.chip.aliases else system.chip.name}"
        "=USD/h (per chip-hour), or add a row to data/prices/instances.csv "
        f"(item {system.price_item or system.name}, attribute on_demand)",
    )
