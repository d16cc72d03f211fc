"""The DMA queues' functions: copies, transposes and sums between memories."""

from __future__ import annotations

from operator import index as whole
from typing import Any

from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern as NkiTensor
from rainshadow.isa.engine import Engine
from rainshadow.isa.instructions.dma_compute import DmaCompute
from rainshadow.isa.instructions.dma_copy import DmaCopy
from rainshadow.isa.instructions.dma_transpose import PERMUTATIONS, DmaTranspose
from rainshadow.isa.operators import alu_operator
from rainshadow.isa.values import is_dynamic
from rainshadow.nki.constants import (
    dge_mode,
    oob_mode,
)
from rainshadow.nki.isa._issue import (
    NkiInstruction,
    descriptors_of,
    issue,
    nothing_issued,
    trigger_of,
)

#: Named here, as the functions' parameters have the enumeration's name.
_SKIP = oob_mode.skip


def dma_copy(
    dst: NkiTensor,
    src: NkiTensor,
    priority: Any = None,
    oob_mode: oob_mode = oob_mode.error,
    dge_mode: dge_mode = dge_mode.unknown,
    engine: Engine = Engine.unknown,
    name: str | None = None,
    dst_rmw_op: Any = None,
    unique_indices: bool = True,
) -> NkiInstruction:
    """dst = src by DMA. oob_mode skip leaves out what a dynamic index would move from outside.

    dst_rmw_op, unique_indices: of NKI 0.2, which added to dst so (now `dma_compute`).
    """
    if dst_rmw_op is not None:
        return dma_compute(dst, [dst, src], dst_rmw_op, None, unique_indices, oob_mode, name)
    skip = oob_mode in (_SKIP, _SKIP.value)
    if skip and _is_outside(dst, src):
        return nothing_issued()
    mode = descriptors_of(dge_mode)
    trigger = trigger_of(engine, mode)
    return issue(DmaCopy(dst, src, trigger, skip, mode.name, _whole(priority)))


def _is_outside(*views: Any) -> bool:
    """Whether a tensor or a register has put one of the views outside its buffer."""
    return any(
        isinstance(view, NkiTensor) and is_dynamic(view) and not view.is_inside() for view in views
    )


def _whole(priority: Any) -> int | None:
    return None if priority is None else whole(priority)


def dma_transpose(
    dst: NkiTensor,
    src: NkiTensor,
    axes: Any = None,
    priority: Any = None,
    dge_mode: dge_mode = dge_mode.unknown,
    oob_mode: oob_mode = oob_mode.error,
    name: str | None = None,
) -> NkiInstruction:
    """dst = src with first and last axes exchanged."""
    order = PERMUTATIONS.get(len(src.shape))
    if axes is not None and order is not None and tuple(axes) != order:
        raise NkiValidationError(f"dma_transpose: axes {tuple(axes)}", allowed=f"{order}")
    skip = oob_mode in (_SKIP, _SKIP.value)
    if skip and _is_outside(src):
        return nothing_issued()
    mode = descriptors_of(dge_mode)
    trigger = trigger_of(Engine.unknown, mode)
    return issue(DmaTranspose(dst, src, trigger, skip, mode.name, _whole(priority)))


def dma_compute(
    dst: NkiTensor,
    srcs: Any,
    reduce_op: Any,
    scales: Any = None,
    unique_indices: bool = True,
    oob_mode: oob_mode = oob_mode.error,
    name: str | None = None,
) -> NkiInstruction:
    """dst = sum of srcs. oob_mode skip leaves out rows whose index is outside."""
    if alu_operator(reduce_op).name != "add":
        raise NkiValidationError("dma_compute: reduce_op", allowed="nl.add")
    if scales is not None and any(scale != 1.0 for scale in scales):
        raise NkiValidationError(f"dma_compute: scales {scales}", allowed="1.0 for every source")
    if scales is not None and len(scales) != len(srcs):
        raise NkiValidationError(
            f"dma_compute: {len(scales)} scales for {len(srcs)} srcs", allowed="one for each source"
        )
    if not unique_indices:
        raise NkiValidationError("dma_compute: unique_indices=False", allowed="True, so far")
    return issue(DmaCompute(dst, tuple(srcs), len(srcs), oob_mode in (_SKIP, _SKIP.value)))
