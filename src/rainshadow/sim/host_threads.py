"""Keeps the matrix products of a simulation on one thread of the host.

A product of tiles is small: while other processes use the CPU, its threads wait for each other ten
times as long as one computes (`python benchmarks/instructions.py`). And sums do not depend on how
many CPUs the host has.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


def one_thread() -> AbstractContextManager[Any]:
    """Inside, NumPy's BLAS uses one thread; afterwards as many as before."""
    return _controller().limit(limits=1, user_api="blas")  # type: ignore[no-any-return]


@cache
def _controller() -> ThreadpoolController:
    """Looking for the process's libraries takes milliseconds; NumPy's is loaded from the start."""
    return ThreadpoolController()
