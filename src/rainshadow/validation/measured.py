"""Knows what a profiler would read off a timed kernel: totals, active times, counts, shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.isa.instruction import Signature
from rainshadow.machine import Chip, NeuronCore
from rainshadow.sim.timeline import Timeline

Rows = np.ndarray[Any, np.dtype[Any]]
_PS = 1e-12
#: Matmuls that contract two values a cell and cycle.
_FAST = ("double_row",)


@dataclass(frozen=True, slots=True)
class Measured:
    """A kernel timed on a chip. timelines: one a core."""

    chip: Chip
    timelines: tuple[Timeline, ...]

    @property
    def core(self) -> NeuronCore:
        assert self.chip.core is not None, "kernels run on chips with NeuronCores"
        return self.chip.core

    @property
    def slowest(self) -> Timeline:
        """The core that ends last."""
        return max(self.timelines, key=lambda timeline: timeline.duration_ps)

    @property
    def duration_s(self) -> float:
        """Of the slowest core, without starting the kernel."""
        return self.slowest.duration_ps * _PS

    @property
    def launch_s(self) -> float:
        """What starting and ending a kernel adds."""
        return self.slowest.launch_ps * _PS

    @property
    def benchmark_launch_s(self) -> float:
        """What of that nki.benchmark's latency holds."""
        launch = self.chip.launch
        stated = launch.benchmark if launch is not None else None
        return self.launch_s if stated is None else stated.value

    def rows(self, wanted: Callable[[Any], bool]) -> Rows:
        """bool[n] of the slowest core: the rows whose signature is wanted."""
        trace = self.slowest.trace
        chosen = np.array([wanted(signature) for signature in trace.signatures], dtype=bool)
        return chosen[trace.signature]

    @property
    def done_ps(self) -> Rows:
        """When each row's work ends: of a DMA the last byte, of others the result."""
        timeline = self.slowest
        is_dma = np.array([track.startswith("dma") for track in timeline.tracks])
        completion = round(self.core.dma.completion_latency.value / _PS)
        return np.asarray(timeline.end_ps - completion * is_dma[timeline.track])

    def active_s(self, rows: Rows) -> float:
        """Time in which at least one of the rows is under way, as the profiler draws it.

        That is until the result is there: an instruction's latency counts.
        """
        start, end = self.slowest.start_ps[rows], self.done_ps[rows]
        order = np.argsort(start, kind="stable")
        start, end = start[order], end[order]
        if not len(start):
            return 0.0
        reach = np.maximum.accumulate(end)
        before = np.concatenate([[start[0]], reach[:-1]])
        return float(np.maximum(reach - np.maximum(before, start), 0).sum()) * _PS

    def span_s(self, rows: Rows) -> float:
        """From the first start of the rows to the last end of their work."""
        start = self.slowest.start_ps[rows]
        if not len(start):
            return 0.0
        return float(self.done_ps[rows].max() - start.min()) * _PS

    @property
    def hbm_bytes(self) -> int:
        """Read from and written to HBM by the slowest core."""
        trace = self.slowest.trace
        return trace.moved_bytes("hbm", written=False) + trace.moved_bytes("hbm", written=True)

    @property
    def bound_s(self) -> float:
        """What no core can beat: its matmuls at peak, its bytes at its share of the HBM."""
        share = self.chip.hbm.bandwidth.value / self.core.count.value
        pairs = int(self.core.tensor.fp8_rate.value)

        def multiplied(signature: Signature) -> int:
            """Operations in units of the bf16 rate."""
            return signature.flops // (pairs if signature.params.get("perf_mode") in _FAST else 1)

        bounds = [0.0]
        for timeline in self.timelines:
            trace = timeline.trace
            moved = sum(trace.moved_bytes("hbm", written=way) for way in (True, False))
            bounds += [trace.total(multiplied) / self.peak_flops, moved / share]
        return max(bounds)

    @property
    def peak_flops(self) -> float:
        """Of the tensor engine in bf16."""
        tensor = self.core.tensor
        return 2 * tensor.rows.value * tensor.columns.value * tensor.clock.value
