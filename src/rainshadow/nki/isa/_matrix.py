"""TensorE's functions."""

from __future__ import annotations

from rainshadow.isa.access import AccessPattern as NkiTensor
from rainshadow.isa.engine import Engine
from rainshadow.isa.instructions.nc_matmul import NcMatmul
from rainshadow.isa.instructions.nc_transpose import NcTranspose
from rainshadow.isa.memory import Space as MemoryRegion
from rainshadow.nki.constants import (
    matmul_perf_mode,
)
from rainshadow.nki.isa._issue import engine_or, issue
from rainshadow.sim.recorder import active_recorder


def nc_matmul(
    dst: NkiTensor,
    stationary: NkiTensor,
    moving: NkiTensor,
    is_stationary_onezero: bool = False,
    is_moving_onezero: bool = False,
    is_transpose: bool = False,
    accumulate: bool | None = None,
    tile_position: tuple[int, ...] = (),
    tile_size: tuple[int, ...] = (),
    perf_mode: matmul_perf_mode = matmul_perf_mode.none,
    name: str | None = None,
) -> None:
    """dst (+)= stationary.T @ moving. accumulate=None: add, except at a first write to dst."""
    if accumulate is None:
        accumulate = active_recorder().continue_accumulation(dst)
    mode = matmul_perf_mode(perf_mode).value
    issue(NcMatmul(dst, stationary, moving, bool(accumulate), is_transpose, mode))


def nc_transpose(
    dst: NkiTensor, data: NkiTensor, engine: Engine = Engine.unknown, name: str | None = None
) -> None:
    """dst = data.T, on TensorE into PSUM unless dst or the engine named says otherwise."""
    usual = Engine.vector if dst.space is MemoryRegion.sbuf else Engine.tensor
    issue(NcTranspose(dst, data, engine_or(engine, usual)))
