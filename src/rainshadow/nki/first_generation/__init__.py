"""The first generation of NKI, `neuronxcc.nki`, over the recorder and instructions of the newer.

Operations return tiles, index tiles of `nl.arange` cut them, `mask=` cuts instructions. AWS has
dropped this generation; most public kernels are written in it.
"""

from __future__ import annotations

from rainshadow.nki.first_generation.launch import (
    Kernel,
    baremetal,
    benchmark,
    jit,
    profile,
    simulate_kernel,
    trace,
)
from rainshadow.nki.first_generation.tensor import Tensor as tensor

__all__ = [
    "Kernel",
    "baremetal",
    "benchmark",
    "jit",
    "profile",
    "simulate_kernel",
    "tensor",
    "trace",
]
