"""Two binary trees over the domains (NCCL's double tree), for sums of small data over many domains.

Each rank is a leaf in one tree and inside the other, so both halves of the data move at the full
rate up and down: 2 S bytes instead of 2 (n-1)/n S, and 2 log2(domains) steps instead of 2 (n-1).
Model: Sanders, Speck, Traeff 2009, "Two-tree algorithms for full bandwidth broadcast, reduction
and scan".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.cluster.network import Links


def accepts(links: Links) -> Any:
    """Groups over more than one domain."""
    return np.asarray(links.domains) > 1


def all_reduce_s(size_bytes: Any, links: Links) -> Any:
    """A ring inside, the trees between domains, all rails at once."""
    inside: Any = 0.0
    latency: Any = 0.0
    left = size_bytes
    for axis in links.axes:
        steps = np.asarray(axis.size) - 1
        inside = inside + 2 * left * steps / axis.size / axis.injection_bytes_per_s
        latency = latency + 2 * steps * axis.latency_s
        left = left / axis.size
    depth = np.ceil(np.log2(np.maximum(np.asarray(links.domains), 1)))
    outside = 2 * left / np.maximum(links.outer_bandwidth_bytes_per_s, 1.0)
    return np.maximum(inside, outside) + latency + 2 * depth * links.outer_latency_s
