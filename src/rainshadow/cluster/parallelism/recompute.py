"""Recomputation: which activations are kept, and what the backward pass computes again.

none: all kept.  selective: scores and probabilities of unfused attention again; with fused
attention, which saves them anyway, the norms' and the MLP's activation outputs (Megatron's
selective modules), for half of the elementwise work.  full: only each layer's input is kept and
the layer runs again.  Korthikanti et al. 2022.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.cluster.layout import RECOMPUTE

_SELECTIVE = RECOMPUTE.index("selective")
_FULL = RECOMPUTE.index("full")


def repeated_fraction(
    recompute: Any, fused_attention: Any = True, selective_matmuls: Any = 0.0
) -> tuple[Any, Any, Any]:
    """Of a layer's forward (matmuls, attention, elementwise), the fraction run again."""
    full = np.equal(recompute, _FULL)
    selective = np.equal(recompute, _SELECTIVE)
    scores = selective & ~np.asarray(fused_attention, dtype=bool)
    return (
        np.where(full, 1.0, np.where(selective, selective_matmuls, 0.0)),
        np.where(full | scores, 1.0, 0.0),
        np.where(full, 1.0, np.where(selective, 0.5, 0.0)),
    )


def activation_bytes(recompute: Any, everything: Any, cheap: Any, layer_input: Any) -> Any:
    """Bytes a layer keeps per micro-batch. cheap: those that selective recomputation drops."""
    full, some = np.equal(recompute, _FULL), np.equal(recompute, _SELECTIVE)
    return np.where(full, layer_input, everything - np.where(some, cheap, 0.0))
