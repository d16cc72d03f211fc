"""Knows how to run a user's script inside this process, redirected and watched.

`python -m rainshadow.porting.child ORDER.json` is what launch.py starts; the order names the
script, its arguments, the target and the folder for the record. The script sees what it would
see under `python script.py`: its own argv, its folder first on sys.path, the user's working
directory, `__main__`.
"""

from __future__ import annotations

import atexit
import json
import os
import platform
import random
import runpy
import signal
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rainshadow
from rainshadow.errors import RainshadowError, SourceLine
from rainshadow.nki.install import nki_names
from rainshadow.porting import record as kept
from rainshadow.porting.cuda_namespace import DeviceFacts
from rainshadow.porting.mixed_precision import PrecisionPolicy
from rainshadow.porting.record import RunRecord, save_record
from rainshadow.porting.redirect import Redirection
from rainshadow.porting.ties import TieLog, code_owner, user_line
from rainshadow.porting.watch import StepLimitReached, TrainingWatch


@dataclass(frozen=True, kw_only=True)
class Order:
    """One run. target: "cpu" or "rainshadow".  precision: "bf16" or "fp32".

    host: whether an operator without a lowering may run on the host.
    seed: what the random numbers of torch, NumPy and `random` start from in a script that seeds
    none of them; None leaves them to chance, as `python script.py` does.
    """

    script: str
    arguments: tuple[str, ...]
    target: str
    precision: str
    folder: str
    chip: str = "trainium2"
    step_limit: int | None = None
    host: bool = True
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a script ended. See record.RunRecord."""

    status: str
    error: str = ""
    exit_code: int = 0


def run(order: Order) -> RunRecord:
    """Run the script to its end, write the record and return it."""
    with tempfile.TemporaryDirectory(prefix="rainshadow-") as scratch:
        return save_record(_run(order, Path(scratch)), Path(order.folder))


def _run(order: Order, scratch: Path) -> RunRecord:
    log = TieLog()
    began_s = time.perf_counter()
    if order.target == "cpu":
        record = _run_on_host(order, log)
    else:
        from rainshadow.porting.on_chip import run_on_chip

        record = run_on_chip(order, log, scratch)
    return replace(
        record,
        ties=log.ties(),
        wall_s=time.perf_counter() - began_s,
        versions={
            "rainshadow": rainshadow.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    )


def _run_on_host(order: Order, log: TieLog) -> RunRecord:
    """CPU, eager; the exact reference is fp32 where the script asks for mixed precision."""
    watch = TrainingWatch(step_limit=order.step_limit, count_flops=True)
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    redirection = Redirection(
        "cpu",
        facts=DeviceFacts(name="CPU reference of Rainshadow", memory_bytes=memory_bytes),
        policy=PrecisionPolicy(autocast=order.precision == "bf16"),
        backend=None,
        log=log,
        targets_seen=watch.targets_seen,
    )
    with redirection, watch:
        ending = execute(order)
    return watched_record(order, watch, ending)


def watched_record(order: Order, watch: TrainingWatch, ending: Ending) -> RunRecord:
    """What the watch saw, as a record."""
    return RunRecord(
        script=order.script,
        arguments=order.arguments,
        target=order.target,
        precision=order.precision,
        status=ending.status,
        error=ending.error,
        exit_code=ending.exit_code,
        losses=watch.losses,
        loss_step=watch.loss_step,
        step_wall_s=watch.step_wall_s,
        targets_per_step=watch.targets_per_step,
        gradients=watch.gradients,
        num_parameters=watch.num_parameters,
        model_flops=watch.model_flops,
    )


def execute(order: Order) -> Ending:
    """Run the script as `__main__`; whatever it raises is printed and becomes an Ending."""
    sys.argv = [order.script, *order.arguments]
    sys.path[0] = str(Path(order.script).resolve().parent)
    if order.seed is not None:
        random.seed(order.seed)
        np.random.seed(order.seed)  # the script may draw from the global generator
        torch.manual_seed(order.seed)
    try:
        with nki_names():
            runpy.run_path(order.script, run_name="__main__")
    except StepLimitReached:
        return Ending(status=kept.STEP_LIMIT)
    except SystemExit as error:
        return _exited(error)
    except KeyboardInterrupt as error:
        _show(error)
        return Ending(status=kept.INTERRUPTED, error="KeyboardInterrupt", exit_code=1)
    except RainshadowError as error:
        _show(error)
        return Ending(status=kept.RAISED, error=str(error), exit_code=error.exit_code)
    except Exception as error:
        _show(error)
        last = "".join(traceback.format_exception_only(error)).strip()
        return Ending(status=kept.RAISED, error=_with_hint(last, error), exit_code=1)
    finally:
        sys.stdout.flush()
    return Ending(status=kept.FINISHED)


def _exited(error: SystemExit) -> Ending:
    """As the interpreter has it: None and 0 are success, a text is printed and is failure."""
    if error.code in (None, 0):
        return Ending(status=kept.FINISHED)
    if isinstance(error.code, int):
        what = f"the script ended itself with exit code {error.code}"
    else:
        print(error.code, file=sys.stderr)
        what = f"the script ended itself: {error.code}"
    where = _raised_at(error)
    return Ending(status=kept.EXITED, error=f"{what}\n  at {where}" if where else what, exit_code=1)


def _with_hint(last: str, error: BaseException) -> str:
    if isinstance(error, EOFError):
        return last + "\n  the script reads standard input, which is closed for it: give it a file"
    if _is_our_fault(error):
        return f"a fault inside Rainshadow, not in the script: {last}"
    return last


def _raised_at(error: BaseException) -> SourceLine | None:
    frames = [f for f, _ in traceback.walk_tb(error.__traceback__)]
    return next((w for f in reversed(frames) if (w := user_line(f))), None)


def _is_our_fault(error: BaseException) -> bool:
    """Whether an error came up inside Rainshadow without being one of its messages."""
    if isinstance(error, RainshadowError | KeyboardInterrupt):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and code_owner(frames[-1].filename) == "rainshadow"


def _show(error: BaseException) -> None:
    """Print the traceback as Python would have, without the frames of the launcher.

    Rainshadow's own frames are left out too, unless the fault is Rainshadow's; one of its messages
    comes with the user's frames only.
    """
    shown: Any = traceback.TracebackException.from_exception(error)
    ours, message = _is_our_fault(error), isinstance(error, RainshadowError)
    part = shown
    while part is not None:
        owned = [(code_owner(frame.filename), frame) for frame in part.stack]
        frames = [
            frame
            for owner, frame in owned
            if owner == "user" or (not message and (ours or owner != "rainshadow"))
        ]
        first = next((i for i, f in enumerate(frames) if code_owner(f.filename) == "user"), 0)
        part.stack = traceback.StackSummary.from_list(frames[first:])
        part = part.__cause__ or (None if part.__suppress_context__ else part.__context__)
    print("".join(shown.format()), end="", file=sys.stderr)


def _interrupt_once(number: int, frame: Any) -> None:
    """Ctrl-C ends the script; another one must not end the writing of its record."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """Read the order, run it."""
    signal.signal(signal.SIGINT, _interrupt_once)
    entry = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    order = Order(**{**entry, "arguments": tuple(entry["arguments"])})
    return run(order).exit_code


def leave(code: int) -> None:
    """End the process as the interpreter does, but without taking torch's threads apart.

    An interrupted backward leaves a thread that torch cannot join; it would abort with a message.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    # The script under test owns `__main__` from here on; nothing else of this module is there.
    from rainshadow.porting import child

    child.leave(child.main())
