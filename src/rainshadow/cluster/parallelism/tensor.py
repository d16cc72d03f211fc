"""Tensor parallelism: every matrix is split over ranks, whose partial results are summed.

With sequence parallelism (Korthikanti et al. 2022) the two sums of a layer become reduce-scatters
and all-gathers of the same bytes, and norms work on a part of the sequence.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.cluster.network import Links, fastest_s, place

_BF16 = 2


def layer_s(
    links: Links, rows: Any, hidden: int, degree: Any, sequence_parallel: Any, sums: float = 2.0
) -> Any:
    """Seconds one layer's forward pass communicates; the backward pass takes as long.

    sums: all-reduces of a layer, 2 with a dense MLP, 1 where experts are not split.
    """
    group = place(links, degree, 1)
    size = rows * hidden * _BF16
    pairs = 2 * fastest_s("gather", size, group)
    reduces = fastest_s("all_reduce", size, group)
    return sums * np.where(sequence_parallel, pairs, reduces)
