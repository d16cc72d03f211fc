"""Every rank sends to every other at once: one step over all links of a mesh.

AMD's fully connected nodes, and the all-to-all of expert parallelism on any network.
On a torus an all-to-all crosses a quarter of the axis on average, so the links bound it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.cluster.network import Links


def accepts(links: Links) -> Any:
    """Any group with a link; sums only where all are neighbours."""
    return np.asarray(links.num_chips) > 1


def gather_s(size_bytes: Any, links: Links) -> Any:
    """One step to all others, on one mesh; elsewhere never."""
    if len(links.axes) != 1 or links.axes[0].kind != "mesh":
        return np.inf
    axis = links.axes[0]
    size = np.asarray(axis.size, dtype=np.float64)
    time = size_bytes * (size - 1) / size / axis.injection_bytes_per_s + axis.latency_s
    return np.where(np.asarray(links.domains) == 1, time, np.inf)


def all_reduce_s(size_bytes: Any, links: Links) -> Any:
    """Scatter, sum, gather."""
    return 2 * gather_s(size_bytes, links)


def all_to_all_s(size_bytes: Any, links: Links) -> Any:
    """Every rank sends an equal part to every rank: what stays inside, and what leaves."""
    ranks = np.asarray(links.num_chips, dtype=np.float64)
    inside: Any = 0.0
    latency: Any = 0.0
    for axis in links.axes:
        size = np.asarray(axis.size, dtype=np.float64)
        # The share of a rank's bytes that must move along this axis.
        share = size_bytes * (size - 1) / size
        if axis.kind in ("ring", "line"):
            # On average a quarter of a closed ring away, a third of a line, both ways shared.
            closed = (size > 2) & (size >= axis.full)
            hops = np.where(closed, size / 4, (size + 1) / 3)
            time = size_bytes * hops / (2 * axis.bandwidth_bytes_per_s)
            time = np.where(size > 1, time, 0.0)
        else:
            time = share / axis.injection_bytes_per_s
        inside = np.maximum(inside, time)
        latency = latency + np.where(size > 1, axis.latency_s, 0.0)
    domains = np.asarray(links.domains)
    leaving = size_bytes * (ranks - links.chips_per_domain) / ranks
    outside = leaving / np.maximum(links.outer_bandwidth_bytes_per_s, 1.0)
    outside = np.where(domains > 1, outside, 0.0)
    latency = latency + np.where(domains > 1, links.outer_latency_s, 0.0)
    return np.maximum(inside, outside) + latency
