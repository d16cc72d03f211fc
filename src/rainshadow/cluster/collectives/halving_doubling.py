"""Recursive halving and doubling: log2(n) steps, each with the partner half as far away.

The same bytes as a ring with far fewer steps, so best for small data. AWS names it for Trainium's
2D torus seen as a hypercube: partners 2, 4... places away share the links between them, so step k
of an axis moves at 1/2^k of the link's rate.
Model: Thakur, Rabenseifner, Gropp 2005.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.cluster.network import Links


def accepts(links: Links) -> Any:
    """Groups inside one torus whose extents are powers of two."""
    if not links.axes or any(axis.kind not in ("ring", "line") for axis in links.axes):
        return False
    fits: Any = np.asarray(links.domains) == 1
    for axis in links.axes:
        power = np.log2(np.asarray(axis.size, dtype=np.float64))
        fits = fits & (power == np.floor(power))
    return fits


def gather_s(size_bytes: Any, links: Links) -> Any:
    """Axis after axis; halves travel 1, 2, 4... places, nearest partners take the largest half."""
    total: Any = 0.0
    left = size_bytes
    for axis in links.axes:
        size = np.asarray(axis.size, dtype=np.float64)
        steps = np.log2(size)
        # Halves of left/2, left/4... over 1, 2, 4... shared links: every step takes left/2.
        places = np.maximum(size / 2, 1.0) * (size > 1)
        total = total + steps * left / 2 / axis.bandwidth_bytes_per_s + places * axis.latency_s
        left = left / size
    return total


def all_reduce_s(size_bytes: Any, links: Links) -> Any:
    """Halving, then doubling."""
    return 2 * gather_s(size_bytes, links)
