"""Knows the software that ran or will run a job: what it fuses and how much of a chip it gets.

data/calibration/software.toml holds one table per stack and vintage; the fitted numbers in it come
from tools/fit_training.py and say on which points they were fitted.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from rainshadow.errors import UnknownNameError


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """A training stack of some year.

    fused_attention: scores stay on the chip.  vector_traffic: elementwise bytes over those of
    fully fused kernels.  bf16_gradients: gradients are kept and summed in 16 bits.  efficiency:
    matmul rate over the family's.
    follows: the stack it grew out of, whose rate a fit expects of it before it has seen any run.
    attention: rate of its attention kernels over those of 2024 and later.  experts: the same of
    grouped expert matmuls.  expert_casts: share of the traffic of casting routed tokens below 16
    bits that kernels of their own do.  hidden_data: overlap of data-parallel collectives, None as
    fitted.
    selective_matmuls: share of matmuls that its selective recomputation runs again.
    launch: share of the host's time per layer that is left, 0 where whole steps are compiled or
    captured as graphs.  fp8_gather: weights for fp8 and narrower matmuls are gathered in 8 bits.
    single_rail: collectives between nodes use one network interface a node.
    families: chip families it runs on.
    """

    name: str
    title: str
    year: int
    families: tuple[str, ...]
    fused_attention: bool = True
    vector_traffic: float = 1.0
    efficiency: float = 1.0
    bf16_gradients: bool = False
    attention: float = 1.0
    experts: float = 1.0
    expert_casts: float = 1.0
    hidden_data: float | None = None
    launch: float = 1.0
    follows: str = ""
    selective_matmuls: float = 0.0
    single_rail: bool = False
    fp8_gather: bool = False
    source: str = ""
    note: str = ""


@cache
def _stacks() -> dict[str, Software]:
    text = (resources.files("rainshadow") / "data/calibration/software.toml").read_text("utf-8")
    return {
        name: Software(name=name, **{**raw, "families": tuple(raw["families"])})
        for name, raw in tomllib.loads(text).items()
    }


def list_software() -> list[str]:
    """Names of all stacks."""
    return list(_stacks())


def load_software(name: str) -> Software:
    """A stack by name.

    Errors: `UnknownNameError`.
    """
    if name not in _stacks():
        raise UnknownNameError("software", name, _stacks())
    return _stacks()[name]


def newest_software(family: str) -> Software:
    """The newest stack for chips of a family; what a plan assumes unless it is told otherwise.

    Errors: `UnknownNameError` for a family no stack runs on.
    """
    fitting = [stack for stack in _stacks().values() if family in stack.families]
    if not fitting:
        known = sorted({family for stack in _stacks().values() for family in stack.families})
        raise UnknownNameError("chip family with training software", family, known)
    return max(fitting, key=lambda stack: stack.year)
