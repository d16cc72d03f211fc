"""ZeRO: data-parallel ranks share out optimizer state (1), gradients (2), weights (3, FSDP).

Stage 1 and 2 sum gradients by reduce-scatter and gather the updated weights once a step. Stage 3
gathers every layer's weights before each of its passes and scatters gradients after, for every
micro-batch. Shards may span fewer ranks than there are (HSDP); then the replicas of a shard also
sum.  Rajbhandari et al. 2020.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.cluster.network import Links, fastest_s, place


def shard_ranks(degree: Any, shard_size: Any) -> Any:
    """Ranks a shard spans; shard_size 0 means all."""
    size = np.asarray(shard_size)
    return np.where(size > 0, np.minimum(size, degree), degree)


def scatter_s(links: Links, gradient_bytes: Any, degree: Any, stride: Any, shard_size: Any) -> Any:
    """Seconds to reduce-scatter gradients, and to sum the shards of HSDP replicas."""
    ranks = shard_ranks(degree, shard_size)
    inside = fastest_s("gather", gradient_bytes, place(links, ranks, stride))
    replicas = np.asarray(degree) / ranks
    between = place(links, replicas, np.asarray(stride) * ranks)
    return inside + fastest_s("all_reduce", gradient_bytes / ranks, between)


def gather_s(links: Links, weight_bytes: Any, degree: Any, stride: Any, shard_size: Any) -> Any:
    """Seconds to gather weights from their shards."""
    ranks = shard_ranks(degree, shard_size)
    return fastest_s("gather", weight_bytes, place(links, ranks, stride))
