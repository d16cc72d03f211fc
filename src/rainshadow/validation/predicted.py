"""Knows what a formula says of a published run, in the form in which timed kernels answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Predicted:
    """value: seconds or a rate.  duration_s, bound_s: of the run and of its work at peak rates."""

    value: float
    duration_s: float = 0.0
    bound_s: float = 0.0
