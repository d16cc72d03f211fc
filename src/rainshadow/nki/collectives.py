"""The `nki.collectives` names. Kernels that use them import; calling one says it is not simulated.

Source of the names: AWS Neuron docs 2.32, nki.collectives API reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rainshadow.errors import NotModelled


class ReplicaGroup:
    """Groups of ranks that communicate: ReplicaGroup([[0, 1], [2, 3]])."""

    def __init__(self, replica_groups: Any) -> None:
        self.replica_groups = replica_groups


def _not_simulated(name: str) -> Callable[..., Any]:
    def collective(*args: Any, **kwargs: Any) -> Any:
        raise NotModelled(
            f"nki.collectives.{name}: collectives between ranks",
            fix="test the parts of the kernel before and after it; one rank is simulated",
        )

    collective.__name__ = name
    collective.__doc__ = "Not simulated yet: raises NotModelled."
    return collective


all_gather = _not_simulated("all_gather")
all_gather_v = _not_simulated("all_gather_v")
all_reduce = _not_simulated("all_reduce")
all_to_all = _not_simulated("all_to_all")
all_to_all_v = _not_simulated("all_to_all_v")
collective_permute = _not_simulated("collective_permute")
collective_permute_implicit = _not_simulated("collective_permute_implicit")
collective_permute_implicit_reduce = _not_simulated("collective_permute_implicit_reduce")
collective_permute_implicit_current_processing_rank_id = _not_simulated(
    "collective_permute_implicit_current_processing_rank_id"
)
rank_id = _not_simulated("rank_id")
reduce_scatter = _not_simulated("reduce_scatter")
