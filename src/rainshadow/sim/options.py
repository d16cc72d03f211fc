"""Knows what a simulation can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rainshadow.errors import SourceLine


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
    seed: of the engines' random number generators.
    """

    data: Literal["full", "none"] = "full"
    exact: bool = False
    record: bool = True
    spill: Literal["reject", "model"] = "reject"
    uninitialized: Literal["nan", "zero"] = "nan"
    zeroed: frozenset[SourceLine] = frozenset()
    max_instructions: int = 200_000_000
    seed: int = 0
