"""The switch sums: every rank sends its data once and receives the sum once (NVLink SHARP).

Only all-reduce gains; measured to be used above 4 ranks (H200) and to reach 61 % of the port: 482
GB/s of bus bandwidth on 8 x 450 GB/s, where a ring reaches 367 (ml-engineering book, network).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.cluster.network import Links

#: Ranks from which NCCL uses it; the book above.
_LEAST_RANKS = 5
#: Over the ring's achieved rate: 482.3 / 367.6 of bus bandwidth, as S/t: 2 x 7/8 of that less.
_RATE_OVER_RING = 482.3 / 367.6 / (2 * 7 / 8)


def accepts(links: Links) -> Any:
    """Groups behind one switch that sums."""
    if len(links.axes) != 1 or not links.axes[0].reduces:
        return False
    inside = np.asarray(links.axes[0].size) >= _LEAST_RANKS
    return inside & (np.asarray(links.domains) == 1)


def all_reduce_s(size_bytes: Any, links: Links) -> Any:
    """Up and down at once."""
    axis = links.axes[0]
    rate = axis.injection_bytes_per_s * _RATE_OVER_RING
    return size_bytes / rate + 2 * axis.latency_s
