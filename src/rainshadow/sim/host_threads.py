"""Keeps the arithmetic of a simulation on one thread of the host.

A tile is small: while other processes use the CPU, the threads of NumPy's BLAS and of PyTorch wait
for each other ten times as long as one computes (`python benchmarks/instructions.py`). And sums do
not depend on how many CPUs the host has.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, and in threads started inside, NumPy's BLAS and PyTorch use one thread."""
    torch: Any = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 1
    with _controller().limit(limits=1, user_api="blas"):
        try:
            if before > 1:
                torch.set_num_threads(1)
            yield
        finally:
            if before > 1:
                torch.set_num_threads(before)


@cache
def _controller() -> ThreadpoolController:
    """Looking for the process's libraries takes milliseconds; NumPy's is loaded from the start."""
    return ThreadpoolController()
