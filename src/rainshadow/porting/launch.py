"""Knows how to run a script in a process of its own and to bring its record home.

What happens inside that process is child.py's business.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from rainshadow.errors import InputError, ScriptError
from rainshadow.porting import record as kept
from rainshadow.porting.record import RunRecord, load_record, save_record

#: How long an interrupted script may take to write its partial record.
_GRACE_S = 20.0


def check_script(script: Path) -> None:
    """Errors: `InputError` where `script` is no readable Python file."""
    if not script.is_file():
        near = sorted(p.name for p in script.parent.glob("*.py")) if script.parent.is_dir() else []
        listing = ", ".join(near) or "no Python file in that folder"
        raise InputError(f"there is no script {script}", allowed=listing, fix="check the path")
    if not script.name.endswith(".py"):
        raise InputError(f"{script} is not a Python script", allowed="a file named *.py")


class ScriptRun:
    """A script running in its own process. Use `wait` to get its record.

    order: the fields of child.Order.  output, errors: where the script's stdout and stderr go;
    errors defaults to output.
    stdin: hand the script this process's standard input; otherwise it reads end of file.
    share: how many runs share this machine; torch takes that part of the cores.
    """

    def __init__(
        self,
        order: dict[str, Any],
        *,
        output: IO[Any],
        errors: IO[Any] | None = None,
        stdin: bool = False,
        share: int = 1,
    ) -> None:
        self.order = order
        folder = Path(order["folder"])
        folder.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder.parent, prefix=".order-", suffix=".json")
        self._order_file = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(order, stream)
        threads = max(1, (os.cpu_count() or 1) // share)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rainshadow.porting.child", name],
            stdin=None if stdin else subprocess.DEVNULL,
            stdout=output,
            stderr=errors or output,
            env={
                "PYTHONHASHSEED": "0",
                "OMP_NUM_THREADS": str(threads),
                **os.environ,
                "PYTHONUNBUFFERED": "1",
            },
        )

    def wait(self) -> RunRecord:
        """Wait for the end. Ctrl-C ends the script, whose record then says so."""
        try:
            code = self._process.wait()
        except KeyboardInterrupt:
            return self.stop()
        self._order_file.unlink(missing_ok=True)
        return self._record(code)

    def poll(self) -> bool:
        """Whether the script has ended."""
        return self._process.poll() is not None

    def stop(self) -> RunRecord:
        """Interrupt the script as Ctrl-C does; kill it if it does not end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._order_file.unlink(missing_ok=True)
        return self._record(code)

    def _record(self, code: int) -> RunRecord:
        folder = Path(self.order["folder"])
        if (folder / "record.json").exists():
            return load_record(folder)
        if code < 0:
            what = f"ended by signal {signal.Signals(-code).name}"
        else:
            what = f"ended without a record, exit code {code}"
        return save_record(
            RunRecord(
                script=self.order["script"],
                arguments=tuple(self.order["arguments"]),
                target=self.order["target"],
                precision=self.order["precision"],
                status=kept.KILLED,
                error=what,
                exit_code=1,
            ),
            folder,
        )


def require_complete(record: RunRecord) -> None:
    """Errors: `ScriptError` with one line of context where the script did not end normally."""
    if record.partial:
        raise ScriptError(
            f"{Path(record.script).name} {record.status} after {record.num_steps} optimizer "
            f"steps on {record.target} in {record.precision}: {record.error}",
            fix="see the traceback above; what was recorded so far is marked partial",
        )
