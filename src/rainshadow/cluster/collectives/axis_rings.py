"""Axis after axis: reduce-scatter along every axis, then all-gather back.

Each axis is a ring used in both directions (half the data each way), a line, a switch or a mesh.
Data shrink by the axis' size before the next axis, so the fastest axis goes first.
Model: Thakur, Rabenseifner, Gropp 2005, "Optimization of Collective Communication Operations in
MPICH", ring reduce-scatter and all-gather: (n-1)/n of the data and n-1 steps each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.cluster.network import Links


def accepts(links: Links) -> Any:
    """Groups inside one scale-up domain."""
    return (np.asarray(links.domains) == 1) & bool(links.axes)


def gather_s(size_bytes: Any, links: Links) -> Any:
    """Along every axis in turn, the fastest first."""
    total: Any = 0.0
    left = size_bytes
    for axis in sorted(links.axes, key=lambda axis: -axis.bandwidth_bytes_per_s):
        steps = np.asarray(axis.size) - 1
        moved = left * steps / axis.size
        total = total + moved / axis.injection_bytes_per_s + steps * axis.latency_s
        left = left / axis.size
    return total


def all_reduce_s(size_bytes: Any, links: Links) -> Any:
    """Both phases over all axes."""
    return 2 * gather_s(size_bytes, links)
