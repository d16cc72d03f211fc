"""A Trace as assembly-like text: each executed instruction with its operands and where they lie.

Everything is read from the Trace, so a saved one is disassembled like a fresh one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rainshadow.isa.footprint import BOUNDS, REACH
from rainshadow.isa.instruction import OperandKind, load_instructions
from rainshadow.sim.trace import SPACES, Trace

#: A register's value in memory is no larger.
_NUMBER_BYTES = 8


@dataclass(frozen=True, slots=True)
class Operand:
    """One access of an instruction.

    name: the operand, or "index" for what is read to know where another one lies.
    partitions: first and end.  bytes: first and end address, within a partition on chip.
    pattern: [run bytes, [stride in bytes, count], ...] where the bytes have gaps; is_exact: False
    where an index decides, or only bounds are known.
    """

    name: str
    writes: bool
    tensor: str
    space: str
    partitions: tuple[int, int]
    bytes: tuple[int, int]
    dtype: str
    shape: tuple[int, int]
    pattern: tuple[Any, ...] = ()
    is_exact: bool = True

    def __str__(self) -> str:
        first, end = self.bytes
        where = f"b{first}:{end}"
        if self.space != "hbm":
            where = f"p{self.partitions[0]}:{self.partitions[1]} {where}"
        if self.pattern:
            run, *pairs = self.pattern
            steps = " ".join(f"x{count}@{stride}" for stride, count in pairs)
            where += f" {run}B {steps}"
        shape = f" {self.dtype}[{self.shape[0]}x{self.shape[1]}]" if self.dtype else ""
        mark = "" if self.is_exact else "~"
        # A tensor without a name is called by dtype and shape, which stand behind.
        tensor = f"{self.tensor}:" if self.tensor and "[" not in self.tensor else ""
        return f"{self.name}={tensor}{self.space}[{mark}{where}]{shape}"


@dataclass(frozen=True, slots=True)
class Line:
    """One executed instruction. index: its row in the Trace."""

    index: int
    engine: str
    opcode: str
    operands: tuple[Operand, ...]
    params: Mapping[str, Any]
    file: str
    line: int
    function: str
    text: str

    def __str__(self) -> str:
        options = [
            f"{name}={value}" for name, value in self.params.items() if value not in (None, False)
        ]
        body = ", ".join([*map(str, self.operands), *options])
        place = f"{Path(self.file).name}:{self.line}"
        return f"{self.index:>7}  {self.engine:<7} {self.opcode:<22} {body}  ; {place}"

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def disassemble(trace: Trace, rows: Sequence[int]) -> Iterator[Line]:
    """The instructions of these rows."""
    names = _operand_names(trace)
    starts = trace.access_end
    for row in rows:
        number = int(trace.signature[row])
        signature, source = trace.signatures[number], trace.lines[trace.line[row]]
        begin, end = int(starts[row - 1]) if row else 0, int(starts[row])
        yield Line(
            index=int(row),
            engine=signature.engine,
            opcode=signature.opcode,
            operands=tuple(_operands(trace, begin, end, names[number])),
            params=signature.params,
            file=source.source.file,
            line=source.source.line,
            function=source.function,
            text=source.source.text,
        )


def select(
    trace: Trace,
    *,
    engine: str | None = None,
    opcode: str | None = None,
    line: int | None = None,
    function: str | None = None,
    first: int = 0,
    last: int | None = None,
) -> list[int]:
    """Rows whose instruction fits all that is given. last: one past the last row."""
    kinds = [
        (engine in (None, kind.engine)) and (opcode in (None, kind.opcode))
        for kind in trace.signatures
    ]
    places = [
        (line in (None, place.source.line)) and (function in (None, place.function))
        for place in trace.lines
    ]
    end = trace.num_rows if last is None else min(last, trace.num_rows)
    return [
        row
        for row in range(max(first, 0), end)
        if kinds[trace.signature[row]] and places[trace.line[row]]
    ]


def _operand_names(trace: Trace) -> list[list[tuple[str, bool, OperandKind]]]:
    """For each signature its operands (name, written, kind) in the order of a row's accesses."""
    known = load_instructions()
    result = []
    for signature in trace.signatures:
        cls = known.get(signature.opcode)
        order: list[tuple[str, bool, OperandKind]] = []
        fields = ((cls.WRITES, True), (cls.READS, False)) if cls is not None else ()
        for stems, written in fields:
            for stem in stems:
                order += [
                    (name, written, kind)
                    for name, kind in signature.operands.items()
                    if name == stem or (name.startswith(stem) and name[len(stem) :].isdigit())
                ]
        result.append(order)
    return result


def _operands(
    trace: Trace, begin: int, end: int, names: Sequence[tuple[str, bool, OperandKind]]
) -> Iterator[Operand]:
    """The accesses of one row: operands, and after a read one its index tile and offset."""
    waiting = list(names)
    picked = sum(kind.indirect for _, _, kind in waiting)
    offsets = end - begin - len(waiting) - picked
    index_follows = False
    for position in range(begin, end):
        footprint = _footprint(trace, position)
        written = bool(trace.access[position] & 1)
        name, kind = "index", None
        if not index_follows and waiting and waiting[0][1] == written:
            if offsets > 0 and _is_number(footprint, waiting[0][2]):
                offsets -= 1
            else:
                name, _, kind = waiting.pop(0)
        index_follows = kind is not None and kind.indirect and not written
        yield _operand(trace, position, name, kind, footprint)


def _footprint(trace: Trace, position: int) -> list[int]:
    if not len(trace.use):
        return []
    _, number = trace.uses[trace.use[position]]
    return [int(value) for value in trace.footprints[number]] if number >= 0 else []


def _is_number(footprint: Sequence[int], kind: OperandKind) -> bool:
    """Whether an access is of one number, which is not the operand that may come next."""
    if not footprint:
        return False
    touched = footprint[1] * footprint[3]
    for count in footprint[6::2]:
        touched *= max(count, 1)
    return touched <= _NUMBER_BYTES and touched != kind.total_bytes


def _operand(
    trace: Trace, position: int, name: str, kind: OperandKind | None, footprint: Sequence[int]
) -> Operand:
    access = int(trace.access[position])
    space, first, end, low, high = (int(value) for value in trace.ranges[access >> 1][:5])
    tensor = ""
    if len(trace.use):
        tensor = trace.tensor(int(trace.uses[trace.use[position]][0])).name
    pattern: tuple[Any, ...] = ()
    if footprint:
        pairs = [
            (stride, count)
            for stride, count in zip(footprint[5::2], footprint[6::2], strict=True)
            if count > 1
        ]
        pattern = (footprint[3], *pairs) if pairs else ()
    return Operand(
        name=name,
        writes=bool(access & 1),
        tensor=tensor,
        space=SPACES[space],
        partitions=(first, end),
        bytes=(low, high),
        dtype=kind.dtype if kind is not None else "",
        shape=(kind.partitions, kind.elements) if kind is not None else (0, 0),
        pattern=pattern,
        is_exact=not footprint or not footprint[4] & (REACH | BOUNDS),
    )
