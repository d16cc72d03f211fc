"""Knows the order that a kernel asks for by name: `kernel.with_schedule([(later, earlier)])`.

Source: AWS Neuron docs 2.32, "How to use the NKI scheduling APIs".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rainshadow.errors import NkiValidationError
from rainshadow.isa.integers import shown
from rainshadow.sim.recorder import Recorder

#: (name of the instruction that waits, names of those that it waits for)
Edge = tuple[str, tuple[str, ...]]


def edges_of(schedule: Any) -> tuple[Edge, ...]:
    """What `with_schedule` is given: pairs of a name, and a name or a list of names.

    Errors: `NkiValidationError` for anything else.
    """
    allowed = "pairs of names: (instruction, the one or the list of those it runs after)"
    if isinstance(schedule, str) or not isinstance(schedule, Iterable):
        raise NkiValidationError(f"with_schedule of {shown(schedule)}", allowed=allowed)
    edges = []
    for pair in schedule:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise NkiValidationError(f"with_schedule: edge {pair!r}", allowed=allowed)
        name, producers = pair
        names = [producers] if isinstance(producers, str) else producers
        if not isinstance(name, str) or not all(isinstance(each, str) for each in names):
            raise NkiValidationError(f"with_schedule: edge {pair!r}", allowed=allowed)
        edges.append((name, tuple(names)))
    return tuple(edges)


def apply(recorder: Recorder, edges: tuple[Edge, ...]) -> None:
    """Enter the edges as dependencies of what the kernel has issued.

    Errors: `NkiValidationError` for a name that no instruction has, and for an edge against the
    program's order, which no engine that runs its instructions in order can keep.
    """
    rows = recorder.named_rows
    for name, producers in edges:
        for each in (name, *producers):
            if each not in rows:
                raise NkiValidationError(
                    f"with_schedule: no instruction of {recorder.kernel} is named {each!r}",
                    allowed=", ".join(sorted(rows)) or "names given by name=",
                    fix="give the instruction name=, or correct the edge",
                )
        for producer in producers:
            if rows[producer] >= rows[name]:
                raise NkiValidationError(
                    f"with_schedule: {name!r} after {producer!r}, which is issued later",
                    allowed="edges to instructions that the kernel issues earlier",
                    fix="issue them in that order",
                )
            recorder.depend(rows[name], rows[producer])
