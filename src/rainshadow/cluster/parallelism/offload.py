"""Offload: optimizer state, and activations, live in the host's memory and cross its link.

The optimizer's state crosses twice a step, activations twice a micro-batch, beside compute where
they can.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.cluster.layout import OFFLOADS

_OPTIMIZER = OFFLOADS.index("optimizer")
_ALL = OFFLOADS.index("optimizer_and_activations")
#: Share of a layer's activations worth sending: the rest is small or needed at once.
ACTIVATION_SHARE = 0.5


def crossing_s(offload: Any, state_bytes: Any, activation_bytes: Any, host_bytes_per_s: Any) -> Any:
    """Seconds the link to the host is busy in a step."""
    state = np.where(np.asarray(offload) >= _OPTIMIZER, 2 * state_bytes, 0.0)
    kept = np.equal(offload, _ALL)
    activations = np.where(kept, 2 * ACTIVATION_SHARE * activation_bytes, 0.0)
    return (state + activations) / host_bytes_per_s


def on_chip_fractions(offload: Any) -> tuple[Any, Any]:
    """What stays on the chip: (of optimizer state, of activations)."""
    state = np.where(np.asarray(offload) >= _OPTIMIZER, 0.0, 1.0)
    activations = np.where(np.equal(offload, _ALL), 1 - ACTIVATION_SHARE, 1.0)
    return state, activations
