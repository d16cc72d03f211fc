"""All-reduce on a torus with all axes busy: the data are cut in parts, one per axis, and each part
takes the axes in another order.

Parts are as large as their first axis is fast, so that the first and largest phase ends on all
axes together. Left out: later phases may wait for each other on unequal axes, so the longest
part is taken with every axis shared fairly.
"""

from __future__ import annotations

from rainshadow.cluster.network import AxisLinks, Links


def accepts(links: Links) -> bool:
    """One torus of at least two axes."""
    rings = all(axis.kind == "ring" for axis in links.axes)
    return links.domains == 1 and len(links.axes) > 1 and rings


def all_reduce_s(size_bytes: float, links: Links) -> float:
    """Reduce-scatter in rotated orders, then all-gather in reverse: twice the first."""
    axes = list(links.axes)
    total_rate = sum(axis.injection_bytes_per_s for axis in axes)
    rounds = [0.0] * len(axes)
    latency = 0.0
    for first, axis in enumerate(axes):
        left = size_bytes * axis.injection_bytes_per_s / total_rate
        for number in range(len(axes)):
            current = axes[(first + number) % len(axes)]
            rounds[number] = max(rounds[number], _moved_s(left, current))
            left /= current.size
    for axis in axes:
        latency += (axis.size - 1) * axis.latency_s
    return 2 * (sum(rounds) + latency)


def _moved_s(size_bytes: float, axis: AxisLinks) -> float:
    return size_bytes * (axis.size - 1) / axis.size / axis.injection_bytes_per_s
