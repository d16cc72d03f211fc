"""Knows faster ways to execute some instructions; each must give what `meaning` gives.

An entry returns False where it does not apply, and the meaning is executed instead.
tests/laws/test_fast_paths.py compares every entry with its meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

FAST_PATHS: dict[type, Callable[[Any], bool]] = {}
