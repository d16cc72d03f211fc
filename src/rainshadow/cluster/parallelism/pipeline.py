"""Pipeline parallelism: stages of layers, micro-batches in flight, and the bubble between them.

schedule: 1F1B, interleaved when there are virtual stages (Narayanan et al. 2021); zero bubble
(Qi et al. 2023), which fills with weight gradients; dual pipe (DeepSeek-V3), from both ends;
GPipe, which keeps all micro-batches' activations.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.cluster.layout import SCHEDULES
from rainshadow.cluster.network import Links, fastest_s, place

_BF16 = 2
_ZERO_BUBBLE = SCHEDULES.index("zero_bubble")
_DUAL_PIPE = SCHEDULES.index("dual_pipe")
_GPIPE = SCHEDULES.index("gpipe")


def bubble_micro_batches(stages: Any, virtual_stages: Any, schedule: Any) -> Any:
    """Idle time in units of one micro-batch's forward and backward on a stage.

    With forward F, and backward by inputs B and by weights W as long: 1F1B waits (p-1)(F + B + W);
    zero bubble leaves (p-1)(F + B - W), a third (ZB-H1); dual pipe (p/2-1)(FB + B - 3W), where B
    is the whole backward pass, 2, and FB a forward and a backward, 3 (DeepSeek-V3, table 2).
    """
    stages, virtual = np.asarray(stages), np.asarray(virtual_stages)
    plain = (stages - 1) / virtual
    dual = np.maximum(stages / 2 - 1, 0.0) * 2 / 3
    return np.select(
        [np.equal(schedule, _ZERO_BUBBLE), np.equal(schedule, _DUAL_PIPE)],
        [plain / 3, dual / virtual],
        plain,
    )


def hides_experts(schedule: Any) -> Any:
    """Where another micro-batch's compute covers the all-to-alls of experts: dual pipe."""
    return np.equal(schedule, _DUAL_PIPE)


def in_flight(stages: Any, virtual_stages: Any, micro_batches: Any, schedule: Any) -> Any:
    """Micro-batches whose activations the first stage keeps, in stages' worth of layers."""
    stages, virtual = np.asarray(stages), np.asarray(virtual_stages)
    kept = np.minimum(stages, micro_batches)
    interleaved = kept * (1 + (stages - 1) / (stages * virtual))
    kept = np.where(virtual > 1, interleaved, kept)
    kept = np.where(np.equal(schedule, _DUAL_PIPE), kept + 1, kept)
    return np.where(np.equal(schedule, _GPIPE), micro_batches, kept)


def transfer_s(links: Links, rows: Any, hidden: int, spread: Any, stages: Any, stride: Any) -> Any:
    """Seconds to hand one micro-batch's activations to the next stage, `stride` ranks away.

    spread: ranks that each send their part.
    """
    pair = place(links, 2, stride)
    size = rows * hidden * _BF16 / spread
    return np.where(np.asarray(stages) > 1, fastest_s("gather", 2 * size, pair), 0.0)
