"""Runs the cores of one launch, one at a time, switching where one waits for another.

Every core executes the kernel's Python on a thread of its own, but only one thread runs: core 0
until it waits or ends, then the next. So a launch is deterministic, and cores that all wait for
each other are found at once. Memory that cores share, and messages between them, are kept here.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any

from rainshadow.errors import NkiValidationError


class _Stopped(BaseException):
    """Another core has failed: this one ends quietly. No user code should catch it."""


class Cores:
    """`count` cores. waiting: what each core waits for, "" for one that runs or has ended."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.waiting = [""] * count
        self._ready: list[Callable[[], bool]] = [_always] * count
        self._ended = [False] * count
        self._turn = 0
        self._failure: BaseException | None = None
        self._condition = threading.Condition()
        self._messages: dict[Any, deque[Any]] = defaultdict(deque)
        self._arrived: dict[Any, int] = defaultdict(int)
        self._shared: dict[Any, Any] = {}
        self._num_hbm = 0

    # -- running -------------------------------------------------------------------------------

    def run(self, bodies: Sequence[Callable[[], Any]]) -> list[Any]:
        """Results of the bodies, one a core.

        Errors: the first that a body raises; `NkiValidationError` where all wait for each other.
        """
        if self.count == 1:
            return [bodies[0]()]
        results: list[Any] = [None] * self.count
        threads = [
            threading.Thread(target=self._body, args=(rank, body, results), daemon=True)
            for rank, body in enumerate(bodies)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failure is not None:
            raise self._failure
        return results

    def _body(self, rank: int, body: Callable[[], Any], results: list[Any]) -> None:
        try:
            self._await_turn(rank)
            results[rank] = body()
        except _Stopped:
            pass
        except BaseException as error:
            self._failure = self._failure or error
        finally:
            with self._condition:
                self._ended[rank] = True
                self._pass_turn(rank)

    def _await_turn(self, rank: int) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._turn == rank or self._failure is not None)
        if self._failure is not None:
            raise _Stopped

    def _pass_turn(self, rank: int) -> None:
        """To the next core that can go on; a failure where none can and not all have ended."""
        others = [(rank + step) % self.count for step in range(1, self.count + 1)]
        able = [other for other in others if not self._ended[other] and self._ready[other]()]
        if able:
            self._turn = able[0]
        elif not all(self._ended) and self._failure is None:
            self._failure = self._deadlock()
        self._condition.notify_all()

    def _deadlock(self) -> NkiValidationError:
        lines = [
            f"core {rank} {'has ended' if self._ended[rank] else 'waits for ' + what}"
            for rank, what in enumerate(self.waiting)
        ]
        return NkiValidationError(
            "the cores wait for each other for ever: " + "; ".join(lines),
            fix="let every core reach the same barriers and the matching sendrecv calls",
        )

    def wait(self, rank: int, ready: Callable[[], bool], what: str) -> None:
        """Let the other cores run until `ready`. what: for the message of a deadlock."""
        if ready():
            return
        with self._condition:
            self.waiting[rank], self._ready[rank] = what, ready
            self._pass_turn(rank)
        self._await_turn(rank)
        self.waiting[rank], self._ready[rank] = "", _always

    # -- what cores have in common -------------------------------------------------------------

    def shared(self, key: Any, make: Callable[[], Any]) -> Any:
        """What the first core to ask for `key` has made."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def new_hbm_ordinal(self) -> int:
        """A number for an HBM tensor that no other tensor of any core has: -2, -3, ..."""
        self._num_hbm += 1
        return -1 - self._num_hbm

    def exchange(self, rank: int, send_to: int, receive_from: int, pipe: Any, data: Any) -> Any:
        """Send `data`, and wait for what core `receive_from` sends by the same pipe."""
        self._messages[pipe, rank, send_to].append(data)
        inbox = self._messages[pipe, receive_from, rank]
        self.wait(rank, lambda: bool(inbox), f"sendrecv {pipe!r} from core {receive_from}")
        return inbox.popleft()

    def barrier(self, rank: int, ranks: Sequence[int], number: int) -> None:
        """Wait until all of `ranks` have come to their barrier `number` with each other."""
        key = (tuple(ranks), number)
        self._arrived[key] += 1
        self.wait(rank, lambda: self._arrived[key] >= len(ranks), f"core_barrier {number + 1}")


def _always() -> bool:
    return True
