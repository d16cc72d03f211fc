"""Expert parallelism: tokens travel to the ranks that hold their experts, and back.

bytes = top_k x tokens x hidden x (e-1)/e each way. Ranks of a group are neighbours. A token whose
experts share a domain crosses to it once and is copied there (DeepSeek-V3's dispatch, DeepEP and
HybridEP since). Imbalance multiplies what the busiest rank sends and computes; published tables
force balance.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from rainshadow.cluster.network import Links, fastest_s, place

_BF16 = 2


def layer_s(links: Links, rows: Any, hidden: int, top_k: int, degree: Any, tensor: Any) -> Any:
    """Seconds of dispatch and combine of one layer, forward; the backward pass takes as long.

    rows: tokens of a tensor-parallel group, which its ranks share out.
    """
    group = place(links, degree, 1)
    ranks = np.asarray(degree, dtype=np.float64)
    size = rows / tensor * top_k * hidden * _BF16 * (ranks - 1) / ranks
    crossing = np.maximum(_crossings(top_k, group.domains), 1e-9)
    outer = group.outer_bandwidth_bytes_per_s / crossing
    group = dataclasses.replace(group, outer_bandwidth_bytes_per_s=outer)
    return 2 * fastest_s("all_to_all", size, group)


def _crossings(top_k: int, domains: Any) -> Any:
    """Copies of a token that leave its domain, over those of a plain all-to-all.

    Experts are drawn evenly over the domains; each of the others is reached with 1 - (1 - 1/d)^k.
    """
    others = 1 - 1 / np.asarray(domains, dtype=np.float64)
    return np.where(others > 0, (1 - others**top_k) / (top_k * (1 - others)), 1.0)
