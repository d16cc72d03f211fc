"""Seeded edits of a kernel's source, and what each does: to the results, and to the findings.

An edit is *effective* if a run of the edited kernel breaks a rule of the hardware, or if its
results differ, in a byte, from those of the original, in one of the worlds that a chip may be in:
memory holds NaN before its first write, or zeros; cores take turns at shared memory, or one runs
as far as it can before the other. What the hazard check finds plays no part in that.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from rainshadow.errors import NkiValidationError, SourceLine
from rainshadow.findings import Finding
from rainshadow.machine import Chip, NeuronCore
from rainshadow.nki import record
from rainshadow.nki.check import check_launches
from rainshadow.sim.cores import Cores
from rainshadow.sim.hazards.history import history_of
from rainshadow.sim.hazards.lines import Lines
from rainshadow.sim.hazards.touches import Touches, join, touches_of
from rainshadow.sim.options import SimOptions
from rainshadow.sim.trace import SPACES, Trace

_PARTITIONS = 128


@dataclass(frozen=True, slots=True)
class Case:
    """A kernel that is correct, and what to call it with.

    load: imports it anew, so that edits of its source take effect.  arguments: made anew, those by
    position and those by name.  origin: whose kernel it is.
    """

    name: str
    load: Callable[[], Any]
    arguments: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]
    path: Path
    origin: str = "own"


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of one file. apply: changes the tree and says whether it found its place."""

    kind: str
    what: str
    where: SourceLine
    apply: Callable[[ast.Module], bool]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an edit does. effect: "" where it does nothing; None where there is no such kernel."""

    edit: Edit
    effect: str | None
    findings: Sequence[Finding] = ()


# -- what a kernel does, in every world -----------------------------------------------------------


def _no_turns(cores: Cores, core: int) -> None:
    """Instead of `Cores.give_way`: a core goes on until it must wait."""


@contextmanager
def _one_after_another() -> Iterator[None]:
    with patch.object(Cores, "give_way", _no_turns):
        yield


_WORLDS: tuple[tuple[Callable[[], Any], SimOptions], ...] = (
    (contextlib.nullcontext, SimOptions(record=True)),
    (contextlib.nullcontext, SimOptions(record=False, uninitialized="zero")),
    (_one_after_another, SimOptions(record=False)),
)


def results(case: Case, chip: Chip) -> list[list[Any]]:
    """In every world what the kernel returns and leaves in its arguments."""
    with quiet():
        kernel = case.load()
    found = []
    for world, options in _WORLDS:
        arguments = case.arguments()
        with world(), quiet():
            outputs = record(kernel, *arguments, chip=chip, options=options).outputs
        found.append(list(_arrays([outputs, *arguments[0], *arguments[1].values()])))
    return found


def _arrays(value: Any) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _arrays(item)
    elif isinstance(value, np.ndarray):
        yield str(value.dtype), value.shape, value.tobytes()


@contextmanager
def quiet() -> Iterator[None]:
    """Kernels print, and NaN in an integer is what uninitialised memory gives.

    AWS's set variables of the environment: for their own run only.
    """
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        patch.dict(os.environ),
    ):
        warnings.simplefilter("ignore")
        yield


def check(case: Case, chip: Chip) -> list[Finding]:
    """What `rainshadow check` finds in it."""
    with quiet():
        kernel = case.load()
        return check_launches(lambda: record(kernel, *case.arguments(), chip=chip), chip, case.path)


def judge(case: Case, edit: Edit, original: list[list[Any]], chip: Chip) -> Outcome:
    """What becomes of a kernel under an edit. original: its results without."""
    with _edited(edit) as applied:
        try:
            changed = results(case, chip) != original
            effect = "results differ" if changed else ""
        except NkiValidationError as error:
            effect = f"breaks a rule: {error.what}"
        except Exception:  # the edit leaves no kernel: Python itself refuses it
            return Outcome(edit, None)
        assert applied, f"{edit} is nowhere in the source"
        return Outcome(edit, effect, check(case, chip))


@contextmanager
def _edited(edit: Edit) -> Iterator[list[str]]:
    """The edited file is what gets imported. Yields the names of the modules it was applied to."""
    applied: list[str] = []
    usual = SourceFileLoader.get_code

    def get_code(loader: SourceFileLoader, name: str) -> Any:
        path = loader.get_filename(name)
        if path != edit.where.file:
            return usual(loader, name)
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
        if edit.apply(tree):
            applied.append(name)
        return compile(ast.fix_missing_locations(tree), path, "exec")

    with patch.object(SourceFileLoader, "get_code", get_code):
        yield applied


# -- where a kernel can be edited -----------------------------------------------------------------


@dataclass(slots=True)
class _Line:
    """What a line of the source does in a run.

    writes_first, reads: atoms of memory that it is the first to write and that are read later, and
    that it reads.  made: (space, bytes, first byte) of the tensors that it makes.
    """

    writes_first: set[int] = field(default_factory=set)
    reads: set[int] = field(default_factory=set)
    made: list[tuple[str, int, int]] = field(default_factory=list)


def _lines_of(traces: Sequence[Trace]) -> dict[SourceLine, _Line]:
    launch = join(traces)
    touches = touches_of(launch)
    lines = Lines.of(launch)
    by_number: dict[int, _Line] = defaultdict(_Line)
    first, read = _first_writes(touches), ~touches.write
    for chosen, name in ((first, "writes_first"), (read, "reads")):
        pairs = np.stack([lines.of_rows[touches.row], touches.atom], axis=1)[chosen]
        for line, atom in np.unique(pairs, axis=0).tolist():
            getattr(by_number[line], name).add(atom)
    for tensor, line in enumerate(lines.of_tensors.tolist()):
        space, _, _, address, size = launch.tensors[tensor, :5].tolist()
        by_number[line].made.append((SPACES[space], size, address))
    sources = {}
    for core, trace in enumerate(traces):
        for number, entry in enumerate(trace.lines):
            sources[entry.source] = _number(lines, launch, core, trace, number)
    return {source: by_number[number] for source, number in sources.items()}


def _first_writes(touches: Touches) -> np.ndarray[Any, Any]:
    """bool[n]: the first write to its bytes through its tensor, read through it by a later row."""
    launch = touches.launch
    fresh = touches.write & (history_of(touches).own_write < 0) & ~launch.given[touches.tensor]
    key = touches.atom * (1 + int(touches.tensor.max())) + touches.tensor
    last_read: dict[int, int] = {}
    for which, row in zip(key[~touches.write].tolist(), touches.row[~touches.write].tolist(),
                          strict=True):  # fmt: skip
        last_read[which] = max(last_read.get(which, 0), row)
    for at in np.flatnonzero(fresh).tolist():
        fresh[at] = last_read.get(int(key[at]), -1) > int(touches.row[at])
    return fresh


def _number(lines: Lines, launch: Any, core: int, trace: Trace, number: int) -> int:
    """The number over all cores of one of a trace's lines."""
    rows = np.flatnonzero(trace.line == number)
    if len(rows):
        return int(lines.of_rows[rows[0] + launch.first_row[core]])
    tensors = np.flatnonzero(trace.tensors[:, 6] == number)
    return int(lines.of_tensors[launch.numbers[core][tensors[0]]]) if len(tensors) else -2


