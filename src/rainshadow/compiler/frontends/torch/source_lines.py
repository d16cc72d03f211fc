"""Knows the user's source line behind an operator, from the Python stack or a captured trace."""

from __future__ import annotations

import linecache
import re
import sys
import threading
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from rainshadow.errors import SourceLine

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_PACKAGES = (
    str(Path(torch.__file__).parent),
    str(Path(__file__).parents[3]),
    "<frozen",
    str(Path(threading.__file__).parent) + "/",
)
_SITE = "site-packages"


@cache
def _is_user_file(filename: str) -> bool:
    if filename.startswith("<") or any(filename.startswith(part) for part in _PACKAGES[:2]):
        return False
    # The standard library, but not packages installed below it.
    return _SITE in filename or not filename.startswith(_PACKAGES[3])


def calling_line() -> SourceLine | None:
    """The innermost user line that is being executed.

    Autograd runs backward on its own thread, which has no user frames: then it is the line of the
    main thread, where backward() was called.
    """
    found = _innermost(sys._getframe(1))
    if found is None and threading.current_thread() is not threading.main_thread():
        main = sys._current_frames().get(threading.main_thread().ident or 0)
        found = _innermost(main)
    return found


def _innermost(frame: FrameType | None) -> SourceLine | None:
    while frame is not None:
        filename = frame.f_code.co_filename
        if _is_user_file(filename):
            return source_line(filename, frame.f_lineno)
        frame = frame.f_back
    return None


def source_line(filename: str, number: int) -> SourceLine:
    """A line with its text."""
    return SourceLine(filename, number, linecache.getline(filename, number).strip())


def node_line(node: torch.fx.Node) -> SourceLine | None:
    """The user's line of a captured node, or None if the trace does not say."""
    known: Any = node.meta.get("rainshadow_source")
    if known is not None:
        return known
    places = _FRAME.findall(node.meta.get("stack_trace") or "")
    for filename, number in reversed(places):
        if _is_user_file(filename):
            return source_line(filename, int(number))
    return None
