"""The loops of `nki.language`: all run as plain Python loops, because a trace unrolls them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def _range(start: Any, stop: Any, step: Any) -> Iterator[int]:
    if stop is None:
        start, stop = 0, start
    return iter(range(int(start), int(stop), int(step)))


def affine_range(start: Any, stop: Any = None, step: Any = 1) -> Iterator[int]:
    """A loop whose iterations are independent of each other."""
    return _range(start, stop, step)


def sequential_range(start: Any, stop: Any = None, step: Any = 1) -> Iterator[int]:
    """A loop whose iterations depend on each other."""
    return _range(start, stop, step)


def static_range(start: Any, stop: Any = None, step: Any = 1) -> Iterator[int]:
    """A loop that the compiler unrolls."""
    return _range(start, stop, step)


def dynamic_range(start: Any, stop: Any = None, step: Any = 1) -> Iterator[int]:
    """A loop that the device's sequencer runs."""
    return _range(start, stop, step)