def edits_of(case: Case, chip: Chip, rng: np.random.Generator) -> list[Edit]:
    """All places where a run of the kernel can be edited, with amounts drawn from `rng`."""
    with quiet():
        run = record(case.load(), *case.arguments(), chip=chip)
    traces = (run.trace, *run.other_traces)[: run.lnc]
    by_file: dict[str, dict[int, _Line]] = defaultdict(dict)
    for source, line in _lines_of(traces).items():
        by_file[source.file][source.line] = line
    edits: list[Edit] = []
    for file, lines in sorted(by_file.items()):
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
        edits += _statement_edits(file, tree, lines)
        edits += _allocation_edits(file, tree, lines, rng, chip.core)
    return edits


def _statement_edits(file: str, tree: ast.Module, lines: dict[int, _Line]) -> Iterator[Edit]:
    for body in _bodies(tree):
        for index, statement in enumerate(body):
            name = _called(statement)
            here = SourceLine(file, statement.lineno, ast.unparse(statement)[:100])
            if name == "core_barrier" and statement.lineno in lines:
                yield Edit("drop a barrier", "", here, _removal(statement.lineno))
            line = lines.get(statement.lineno)
            if name is None or line is None or not line.writes_first:
                continue
            yield Edit("remove an initialising write", "", here, _removal(statement.lineno))
            for later in body[index + 1 :]:
                other = lines.get(later.lineno)
                if _called(later) is None or other is None:
                    continue
                if not other.reads & line.writes_first:
                    continue
                if any("dma" in (_called(one) or "") for one in (statement, later)):
                    move = _move(statement.lineno, later.lineno)
                    what = f"after line {later.lineno}"
                    yield Edit("swap dependent DMAs", what, here, move)
                break


def _bodies(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list):
                yield body


