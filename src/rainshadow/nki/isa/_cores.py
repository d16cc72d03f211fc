"""Functions between the two cores of a logical core."""

from __future__ import annotations

from operator import index as whole
from typing import Any

from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern as NkiTensor
from rainshadow.isa.engine import Engine
from rainshadow.isa.instructions.core_barrier import CoreBarrier
from rainshadow.isa.instructions.sendrecv import Sendrecv
from rainshadow.nki.constants import (
    dma_engine,
)
from rainshadow.nki.isa._issue import NkiInstruction, engine_or, issue
from rainshadow.sim.recorder import active_recorder
from rainshadow.sim.tensor_table import label_of

_GPSIMD = dma_engine.gpsimd_dma


def sendrecv(
    src: NkiTensor,
    dst: NkiTensor,
    send_to_rank: int,
    recv_from_rank: int,
    pipe_id: Any,
    dma_engine: dma_engine = dma_engine.dma,
    name: str | None = None,
    use_gpsimd_dma: bool = False,
) -> NkiInstruction:
    """Send src to a core of this logical core, receive into dst from one."""
    recorder = active_recorder()
    if recorder.cores.count < 2:
        raise NkiValidationError(
            "sendrecv on one core", allowed="a launch on two cores", fix="launch with kernel[2]"
        )
    ranks, where = (whole(send_to_rank), whole(recv_from_rank)), recorder.line()

    def exchange(kind: Any, data: Any) -> Any:
        return recorder.cores.exchange(recorder.program_id, ranks, pipe_id, kind, data, where)

    moved_by = _GPSIMD if use_gpsimd_dma else dma_engine  # the flag is NKI 0.2's
    return issue(Sendrecv(dst, src, exchange, ranks, moved_by.name))


def core_barrier(
    data: NkiTensor, cores: Any, engine: Engine = Engine.gpsimd, name: str | None = None
) -> NkiInstruction:
    """Wait until all of `cores` have come to this barrier."""
    recorder = active_recorder()
    if recorder.cores.count < 2:
        raise NkiValidationError(
            "core_barrier on one core", allowed="a launch on two cores", fix="launch with kernel[2]"
        )
    ranks, where = tuple(map(whole, cores)), recorder.line()

    def arrive() -> None:
        recorder.cores.barrier(recorder.program_id, ranks, label_of(data.buffer_), where)

    return issue(CoreBarrier(data, arrive, ranks, engine_or(engine, Engine.gpsimd)))
