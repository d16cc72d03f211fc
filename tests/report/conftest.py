"""Timelines of small kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from rainshadow.machine import load_chip
from rainshadow.nki import record
from rainshadow.nki.program import bind_arguments, load_kernel
from rainshadow.sim.timeline import Timeline
from rainshadow.sim.timing import time_trace

KERNELS = Path(__file__).parent / "kernels.py"


def timeline_of(name: str, *arguments: str) -> Timeline:
    kernel = load_kernel(KERNELS, name)
    values = bind_arguments(kernel, arguments, data=True, seed=0)
    chip = load_chip("trainium2")
    return time_trace(record(kernel, kwargs=values, chip=chip).trace, chip)


@pytest.fixture
def scaling() -> Timeline:
    return timeline_of("scale", "x=128x512")


@pytest.fixture
def matmul() -> Timeline:
    return timeline_of("product", "lhs_t=128x64:bfloat16", "rhs=128x512:bfloat16")
