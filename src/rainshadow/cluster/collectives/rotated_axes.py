"""A torus with all axes busy: the data are cut in parts, one per axis, and each part takes the axes
in another order (bidirectional rings on every axis).

Parts are as large as their first axis is fast, so that the first and largest phase ends on all
axes together. Left out: later phases may wait for each other on unequal axes, so the longest
part is taken with every axis shared fairly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.cluster.network import AxisLinks, Links


def accepts(links: Links) -> Any:
    """Groups inside one torus that reach along at least two axes."""
    if len(links.axes) < 2 or any(axis.kind != "ring" for axis in links.axes):
        return False
    reached = sum((np.asarray(axis.size) > 1).astype(int) for axis in links.axes)
    return (np.asarray(links.domains) == 1) & (reached > 1)


def gather_s(size_bytes: Any, links: Links) -> Any:
    """Every part along the axes in its own order."""
    axes = list(links.axes)
    total_rate = np.maximum(links.inside_bytes_per_s, 1.0)
    rounds: list[Any] = [0.0] * len(axes)
    latency: Any = 0.0
    for first, axis in enumerate(axes):
        share = np.where(np.asarray(axis.size) > 1, axis.injection_bytes_per_s, 0.0) / total_rate
        left = size_bytes * share
        for number in range(len(axes)):
            current = axes[(first + number) % len(axes)]
            rounds[number] = np.maximum(rounds[number], _moved_s(left, current))
            left = left / current.size
    for axis in axes:
        latency = latency + (np.asarray(axis.size) - 1) * axis.latency_s
    return sum(rounds) + latency


def all_reduce_s(size_bytes: Any, links: Links) -> Any:
    """Reduce-scatter in rotated orders, then all-gather in reverse: twice the first."""
    return 2 * gather_s(size_bytes, links)


def _moved_s(size_bytes: Any, axis: AxisLinks) -> Any:
    return size_bytes * (np.asarray(axis.size) - 1) / axis.size / axis.injection_bytes_per_s
