"""Knows when the Python of a kernel goes on without ever reaching an instruction.

Instructions and turns of NKI's loops are counted (`sim.step_limit`); a plain `while True: pass`
makes none to count. So a thread looks on, and stops a kernel that it finds in the user's own lines
again and again while no instruction is added. What counts is the processor's time: one who
waits in a debugger, or on a busy machine, is not endless.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

#: Looks in the time that a kernel has, at least.
_LOOKS = 20
_OURS = str(Path(__file__).resolve().parents[1])


class EndlessKernelError(BaseException):
    """Raised in a kernel's thread, at the line where it is. No user code should catch it."""


@contextmanager
def stops_idle_code(runner: CodeType, steps: Callable[[], int], limit_s: float) -> Iterator[None]:
    """Inside, user code that computes for limit_s while `steps` stands still ends.

    runner: the code of ours that calls the user's.
    Errors: `EndlessKernelError`, in this thread.
    """
    ended = threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(threading.get_ident(), runner, steps, limit_s, ended), daemon=True
    )
    watcher.start()
    try:
        yield
    finally:
        ended.set()


def _watch(
    thread: int,
    runner: CodeType,
    steps: Callable[[], int],
    limit_s: float,
    ended: threading.Event,
) -> None:
    computed_s, before, then = 0.0, -1, time.process_time()
    pause = min(limit_s / _LOOKS, threading.TIMEOUT_MAX)
    while not ended.wait(pause):
        count, now = steps(), time.process_time()
        idle = count == before and _is_in_user_code(sys._current_frames().get(thread), runner)
        computed_s = computed_s + now - then if idle else 0.0
        before, then = count, now
        if computed_s >= limit_s and not ended.is_set():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread), ctypes.py_object(EndlessKernelError)
            )
            return


def _is_in_user_code(frame: FrameType | None, runner: CodeType) -> bool:
    """Whether no call of ours is under way but the one that runs the kernel."""
    while frame is not None and not frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    return frame is not None and frame.f_code is runner
