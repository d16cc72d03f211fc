"""Runs bodies of code one at a time, switching where one waits for another.

Each body has a thread of its own, but only one runs: the first until it waits or ends, then the
next that can go on. So a run is deterministic, and bodies that all wait for each other are found at
once, with what each waits for, where, and for whom.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rainshadow.errors import NkiValidationError, SourceLine

#: A deadlock's message lists this many of the bodies in full.
_LISTED = 16


class _Stopped(BaseException):
    """Another body has failed: this one ends quietly. No user code should catch it."""


def _always() -> bool:
    return True


@dataclass(slots=True)
class _Body:
    """Where one body stands. ready: whether it can go on; may_run: set when it is its turn."""

    label: str
    ready: Callable[[], bool] = _always
    waits_for: Callable[[], str] = str
    where: SourceLine | None = None
    ended: bool = False
    may_run: threading.Event = field(default_factory=threading.Event)


class Turns:
    """Bodies that take turns. labels: what messages call each, such as "rank 3"."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._bodies = [_Body(label) for label in labels]
        self._failure: BaseException | None = None

    def label(self, who: int) -> str:
        """What messages call a body."""
        return self._bodies[who].label

    def run(self, bodies: Sequence[Callable[[], Any]]) -> list[Any]:
        """Results of the bodies.

        Errors: the first that a body raises; `NkiValidationError` where all wait for each other.
        """
        if len(bodies) == 1:
            return [bodies[0]()]
        results: list[Any] = [None] * len(bodies)
        threads = [
            threading.Thread(target=self._run_one, args=(who, body, results), daemon=True)
            for who, body in enumerate(bodies)
        ]
        for thread in threads:
            thread.start()
        self._bodies[0].may_run.set()
        try:
            for thread in threads:
                thread.join()
        except BaseException as error:  # an interrupt: no thread may be left waiting
            self._fail(error)
            raise
        if self._failure is not None:
            raise self._failure
        return results

    def wait(
        self,
        who: int,
        ready: Callable[[], bool],
        waits_for: Callable[[], str],
        where: SourceLine | None,
    ) -> None:
        """Let the others run until `ready`. waits_for, where: for the message of a deadlock."""
        if ready():
            return
        body = self._bodies[who]
        body.ready, body.waits_for, body.where = ready, waits_for, where
        self._pass_turn(who)
        self._await_turn(who)
        body.ready = _always

    def give_way(self, who: int) -> None:
        """Let the others run until each waits, gives way too, or ends."""
        self._pass_turn(who)
        self._await_turn(who)

    # -- whose turn it is ----------------------------------------------------------------------

    def _run_one(self, who: int, body: Callable[[], Any], results: list[Any]) -> None:
        try:
            self._await_turn(who)
            results[who] = body()
        except _Stopped:
            pass
        except BaseException as error:
            self._fail(error)
        finally:
            self._bodies[who].ended = True
            self._pass_turn(who)

    def _await_turn(self, who: int) -> None:
        event = self._bodies[who].may_run
        if len(self._bodies) > 1:
            event.wait()
        event.clear()
        if self._failure is not None:
            raise _Stopped

    def _pass_turn(self, who: int) -> None:
        """To the next body that can go on; a failure where none can and not all have ended."""
        if self._failure is not None:
            return
        count = len(self._bodies)
        for step in range(1, count + 1):
            other = self._bodies[(who + step) % count]
            if not other.ended and other.ready():
                other.may_run.set()
                return
        if not all(body.ended for body in self._bodies):
            error = self._deadlock()
            if count == 1:
                raise error
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Keep the first error, and let every body end."""
        self._failure = self._failure or error
        for body in self._bodies:
            body.may_run.set()

    def _deadlock(self) -> NkiValidationError:
        lines = []
        for body in self._bodies[:_LISTED]:
            if body.ended:
                lines.append(f"{body.label} has ended")
            else:
                where = f" at {body.where}" if body.where else ""
                lines.append(f"{body.label} waits for {body.waits_for()}{where}")
        if len(self._bodies) > _LISTED:
            waiting = sum(not body.ended for body in self._bodies)
            lines.append(f"{waiting} of {len(self._bodies)} wait")
        stuck = next(body for body in self._bodies if not body.ended)
        return NkiValidationError(
            "all wait for each other for ever:\n    " + "\n    ".join(lines),
            where=stuck.where,
            fix="let each come to the same barriers, collectives and matching sendrecv calls",
        )
