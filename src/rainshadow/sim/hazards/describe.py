"""Turns conflicts into findings: one for all that happen at the same lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rainshadow.errors import SourceLine
from rainshadow.findings import Finding, Place
from rainshadow.sim.hazards.lines import Lines
from rainshadow.sim.hazards.rules import (
    LEFTOVER_READ,
    PARTLY_UNINITIALIZED,
    UNINITIALIZED_READ,
    UNWRITTEN_OPERAND,
    Conflicts,
)
from rainshadow.sim.hazards.touches import Launch
from rainshadow.sim.trace import TraceTensor


@dataclass(frozen=True, slots=True)
class _Text:
    """A rule in words. {op}, {size}, {tensor}, {core}: of the access; {other}: the other tensor."""

    message: str
    other: str
    fix: str
    severity: Literal["error", "warning"] = "error"


_TEXTS = {
    UNINITIALIZED_READ: _Text(
        "{op} reads {size} of {tensor} that nothing has written before",
        "",
        "write all of the tensor first, or read only the part that is written",
    ),
    LEFTOVER_READ: _Text(
        "{op} reads {size} of {tensor} that it never wrote: they hold what {other} left there",
        "left there",
        "write all of the tensor first, or read through a view of the one that was written",
        "warning",
    ),
    UNWRITTEN_OPERAND: _Text(
        "{op} reads {size} of {tensor} that it never wrote; no result changes with what was there, "
        "but what is made of it goes to a result, or is written over",
        "left there",
        "write the tensor before it is read, or leave the instruction out",
        "warning",
    ),
    PARTLY_UNINITIALIZED: _Text(
        "{op} reads {size} of {tensor} that only an indirect write may have written, "
        "and the results depend on what was there before",
        "may be written",
        "write all of the tensor first",
    ),
    "uninitialized-result": _Text(
        "{size} of the result {tensor} are never written",
        "",
        "write every element of what the kernel returns",
    ),
    "accumulate-uninitialized": _Text(
        "{op} with accumulate=True adds to {size} of {tensor} that nothing has written: "
        "undefined on every chip",
        "",
        "start the group with accumulate=False, or leave accumulate out",
    ),
    "accumulate-foreign": _Text(
        "{op} with accumulate=True adds to {size} of {tensor} that no matmul has written: "
        "undefined on NeuronCore-v2 and v3",
        "written",
        "start the group with a matmul with accumulate=False, and add the rest afterwards",
    ),
    "overwritten": _Text(
        "{op} reads {size} of {tensor} that {other} at an overlapping address has written over",
        "written over",
        "give the two tensors addresses apart, or end the use of one before the other's starts",
    ),
    "core-race": _Text(
        "{op} on core {core} and an access of the other core touch the same {size} of {tensor}, "
        "and no barrier orders them",
        "accessed by the other core",
        "put nisa.core_barrier(data=..., cores=(0, 1)) on that tensor between the two",
    ),
}


def describe(launch: Launch, conflicts: Conflicts) -> Iterator[Finding]:
    """Findings of one rule, the first example of each in words."""
    if not len(conflicts.row):
        return
    lines = Lines.of(launch)
    made = lines.of_tensors[conflicts.tensor]
    keys = np.stack(
        [lines.of_rows[conflicts.row], lines.of_rows[conflicts.other_row], made], axis=1
    )
    keys[conflicts.other_row < 0, 1] = -1
    _, first, counts = np.unique(keys, axis=0, return_index=True, return_counts=True)
    for index, count in zip(first.tolist(), counts.tolist(), strict=True):
        yield _finding(launch, conflicts, index, count)


def _finding(launch: Launch, conflicts: Conflicts, index: int, count: int) -> Finding:
    text = _TEXTS[conflicts.rule]
    row, other_row = int(conflicts.row[index]), int(conflicts.other_row[index])
    tensor = launch.tensor_of(int(conflicts.tensor[index]))
    other = launch.tensor_of(int(conflicts.other_tensor[index])) if other_row >= 0 else None
    where = _line(launch, row) or tensor.line or SourceLine("", 0)
    message = text.message.format(
        op=_opcode(launch, row),
        size=_size(int(conflicts.size_bytes[index])),
        tensor=_label(tensor),
        core=int(launch.core_of(row)),
        other="" if other is None else _label(other),
    )
    if count > 1:
        message += f" ({count} times)"
    others = []
    accessed = _line(launch, other_row) if other_row >= 0 else None
    if accessed is not None:
        others.append(_place(text.other, accessed))
    if tensor.line is not None and tensor.line != where:
        others.append(_place(f"{tensor.name} made", tensor.line))
    if other is not None and other.line is not None and other != tensor:
        others.append(_place(f"{other.name} made", other.line))
    return Finding(
        rule=conflicts.rule,
        message=message,
        fix=text.fix,
        file=where.file,
        line=where.line,
        severity=text.severity,
        text=where.text,
        others=tuple(others),
    )


def _place(what: str, line: SourceLine) -> Place:
    return Place(what, line.file, line.line, line.text)


def _label(tensor: TraceTensor) -> str:
    return f"{tensor.name} in {tensor.space}"


def _size(size_bytes: int) -> str:
    return f"{size_bytes:,} byte" if size_bytes == 1 else f"{size_bytes:,} bytes"


def _line(launch: Launch, row: int) -> SourceLine | None:
    """None for the end of a program."""
    core = int(launch.core_of(row))
    trace, index = launch.traces[core], row - int(launch.first_row[core])
    return trace.lines[trace.line[index]].source if index < trace.num_rows else None


def _opcode(launch: Launch, row: int) -> str:
    core = int(launch.core_of(row))
    trace, index = launch.traces[core], row - int(launch.first_row[core])
    return trace.signatures[trace.signature[index]].opcode if index < trace.num_rows else "return"
