"""Knows every error Rainshadow raises and the one form their messages have.

RainshadowError
├── InputError                 bad input: exit code 1
│   ├── UnknownNameError       a name that does not exist, with the nearest ones that do
│   ├── MachineDataError       a data file that breaks its schema: all faults at once
│   └── ScriptError            the user's script raised, exited or was interrupted
├── NkiValidationError         a kernel breaks a hardware rule: exit code 1
│   ├── CapacityError          SBUF, PSUM or HBM is full
│   ├── OutOfBoundsError       an access past a tensor
│   └── UninitializedReadError memory read before it was written
├── NotModelled                something Rainshadow has no figure or rule for: exit code 2
└── CheckFailed                a check the user asked for failed: exit code 3

A message says what was asked, what is allowed, where, and what to change.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of a user's file."""

    file: str
    line: int
    text: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}"
        return f"{place}: {self.text}" if self.text else place


class RainshadowError(Exception):
    """Base of all errors.

    what: what was asked.  allowed: what is allowed, with number and unit.  where: the user's
    file and line.  fix: what to change.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        allowed: str | None = None,
        where: SourceLine | str | None = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.allowed = allowed
        self.where = where
        self.fix = fix

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross process borders whatever their constructor takes."""
        return _restore, (type(self), dict(self.__dict__))

    def __str__(self) -> str:
        parts = [self.what]
        if self.allowed:
            parts.append(f"allowed: {self.allowed}")
        if self.where:
            parts.append(f"at {self.where}")
        if self.fix:
            parts.append(f"to mend it: {self.fix}")
        return "\n  ".join(parts)


def _restore(cls: type[RainshadowError], state: dict[str, object]) -> RainshadowError:
    error = cls.__new__(cls, state["what"])
    error.__dict__.update(state)
    return error


class InputError(RainshadowError):
    """Bad input from the user."""


class UnknownNameError(InputError):
    """A name that does not exist; the message lists what does."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(set(known))
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else "type one of those listed"
        super().__init__(f"unknown {kind} {name!r}", allowed=", ".join(names), fix=hint)


class MachineDataError(InputError):
    """A data file that breaks its schema. faults: one sentence each, with file and key."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        number = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        super().__init__("\n  ".join([f"{number} in the data files:", *self.faults]))


class ScriptError(InputError):
    """The user's script did not end normally."""


class NkiValidationError(RainshadowError):
    """A kernel breaks a rule of the hardware; NKI's name."""


class CapacityError(NkiValidationError):
    """SBUF, PSUM or HBM is full."""


class OutOfBoundsError(NkiValidationError):
    """An access past a tensor.

    flat_index: (element asked for, elements there are) where a tile of indices has asked.
    """

    flat_index: tuple[int, int] | None = None


class NeedsData(NkiValidationError):  # noqa: N818 - a statement about the run
    """A kernel looks at a value that a simulation without data does not have."""


class UninitializedReadError(NkiValidationError):
    """Memory read before it was written."""


class NotModelled(RainshadowError):  # noqa: N818 - a statement about the model
    """Something Rainshadow has no figure, rule or implementation for."""

    exit_code = 2


class CheckFailed(RainshadowError):  # noqa: N818 - the outcome of a check
    """A check that the user asked for failed."""

    exit_code = 3