def _called(statement: ast.stmt) -> str | None:
    """Name of the function that a statement is nothing but a call of."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        function = statement.value.func
        return function.attr if isinstance(function, ast.Attribute) else None
    return None


def _removal(line: int) -> Callable[[ast.Module], bool]:
    def apply(tree: ast.Module) -> bool:
        for body in _bodies(tree):
            for index, statement in enumerate(body):
                if statement.lineno == line and _called(statement):
                    body[index] = ast.copy_location(ast.Pass(), statement)
                    return True
        return False

    return apply


def _move(line: int, after: int) -> Callable[[ast.Module], bool]:
    """The statement at `line` to behind the one at `after`."""

    def apply(tree: ast.Module) -> bool:
        for body in _bodies(tree):
            numbers = [statement.lineno for statement in body]
            if line in numbers and after in numbers:
                body.insert(numbers.index(after), body.pop(numbers.index(line)))
                return True
        return False

    return apply


def _allocation_edits(
    file: str, tree: ast.Module, lines: dict[int, _Line], rng: np.random.Generator, core: NeuronCore
) -> Iterator[Edit]:
    bank_bytes = int(core.psum.bank_bytes_per_partition.value)
    limits = {
        "sbuf": int(core.sbuf.bytes_per_partition.value),
        "psum": int(core.psum.bytes_per_partition.value),
    }
    banks = sorted({m[2] for line in lines.values() for m in line.made if m[0] == "psum"})
    for call in _allocations(tree):
        made = [m for m in lines[call.lineno].made if m[0] != "hbm"] if call.lineno in lines else []
        if not made:
            continue
        space, size, _ = max(made, key=lambda m: m[1])
        here = SourceLine(file, call.lineno, ast.unparse(call)[:100])
        given = any(keyword.arg == "address" for keyword in call.keywords)

        def edit(kind: str, template: str, here: SourceLine = here, at: ast.Call = call) -> Edit:
            return Edit(kind, template, here, _reshaping(at, template, kind))

        few = int(rng.integers(1, 4))
        for text in (f"S[:-1] + (max(1, S[-1] - {few}),)", "S[:-1] + (max(1, S[-1] // 2),)",
                     f"(max(1, S[0] - {few}),) + S[1:]"):  # fmt: skip
            yield edit("shrink an allocation", text)
        more = int(rng.integers(1, _PARTITIONS + 1))
        factor = limits[space] // size + int(rng.integers(1, 4))
        for text in (f"({_PARTITIONS + more},) + S[1:]", f"S[:-1] + (S[-1] * {factor},)"):
            yield edit("enlarge a tile past a limit", text)
        if space == "psum":
            beyond = bank_bytes // size + int(rng.integers(1, 3))
            yield edit("enlarge a tile past a limit", f"S[:-1] + (S[-1] * {beyond},)")
        if given:
            steps = {size // 2 // 4 * 4 or 4, 32 * int(rng.integers(1, 64)), size}
            for step in sorted(steps):
                sign = "+" if rng.random() < 0.5 else "-"
                yield edit("shift an allocation", f"A and (A[0], max(0, A[1] {sign} {step}))")
        if space == "psum":
            for bank in rng.permutation(banks)[:4].tolist():
                yield edit("reuse a PSUM bank early", f"(0, {bank})")
            if given:
                pairs = f"(A[0], A[1] // {2 * bank_bytes} * {2 * bank_bytes})"
                yield edit("reuse a PSUM bank early", pairs)


def _allocations(tree: ast.Module) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.attr == "ndarray":
            yield node


def _reshaping(call: ast.Call, template: str, kind: str) -> Callable[[ast.Module], bool]:
    """Another shape (S in the template) or address (A) for one allocation."""
    place = call.lineno, call.col_offset

    def apply(tree: ast.Module) -> bool:
        for node in _allocations(tree):
            if (node.lineno, node.col_offset) != place:
                continue
            if "S[" in template:
                shape = next((k for k in node.keywords if k.arg == "shape"), None)
                if shape is not None:
                    shape.value = _applied("S", template, shape.value, node)
                else:
                    node.args[0] = _applied("S", template, node.args[0], node)
                return True
            old = next((k for k in node.keywords if k.arg == "address"), None)
            value = old.value if old else ast.Constant(None)
            node.keywords = [k for k in node.keywords if k is not old]
            node.keywords.append(ast.keyword("address", _applied("A", template, value, node)))
            return True
        return False

    return apply


def _applied(name: str, template: str, value: ast.expr, place: ast.AST) -> ast.expr:
    """(lambda name: template)(value), all of it on the line of `place`."""
    whole = "tuple(value)" if name == "S" else "value"
    tree = ast.parse(f"(lambda {name}: {template})({whole})", mode="eval").body
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            node.args = [
                value if isinstance(arg, ast.Name) and arg.id == "value" else arg
                for arg in node.args
            ]
    for node in ast.walk(tree):
        ast.copy_location(node, place)
    return tree
