"""Context parallelism: the sequence is split, and attention needs the others' keys and values.

ring: keys and values travel round while attention on the last ones runs (Liu et al. 2023).
all_gather: they are gathered first (Llama 3). A causal mask is balanced by giving every rank one
early and one late part.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.cluster.layout import CONTEXT_METHODS
from rainshadow.cluster.network import Links, fastest_s, place

_BF16 = 2
_ALL_GATHER = CONTEXT_METHODS.index("all_gather")


def layer_s(links: Links, rows: Any, kv_width: float, degree: Any, tensor: Any) -> Any:
    """Seconds one layer's keys and values take to reach all ranks of the group, forward.

    rows: tokens of a rank.  kv_width: values of keys and values per token.
    """
    group = place(links, degree, tensor)
    size = rows * kv_width * np.asarray(degree) / tensor * _BF16
    return fastest_s("gather", size, group)


def exposed_s(exchange_s: Any, attention_s: Any, method: Any, degree: Any) -> Any:
    """What attention does not hide: all of a gather; of a ring its excess over attention."""
    ring = np.maximum(exchange_s - attention_s, 0.0)
    exposed = np.where(np.equal(method, _ALL_GATHER), exchange_s, ring)
    return np.where(np.asarray(degree) > 1, exposed, 0.0)
