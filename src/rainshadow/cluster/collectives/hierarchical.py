"""Several domains: reduce-scatter inside, ring over domains, all-gather inside.

Every chip of a domain takes 1/n of the data over its own network interface, all at once
(rail-optimised fabrics join equal positions); the phases inside and outside are pipelined.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.cluster.network import Links


def accepts(links: Links) -> Any:
    """Groups over more than one domain."""
    return np.asarray(links.domains) > 1


def gather_s(size_bytes: Any, links: Links) -> Any:
    """The longer of both phases, and the latencies of both.

    The ring over many domains is cut short in latency by recursive doubling, whose steps are
    log2(domains) and whose bytes are the same (Thakur, Rabenseifner, Gropp 2005).
    """
    inside: Any = 0.0
    latency: Any = 0.0
    left = size_bytes
    for axis in sorted(links.axes, key=lambda axis: -axis.bandwidth_bytes_per_s):
        steps = np.asarray(axis.size) - 1
        inside = inside + left * steps / axis.size / axis.injection_bytes_per_s
        latency = latency + steps * axis.latency_s
        left = left / axis.size
    domains = np.asarray(links.domains)
    outside = left * (domains - 1) / domains / np.maximum(links.outer_bandwidth_bytes_per_s, 1.0)
    steps = np.ceil(np.log2(np.maximum(domains, 1)))
    return np.maximum(inside, outside) + latency + steps * links.outer_latency_s


def all_reduce_s(size_bytes: Any, links: Links) -> Any:
    """Inside twice, and the shard twice over the ring of domains."""
    return 2 * gather_s(size_bytes, links)
