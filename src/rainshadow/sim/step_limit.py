"""Knows when a kernel is taken to be endless."""

from __future__ import annotations

from collections.abc import Callable

from rainshadow.errors import InputError


class StepLimit:
    """Counts turns of loops that only their own condition ends.

    most: of instructions, of allocations and of turns.  located: gives an error the user's line.
    """

    def __init__(self, kernel: str, most: int, located: Callable[[InputError], Exception]) -> None:
        self.most = most
        self._kernel = kernel
        self._located = located
        self._turns = 0

    def count_turn(self) -> None:
        """A turn of a loop that only its own condition ends."""
        self._turns += 1
        if self._turns > self.most:
            raise self.endless("iterations of while loops")

    def expect_turns(self, count: int) -> None:
        """A loop is to begin that turns so often."""
        if count > self.most:
            raise self._located(
                InputError(
                    f"a loop of {count} iterations in kernel {self._kernel}",
                    allowed=f"{self.most}, as SimOptions.max_instructions says",
                )
            )

    def endless(self, what: str) -> Exception:
        """The error of a kernel that goes on and on."""
        return self._located(
            InputError(
                f"kernel {self._kernel} has executed {self.most} {what}",
                fix="end the loop, or raise SimOptions.max_instructions",
            )
        )
