"""Recomputation: which activations are kept, and what the backward pass computes again.

none: all kept.  selective: scores and probabilities of unfused attention again; with fused
attention nothing is left to save there, and half of the elementwise work and the MLP's inner
activations are made again.  full: only each layer's input is kept and the layer runs again.
Korthikanti et al. 2022.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.cluster.layout import RECOMPUTE

_SELECTIVE = RECOMPUTE.index("selective")
_FULL = RECOMPUTE.index("full")


def repeated_fraction(recompute: Any) -> tuple[Any, Any, Any]:
    """Of a layer's forward (matmuls, attention, elementwise), the fraction run again."""
    full = np.equal(recompute, _FULL)
    selective = np.equal(recompute, _SELECTIVE)
    return (
        np.where(full, 1.0, 0.0),
        np.where(full, 1.0, np.where(selective, 1.0, 0.0)),
        np.where(full, 1.0, np.where(selective, 0.5, 0.0)),
    )


def activation_bytes(
    recompute: Any, unsplit: Any, split: Any, attention: Any, layer_input: Any
) -> Any:
    """Bytes a layer keeps per micro-batch.

    unsplit, split: outside and inside tensor-parallel regions; attention: scores.
    """
    kept_all = unsplit + split + attention
    kept_some = unsplit + split
    full, some = np.equal(recompute, _FULL), np.equal(recompute, _SELECTIVE)
    return np.where(full, layer_input, np.where(some, kept_some, kept_all))
