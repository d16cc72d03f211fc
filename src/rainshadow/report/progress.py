"""Progress of a long computation on stderr: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_WIDTH = 24
_TERMINAL_S, _FILE_S = 0.1, 5.0


class Meter:
    """Shows progress. quiet until `after_s` have passed, so that short work prints nothing."""

    def __init__(self, *, stream: TextIO | None = None, after_s: float = 1.0) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._next = time.monotonic() + after_s
        self._shown = False

    def show(self, fraction: float, text: str) -> None:
        """fraction: of the whole work, 0 to 1."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (_TERMINAL_S if self._terminal else _FILE_S)
        filled = round(_WIDTH * min(max(fraction, 0.0), 1.0))
        bar = "#" * filled + "." * (_WIDTH - filled)
        line = f"rainshadow: [{bar}] {fraction:4.0%} {text}"
        if self._terminal:
            self._stream.write("\r\x1b[K" + line[:100])
        else:
            self._stream.write(line + "\n")
        self._stream.flush()
        self._shown = True

    def close(self) -> None:
        """Leaves the terminal's line clean."""
        if self._shown and self._terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
