"""TensorE's functions, and the quantisation of its MX operands."""

from __future__ import annotations

from typing import Any

from rainshadow.isa import rules
from rainshadow.isa.access import AccessPattern as NkiTensor
from rainshadow.isa.engine import Engine
from rainshadow.isa.instructions.nc_matmul import NcMatmul
from rainshadow.isa.instructions.nc_matmul_mx import NcMatmulMx
from rainshadow.isa.instructions.nc_transpose import NcTranspose
from rainshadow.isa.instructions.quantize_mx import QuantizeMx
from rainshadow.isa.integers import wholes
from rainshadow.isa.memory import Space as MemoryRegion
from rainshadow.isa.started import PARTLY
from rainshadow.nki.constants import (
    matmul_perf_mode,
)
from rainshadow.nki.isa._issue import NkiInstruction, engine_or, issue
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
) -> NkiInstruction:
    """dst (+)= stationary.T @ moving. accumulate=None: add where a matmul has written dst."""
    adds, started = _sum_of(dst, accumulate)
    mode = matmul_perf_mode(perf_mode).value
    tile = _pair(tile_position, "tile_position"), _pair(tile_size, "tile_size")
    bits = bool(is_transpose) and _is_exact()
    return issue(NcMatmul(dst, stationary, moving, adds, is_transpose, mode, *tile, bits, started))


def _sum_of(dst: Any, accumulate: Any) -> tuple[bool | str, Any]:
    """How a matmul adds to dst, and to which elements if to some."""
    if accumulate is not None:
        rules.require_flag("nc_matmul", "accumulate", accumulate)
        accumulate = bool(accumulate)
    if not isinstance(dst, NkiTensor) or dst.space is not MemoryRegion.psum:
        return bool(accumulate), None
    started = active_recorder().start_sum(dst)
    if accumulate is not None or isinstance(started, bool):
        return started if accumulate is None else accumulate, None
    return PARTLY, started


def _is_exact() -> bool:
    """Whether TensorE transposes bits; before NeuronCore-v3 it multiplies."""
    return active_recorder().chip.generation != "gen2"


def _pair(given: Any, what: str) -> tuple[int, ...]:
    return () if given is None or given == () else wholes(given, what)


def nc_matmul_mx(
    dst: NkiTensor,
    stationary: NkiTensor,
    moving: NkiTensor,
    stationary_scale: NkiTensor,
    moving_scale: NkiTensor,
    tile_position: Any = None,
    tile_size: Any = None,
    accumulate: bool | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """dst (+)= stationary.T @ moving of packed MX operands and their scales."""
    adds, started = _sum_of(dst, accumulate)
    return issue(
        NcMatmulMx(
            dst, stationary, moving, stationary_scale, moving_scale, adds,
            _pair(tile_position, "tile_position"), _pair(tile_size, "tile_size"), started,
        )
    )  # fmt: skip


def quantize_mx(
    dst: NkiTensor, src: NkiTensor, dst_scale: NkiTensor, name: str | None = None
) -> NkiInstruction:
    """dst, dst_scale = src as packed MXFP8."""
    return issue(QuantizeMx(dst, src, dst_scale))


def nc_transpose(
    dst: NkiTensor, data: NkiTensor, engine: Engine = Engine.unknown, name: str | None = None
) -> NkiInstruction:
    """dst = data.T, on TensorE into PSUM unless dst or the engine named says otherwise."""
    on_tensor = dst.space is MemoryRegion.psum and data.space is MemoryRegion.sbuf
    chosen = engine_or(engine, Engine.tensor if on_tensor else Engine.vector)
    return issue(NcTranspose(dst, data, chosen, spreads=not _is_exact()))
