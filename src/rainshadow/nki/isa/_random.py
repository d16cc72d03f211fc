"""The engines' random number generators."""

from __future__ import annotations

from typing import Any

from rainshadow.isa.access import AccessPattern as NkiTensor
from rainshadow.isa.engine import Engine
from rainshadow.isa.instructions.dropout import Dropout
from rainshadow.isa.instructions.rand2 import Rand2
from rainshadow.isa.instructions.rand_get_state import RandGetState
from rainshadow.isa.instructions.rand_set_state import RandSetState
from rainshadow.isa.instructions.rng import Rng
from rainshadow.isa.instructions.set_rng_seed import SetRngSeed
from rainshadow.nki.isa._issue import NkiInstruction, engine_or, issue
from rainshadow.sim.recorder import active_recorder


def rng(dst: NkiTensor, engine: Engine = Engine.vector, name: str | None = None) -> NkiInstruction:
    """dst = random bits."""
    return issue(Rng(dst, active_recorder().generators, engine_or(engine, Engine.vector)))


def rand2(dst: NkiTensor, min: Any, max: Any, name: str | None = None) -> NkiInstruction:
    """dst = uniform random numbers from min to max."""
    return issue(Rand2(dst, min, max, active_recorder().generators))


def dropout(dst: NkiTensor, data: NkiTensor, prob: Any, name: str | None = None) -> NkiInstruction:
    """dst = data, each element zero with probability prob."""
    return issue(Dropout(dst, data, prob, active_recorder().generators))


def set_rng_seed(src_seeds: NkiTensor, name: str | None = None) -> NkiInstruction:
    """Seed VectorE's generator."""
    return issue(SetRngSeed(src_seeds, active_recorder().generators))


def rand_set_state(
    src_seeds: NkiTensor, engine: Engine = Engine.gpsimd, name: str | None = None
) -> NkiInstruction:
    """Load the generators' states."""
    chosen = engine_or(engine, Engine.gpsimd)
    return issue(RandSetState(src_seeds, active_recorder().generators, chosen))


def rand_get_state(
    dst: NkiTensor, engine: Engine = Engine.gpsimd, name: str | None = None
) -> NkiInstruction:
    """dst = the generators' states."""
    return issue(RandGetState(dst, active_recorder().generators, engine_or(engine, Engine.gpsimd)))
