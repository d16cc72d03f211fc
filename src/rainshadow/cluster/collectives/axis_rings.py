"""All-reduce axis after axis: reduce-scatter along every axis, then all-gather back.

Each axis is a ring used in both directions (half the data each way), or a switch. Data shrink by
the axis' size before the next axis, so the fastest axis goes first.
Model: Thakur, Rabenseifner, Gropp 2005, "Optimization of Collective Communication Operations in
MPICH", ring reduce-scatter and all-gather: (n-1)/n of the data and n-1 steps each.
"""

from __future__ import annotations

from rainshadow.cluster.network import AxisLinks, Links


def accepts(links: Links) -> bool:
    """One scale-up domain."""
    return links.domains == 1 and bool(links.axes)


def phase_s(size_bytes: float, axis: AxisLinks) -> float:
    """Reduce-scatter or all-gather of `size_bytes` along one axis."""
    if axis.size == 1:
        return 0.0
    steps = axis.size - 1
    moved = size_bytes * steps / axis.size
    return moved / axis.injection_bytes_per_s + steps * axis.latency_s


def all_reduce_s(size_bytes: float, links: Links) -> float:
    """Both phases over all axes."""
    total, left = 0.0, size_bytes
    for axis in sorted(links.axes, key=lambda axis: -axis.injection_bytes_per_s):
        total += 2 * phase_s(left, axis)
        left /= axis.size
    return total
