"""Why a plan takes the time it takes: which figures decide, and by how much.

Each figure is made a tenth better, alone, and the plan predicted again; and set to each end of its
own range. What moves the step is what the answer rests on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rainshadow.cluster.layout import Layout, Workload
from rainshadow.cluster.model import TransformerModel
from rainshadow.cluster.predict import TrainingMachine, step_times, training_links
from rainshadow.cluster.rates import rates_of
from rainshadow.cluster.software import Software, newest_software
from rainshadow.machine import System
from rainshadow.sources import Figure, Ledger, LedgerRow, Picker

_BETTER = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Influence:
    """One figure's hold on a number. gain: fraction by which the number falls if the figure were a
    tenth better.  low, high: the number over the figure's own range.
    """

    row: LedgerRow
    gain: float
    low: float
    high: float


class _OneChanged(Picker):
    """Central values, but one figure is another."""

    def __init__(self, ledger: Ledger, what: str, change: Callable[[Figure, bool], float]) -> None:
        super().__init__(ledger)
        object.__setattr__(self, "_what", what)
        object.__setattr__(self, "_change", change)

    def higher_is_better(self, figure: Figure, what: str) -> float:
        value = super().higher_is_better(figure, what)
        return self._change(figure, True) if what == self._what else value

    def lower_is_better(self, figure: Figure, what: str) -> float:
        value = super().lower_is_better(figure, what)
        return self._change(figure, False) if what == self._what else value


def influences(compute: Callable[[Picker], float]) -> list[Influence]:
    """Every figure that `compute` reads through its picker, the most influential first."""
    ledger = Ledger()
    base = compute(Picker(ledger))
    found = []
    for row in ledger.rows():

        def changed(change: Callable[[Figure, bool], float], what: str = row.what) -> float:
            return compute(_OneChanged(Ledger(), what, change))

        better = changed(lambda f, up: f.value * (1 + _BETTER) if up else f.value / (1 + _BETTER))
        ends = (base, base)
        if row.figure.low < row.figure.high:
            ends = (changed(lambda f, _: f.low), changed(lambda f, _: f.high))
        found.append(Influence(row=row, gain=1 - better / base, low=min(ends), high=max(ends)))
    return sorted(found, key=lambda entry: (-abs(entry.gain), -(entry.high - entry.low)))


def step_influences(
    model: TransformerModel, system: System, layout: Layout, workload: Workload,
    software: Software | None = None,
) -> list[Influence]:  # fmt: skip
    """Which figures decide a training step."""
    stack = software or newest_software(system.chip.family)

    def seconds(pick: Picker) -> float:
        machine = TrainingMachine(
            system=system,
            software=stack,
            links=training_links(system, stack, pick),
            rates=rates_of(system.chip, stack, pick),
        )
        return float(step_times(model, machine, layout, workload)[0].total)

    return influences(seconds)
