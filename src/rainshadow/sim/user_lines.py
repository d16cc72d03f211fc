"""Knows which line of the user's kernel is running: the deepest frame that is not ours."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType, TracebackType

from rainshadow.errors import SourceLine
from rainshadow.sim.trace import TraceLine

#: Modules whose frames are the implementation, not the user's kernel.
_INNER_MODULES = ("rainshadow.nki", "rainshadow.sim", "rainshadow.isa")


class UserLines:
    """The lines that a launch has come through, each with a number."""

    def __init__(self) -> None:
        self.lines: list[TraceLine] = []
        self._numbers: dict[tuple[CodeType, int], int] = {}
        self._inner_codes: dict[CodeType, bool] = {}
        self._earlier: int | None = None

    @contextmanager
    def at(self, number: int) -> Iterator[None]:
        """What runs in this block belongs to a line that was running earlier."""
        before, self._earlier = self._earlier, number
        try:
            yield
        finally:
            self._earlier = before

    def number(self) -> int:
        """Number of the line that is running."""
        if self._earlier is not None:
            return self._earlier
        frame = self._frame()
        key = (frame.f_code, frame.f_lineno)
        number = self._numbers.get(key)
        if number is None:
            number = len(self.lines)
            self._numbers[key] = number
            self.lines.append(TraceLine(_source_line(frame), frame.f_code.co_name))
        return number

    def here(self) -> SourceLine:
        """The line that is running."""
        if self._earlier is not None:
            return self.lines[self._earlier].source
        return _source_line(self._frame())

    def _frame(self) -> FrameType:
        frame: FrameType | None = sys._getframe(3)
        inner = self._inner_codes
        while frame is not None:
            code = frame.f_code
            is_inner = inner.get(code)
            if is_inner is None:
                module = frame.f_globals.get("__name__", "")
                is_inner = module.startswith(_INNER_MODULES)
                inner[code] = is_inner
            if not is_inner:
                return frame
            frame = frame.f_back
        return sys._getframe(3)


def user_line(traceback: TracebackType | None) -> SourceLine | None:
    """The deepest line of a user's kernel in a traceback."""
    found = None
    while traceback is not None:
        if not traceback.tb_frame.f_globals.get("__name__", "").startswith(_INNER_MODULES):
            found = _source_line(traceback.tb_frame, traceback.tb_lineno)
        traceback = traceback.tb_next
    return found


def _source_line(frame: FrameType, line: int | None = None) -> SourceLine:
    file = frame.f_code.co_filename
    line = line or frame.f_lineno
    return SourceLine(file, line, linecache.getline(file, line).strip())
