"""One ring through all ranks of the group, the simplest: 2 (n-1)/n of the data, n-1 steps.

Inside a torus it uses one axis' pair of links, behind a switch the whole port. Over several
domains one ring per network interface runs at once (NCCL's multi-rail rings).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.cluster.network import Links


def accepts(links: Links) -> Any:
    """Any group with a link."""
    return np.asarray(links.num_chips) > 1


def gather_s(size_bytes: Any, links: Links) -> Any:
    """(n-1)/n of the data at the slowest link's rate."""
    ranks = np.asarray(links.num_chips, dtype=np.float64)
    rate: Any = np.inf
    latency: Any = 0.0
    for axis in links.axes:
        used = np.asarray(axis.size) > 1
        rate = np.minimum(rate, np.where(used, _one_ring(axis), np.inf))
        latency = np.maximum(latency, np.where(used, axis.latency_s, 0.0))
    crossing = np.asarray(links.domains) > 1
    rails = links.outer_bandwidth_bytes_per_s * links.chips_per_domain
    rate = np.where(crossing, np.minimum(rate, rails), rate)
    latency = np.where(crossing, np.maximum(latency, links.outer_latency_s), latency)
    return size_bytes * (ranks - 1) / ranks / np.maximum(rate, 1.0) + (ranks - 1) * latency


def all_reduce_s(size_bytes: Any, links: Links) -> Any:
    """Reduce-scatter and all-gather."""
    return 2 * gather_s(size_bytes, links)


def _one_ring(axis: Any) -> Any:
    """A ring needs two links a chip: both directions of an axis, one pair of a mesh, a port."""
    if axis.kind == "mesh":
        return 2 * axis.bandwidth_bytes_per_s
    return axis.injection_bytes_per_s
