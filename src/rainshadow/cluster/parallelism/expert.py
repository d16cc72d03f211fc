"""Expert parallelism: tokens travel to the ranks that hold their experts, and back.

bytes = top_k x tokens x hidden x (e-1)/e each way. Ranks of a group are neighbours. Imbalance
multiplies what the busiest rank sends and computes; published tables force balance.
"""

from __future__ import annotations

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
    return 2 * fastest_s("all_to_all", size, group)
