"""Functions between the two cores of a logical core."""

from __future__ import annotations

from typing import Any

from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern as NkiTensor
from rainshadow.isa.engine import Engine
from rainshadow.isa.instructions.core_barrier import CoreBarrier
from rainshadow.isa.instructions.sendrecv import Sendrecv
from rainshadow.nki.constants import (
    dma_engine,
)
from rainshadow.nki.isa._issue import engine_or, issue
from rainshadow.sim.recorder import active_recorder


def sendrecv(
    src: NkiTensor,
    dst: NkiTensor,
    send_to_rank: int,
    recv_from_rank: int,
    pipe_id: Any,
    dma_engine: dma_engine = dma_engine.dma,
    name: str | None = None,
) -> None:
    """Send src to a core of this logical core, receive into dst from one."""
    recorder = active_recorder()
    if recorder.cores.count < 2:
        raise NkiValidationError(
            "sendrecv on one core", allowed="a launch on two cores", fix="launch with kernel[2]"
        )
    ranks = (int(send_to_rank), int(recv_from_rank))

    def exchange(data: Any) -> Any:
        return recorder.cores.exchange(recorder.rank, *ranks, pipe_id, data)

    issue(Sendrecv(dst, src, exchange, ranks, dma_engine.name))


def core_barrier(
    data: NkiTensor, cores: Any, engine: Engine = Engine.gpsimd, name: str | None = None
) -> None:
    """Wait until all of `cores` have come to this barrier."""
    recorder = active_recorder()
    if recorder.cores.count < 2:
        raise NkiValidationError(
            "core_barrier on one core", allowed="a launch on two cores", fix="launch with kernel[2]"
        )
    ranks, number = tuple(int(core) for core in cores), recorder.num_barriers
    recorder.num_barriers += 1

    def arrive() -> None:
        recorder.cores.barrier(recorder.rank, ranks, number)

    issue(CoreBarrier(data, arrive, ranks, engine_or(engine, Engine.gpsimd)))
