"""Offload: optimizer state, and activations, live in the host's memory and cross its link.

The optimizer's state crosses twice a step, activations twice a micro-batch, beside compute where
they can.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.cluster.assumptions import assumed
from rainshadow.cluster.layout import OFFLOADS

_OF_STATE = tuple(OFFLOADS.index(name) for name in ("optimizer", "optimizer_and_activations"))
_OF_ACTIVATIONS = tuple(
    OFFLOADS.index(name) for name in ("activations", "optimizer_and_activations")
)


def crossing_s(offload: Any, state_bytes: Any, activation_bytes: Any, host_bytes_per_s: Any) -> Any:
    """Seconds the link to the host is busy in a step."""
    state = np.where(np.isin(offload, _OF_STATE), 2 * state_bytes, 0.0)
    leaving = np.isin(offload, _OF_ACTIVATIONS)
    activations = np.where(leaving, 2 * assumed("offloaded_activations") * activation_bytes, 0.0)
    return (state + activations) / host_bytes_per_s


def on_chip_fractions(offload: Any) -> tuple[Any, Any]:
    """What stays on the chip: (of optimizer state, of activations)."""
    state = np.where(np.isin(offload, _OF_STATE), 0.0, 1.0)
    kept = 1 - assumed("offloaded_activations")
    activations = np.where(np.isin(offload, _OF_ACTIVATIONS), kept, 1.0)
    return state, activations
