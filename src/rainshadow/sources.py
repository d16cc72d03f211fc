"""Knows what a figure is: a value with its source, grade and range; and which figures were used.

Reading figures is left to `machine.read`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Grade = Literal["measured", "stated", "derived", "assumed"]
GRADES: tuple[Grade, ...] = ("measured", "stated", "derived", "assumed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """What another source says of the same figure."""

    value: float
    text: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of the data files.

    value: in SI.  text: as the source writes it.  dimension: "B/s", "Hz", "count"...
    source: key in data/sources.toml.  grade: measured, stated (by the maker), derived (a formula
    over named figures) or assumed.  low, high: the range, in SI; equal to value where none.
    """

    value: float
    text: str
    dimension: str
    source: str
    grade: Grade
    low: float
    high: float
    note: str = ""
    alternatives: Sequence[Alternative] = ()


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One figure that an answer used, and for what."""

    what: str
    figure: Figure


@dataclass(slots=True)
class Ledger:
    """The figures an answer used, in order of first use."""

    _rows: dict[tuple[str, float, str], LedgerRow] = field(default_factory=dict)

    def use(self, figure: Figure, what: str) -> float:
        """The figure's value; what: e.g. "trainium2 HBM bandwidth"."""
        key = (what, figure.value, figure.source)
        self._rows.setdefault(key, LedgerRow(what, figure))
        return figure.value

    def merge(self, other: Ledger) -> None:
        """Adds the figures of another answer."""
        for key, row in other._rows.items():
            self._rows.setdefault(key, row)

    def rows(self) -> tuple[LedgerRow, ...]:
        """All uses so far."""
        return tuple(self._rows.values())

    @property
    def grade(self) -> Grade:
        """The weakest grade among the figures used; "measured" if none were."""
        ranks = [GRADES.index(row.figure.grade) for row in self._rows.values()]
        return GRADES[max(ranks, default=0)]


Scenario = Literal["central", "best", "worst"]
SCENARIOS: tuple[Scenario, ...] = ("central", "best", "worst")


@dataclass(frozen=True, slots=True)
class Picker:
    """Reads figures for one scenario: at their value, or at the end of their range.

    Every read is entered in `ledger`, so that an answer knows what it rests on.
    """

    ledger: Ledger
    scenario: Scenario = "central"

    def higher_is_better(self, figure: Figure, what: str) -> float:
        """A bandwidth, a rate: the best case takes the high end."""
        value = self.ledger.use(figure, what)
        return {"central": value, "best": figure.high, "worst": figure.low}[self.scenario]

    def lower_is_better(self, figure: Figure, what: str) -> float:
        """A latency, a power, a price: the best case takes the low end."""
        value = self.ledger.use(figure, what)
        return {"central": value, "best": figure.low, "worst": figure.high}[self.scenario]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number an answer gives: central value, range, and the grade of its weakest figure."""

    value: float
    low: float
    high: float
    grade: Grade

    @staticmethod
    def over(scenarios: Sequence[float], grade: Grade) -> Estimate:
        """From the central value and the values of the other scenarios."""
        return Estimate(value=scenarios[0], low=min(scenarios), high=max(scenarios), grade=grade)
