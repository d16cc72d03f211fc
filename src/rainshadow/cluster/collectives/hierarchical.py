"""All-reduce over several domains: reduce-scatter inside, ring over domains, all-gather inside.

Every chip of a domain takes 1/n of the data over its own network interface, all at once.
"""

from __future__ import annotations

from rainshadow.cluster.network import Links


def accepts(links: Links) -> bool:
    """More than one domain."""
    return links.domains > 1


def all_reduce_s(size_bytes: float, links: Links) -> float:
    """Inside twice, and the shard twice over the ring of domains.

    The ring over many domains is cut short in latency by recursive doubling, whose steps are
    log2(domains) and whose bytes are the same (Thakur, Rabenseifner, Gropp 2005).
    """
    total, left = 0.0, size_bytes
    for axis in sorted(links.axes, key=lambda axis: -axis.injection_bytes_per_s):
        if axis.size > 1:
            steps = axis.size - 1
            moved = left * steps / axis.size
            total += 2 * (moved / axis.injection_bytes_per_s + steps * axis.latency_s)
            left /= axis.size
    moved = left * (links.domains - 1) / links.domains
    steps = (links.domains - 1).bit_length()
    return total + 2 * (moved / links.outer_bandwidth_bytes_per_s + steps * links.outer_latency_s)
