"""Data parallelism: every worker has the whole model and its own part of the batch.

Gradients are summed over all workers once a step. Inside a Trainium chip the workers are its
NeuronCores, whose sums pass through the chip's HBM.
"""

from __future__ import annotations

from typing import Any

from rainshadow.cluster.network import Links, all_reduce_s, fastest_s, place
from rainshadow.sources import Scenario


def workers(num_chips: int, cores_per_chip: int) -> int:
    """Copies of the model: the degree of data parallelism."""
    return num_chips * cores_per_chip


def core_sum_s(gradient_bytes: float, cores: int, hbm_bytes_per_s: float) -> float:
    """Sum over the cores of one chip through HBM.

    Reduce-scatter and all-gather: every core reads (n-1)/n of the gradients of the others and
    writes as much, in each of two phases, and all share the chip's bandwidth.
    """
    moved = 2 * 2 * cores * gradient_bytes * (cores - 1) / cores
    return moved / hbm_bytes_per_s


def gradient_sum_s(
    gradient_bytes: float, links: Links, cores: int, hbm_bytes_per_s: float
) -> tuple[float, str]:
    """(seconds, algorithm) to sum the gradients over all workers, nothing overlapped."""
    between, algorithm = all_reduce_s(gradient_bytes, links)
    return core_sum_s(gradient_bytes, cores, hbm_bytes_per_s) + between, algorithm


def exposed_s(sum_s: float, backward_s: float, scenario: Scenario) -> float:
    """The part of the sum that lengthens the step.

    Gradients can be sent while the rest of the backward pass runs. Worst: nothing overlaps; best:
    everything does; central: as much as the backward pass is long.
    """
    match scenario:
        case "worst":
            return sum_s
        case "best":
            return 0.0
        case _:
            return max(0.0, sum_s - backward_s)


def reduce_s(links: Links, gradient_bytes: Any, degree: Any, stride: Any) -> Any:
    """Seconds to sum gradients over `degree` replicas, `stride` ranks apart, unsharded."""
    return fastest_s("all_reduce", gradient_bytes, place(links, degree, stride))
