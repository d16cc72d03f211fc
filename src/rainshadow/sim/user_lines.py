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
_INNER_MODULES = ("rainshadow.nki", "rainshadow.sim", "rainshadow.isa", "rainshadow.dtypes")


class UserLines:
    """The lines that a launch has come through, each with a number."""

    def __init__(self) -> None:
        self.lines: list[TraceLine] = []
        self._numbers: dict[tuple[int, int], int] = {}
        #: By id of a code object: the numbers of its instructions, None for code of ours. A code
        #: object's own hash reads all of its bytecode, every time.
        self._sites: dict[int, dict[int, int] | None] = {}
        #: Kept, so that their ids stay theirs.
        self._codes: list[CodeType] = []
        self._earlier: int | None = None

    @contextmanager
    def at(self, number: int) -> Iterator[None]:
        """What runs in this block belongs to a line that was running earlier."""
        before, self._earlier = self._earlier, number
        try:
            yield
        finally:
            self._earlier = before

    def number(self, depth: int = 1) -> int:
        """Number of the line that is running. depth: how many frames from here on are ours."""
        if self._earlier is not None:
            return self._earlier
        frame: FrameType | None = sys._getframe(depth)
        sites = self._sites
        while frame is not None:
            try:
                site = sites[id(frame.f_code)]
            except KeyError:
                site = self._enter(frame)
            if site is not None:
                number = site.get(frame.f_lasti)
                return self._number_of(frame, site) if number is None else number
            frame = frame.f_back
        return self._number_of(sys._getframe(depth), {})

    def here(self) -> SourceLine:
        """The line that is running."""
        if self._earlier is not None:
            return self.lines[self._earlier].source
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and self._enter(frame) is None:
            frame = frame.f_back
        return _source_line(frame or sys._getframe(1))

    def _enter(self, frame: FrameType) -> dict[int, int] | None:
        """What is known of a frame's code object, which may be met for the first time."""
        if id(frame.f_code) in self._sites:
            return self._sites[id(frame.f_code)]
        module = frame.f_globals.get("__name__", "")
        site = None if module.startswith(_INNER_MODULES) else dict[int, int]()
        self._codes.append(frame.f_code)
        self._sites[id(frame.f_code)] = site
        return site

    def _number_of(self, frame: FrameType, site: dict[int, int]) -> int:
        """Number of a frame's line, which several of its instructions may stand in."""
        key = id(frame.f_code), frame.f_lineno
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.lines)
            self.lines.append(TraceLine(_source_line(frame), frame.f_code.co_name))
        site[frame.f_lasti] = number
        return number


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
