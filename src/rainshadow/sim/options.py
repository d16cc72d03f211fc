"""Knows what a simulation can be asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from rainshadow.errors import InputError, SourceLine

SPILL = ("reject", "model")
UNINITIALIZED = ("nan", "zero")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimOptions:
    """How a kernel is executed.

    data: "full" executes the arithmetic, "none" records shapes and addresses only.
    exact: execute every instruction by its NumPy meaning, never by a faster equivalent.
    record: keep a Trace; off, the kernel only computes.
    spill: where tiles do not fit, "reject" the kernel, or "model" a compiler that moves some away
    and back; kernels of the first generation always had one that did.
    uninitialized: what memory holds before its first write: "nan" finds forgotten writes.
    zeroed: lines whose tensors start as zeros all the same, and share their bytes with none.
    max_instructions: a kernel that executes more is taken to be endless.
    max_idle_s: so is one whose own Python computes for so many seconds without an instruction.
    seed: of the engines' random number generators, and of rounding at random.
    rounding: of results to narrower floats: to "nearest" even, or "stochastic".
    beyond_range: what ScalarE's functions give outside the ranges that AWS documents: "exact"
    values, "nan", or an "error". sin goes on with its table's cubic, as documented.
    precise: tensors of bfloat16 and float8 hold those; off, they hold float32, which tells a
    wrong kernel from a rounded one. Views of them as other dtypes are then not modelled.
    """

    data: Literal["full", "none"] = "full"
    exact: bool = False
    record: bool = True
    spill: Literal["reject", "model"] = "reject"
    uninitialized: Literal["nan", "zero"] = "nan"
    zeroed: frozenset[SourceLine] = frozenset()
    max_instructions: int = 200_000_000
    max_idle_s: float = 60.0
    seed: int = 0
    rounding: Literal["nearest", "stochastic"] = "nearest"
    beyond_range: Literal["exact", "nan", "error"] = "exact"
    precise: bool = True

    @property
    def may_be_fast(self) -> bool:
        """Whether instructions may be executed by faster equivalents of their meaning."""
        return self.precise and not self.exact

    @staticmethod
    def of_environment() -> SimOptions:
        """What AWS's variables ask for, and ours where AWS has none.

        NKI_PRECISE_FP=0, NEURON_RT_STOCHASTIC_ROUNDING_EN=1 and its _SEED; RAINSHADOW_SPILL=model,
        RAINSHADOW_UNINITIALIZED=zero.
        Errors: `InputError` for a value that none of them has.
        """
        environ = os.environ
        stochastic = environ.get("NEURON_RT_STOCHASTIC_ROUNDING_EN") == "1"
        seed = environ.get("NEURON_RT_STOCHASTIC_ROUNDING_SEED", "0")
        if not seed.isdecimal():
            raise InputError(
                f"NEURON_RT_STOCHASTIC_ROUNDING_SEED={seed}", allowed="a number, 0 or more"
            )
        spill = _chosen("RAINSHADOW_SPILL", SPILL)
        uninitialized = _chosen("RAINSHADOW_UNINITIALIZED", UNINITIALIZED)
        return SimOptions(
            spill="model" if spill == "model" else "reject",
            uninitialized="zero" if uninitialized == "zero" else "nan",
            rounding="stochastic" if stochastic else "nearest",
            precise=environ.get("NKI_PRECISE_FP") != "0",
            seed=int(seed),
        )


def _chosen(variable: str, allowed: tuple[str, ...]) -> str:
    """What a variable of the environment says; the first of what it may say unless it is set."""
    value = os.environ.get(variable, allowed[0])
    if value not in allowed:
        raise InputError(f"{variable}={value}", allowed=" or ".join(allowed))
    return value
