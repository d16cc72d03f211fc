"""Says which instruction touches which atom of memory, for all cores of a launch, in order.

Every rule of `sim.hazards` is a pass over these columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.isa.engine import Engine
from rainshadow.isa.footprint import BOUNDS, REACH
from rainshadow.isa.instruction import load_instructions
from rainshadow.isa.started import PARTLY
from rainshadow.sim.hazards.atoms import (
    FIRST,
    FLAGS,
    PARTITION,
    PARTITIONS,
    RUN,
    Atoms,
    coarse,
    expand,
    split,
)
from rainshadow.sim.trace import ARGUMENT, GIVEN, NO_USE, RETURNED, SPACES, Trace, TraceTensor

Column = np.ndarray[Any, np.dtype[Any]]

#: Columns of `Trace.tensors`.
_SPACE, _START, _PARTITIONS, _ADDRESS, _SIZE, _FLAGS, _LINE, _NAME, _SHARED = range(9)
_HBM = SPACES.index("hbm")
_BARRIER, _MESSAGE = "core_barrier", "sendrecv"
#: Opcodes that write PSUM as the systolic array does.
_MATMULS = ("nc_matmul", "nc_matmul_mx")


@dataclass(frozen=True, slots=True)
class Launch:
    """The accesses of all cores of a launch, core after core, in program order.

    Rows and accesses are numbered through all cores.  first_row: int64[cores + 1].
    row: int64[m] of an access; the end of a core's program is a row of its own, where the results
    are read.  write, exact: bool[m]; an access that is not exact touches some of its bytes only.
    tensor: int64[m], numbered over all cores; a tensor that cores share has one number.
    use: int64[m], index into uses: int64[u, 2], tensor and footprint, in that order, each once.
    footprints: int64[f, 17], as in `Trace`.
    tensors: int64[t, 9], as in `Trace`, but the line and the name stay a core's.
    numbers: per core the numbers of its trace's tensors.
    core: int64[t], the core of a tensor; of one that is shared the first.  shared: bool[t].
    """

    traces: Sequence[Trace]
    first_row: Column
    row: Column
    write: Column
    exact: Column
    tensor: Column
    use: Column
    uses: Column
    footprints: Column
    tensors: Column
    numbers: Sequence[Column]
    core: Column
    shared: Column

    def core_of(self, row: Any) -> Any:
        """The core that executes a row."""
        return np.searchsorted(self.first_row, row, side="right") - 1

    def tensor_of(self, number: int) -> TraceTensor:
        """A tensor by its number."""
        core = int(self.core[number])
        index = int(np.flatnonzero(self.numbers[core] == number)[0])
        return self.traces[core].tensor(index)

    @property
    def is_end(self) -> Column:
        """bool[m]: accesses of the result, when the program has ended."""
        return np.isin(self.row, self.first_row[1:] - 1)

    @property
    def given(self) -> Column:
        """bool[t]: tensors that hold something before the kernel starts."""
        return (self.tensors[:, _FLAGS] & ARGUMENT) != 0

    def by_row(self, of_signature: Any) -> Column:
        """bool[rows]: whether a row's signature is such; False for the ends of programs."""
        columns = []
        for trace in self.traces:
            chosen = np.array([of_signature(s) for s in trace.signatures] or [False], dtype=bool)
            columns.append(np.append(chosen[trace.signature], False))
        return np.concatenate(columns)


@dataclass(frozen=True, slots=True)
class Touches:
    """Which access touches which atom: by atom, then row; reads of a row before its writes.

    access: int64[n], index into the columns of Launch.  size_bytes: int64[a], of each atom.
    """

    launch: Launch
    atom: Column
    access: Column
    size_bytes: Column

    @property
    def row(self) -> Column:
        return self.launch.row[self.access]

    @property
    def write(self) -> Column:
        return self.launch.write[self.access]

    @property
    def tensor(self) -> Column:
        return self.launch.tensor[self.access]


def is_barrier(signature: Any) -> bool:
    return bool(signature.opcode == _BARRIER)


def is_message(signature: Any) -> bool:
    return bool(signature.opcode == _MESSAGE)


def is_dma_copy(signature: Any) -> bool:
    return bool(signature.opcode == "dma_copy")


def is_matmul(signature: Any) -> bool:
    return signature.opcode in _MATMULS


def accumulates(signature: Any) -> bool:
    """Whether the instruction adds to what its target holds."""
    return is_matmul(signature) and bool(signature.params["accumulate"])


def accumulates_partly(signature: Any) -> bool:
    """Whether it adds where matmuls have written, and overwrites elsewhere."""
    return is_matmul(signature) and signature.params["accumulate"] == PARTLY


def keeps_target(signature: Any) -> bool:
    """Whether the instruction reads its target only to leave some of it as it is."""
    return "dst" in load_instructions()[signature.opcode].READS


def runs_on_tensor_engine(signature: Any) -> bool:
    return bool(signature.engine == Engine.tensor.name)


def join(traces: Sequence[Trace]) -> Launch:
    """One launch from the traces of its cores."""
    first_row = np.cumsum([0] + [trace.num_rows + 1 for trace in traces], dtype=np.int64)
    numbers, core, shared = _tensors(traces)
    prints, footprint_of, whole_of = _footprints(traces)
    parts = [
        _accesses(trace, int(first_row[n]), numbers[n], footprint_of[n], whole_of[n])
        for n, trace in enumerate(traces)
    ]
    row, write, tensor, footprint = (np.concatenate(part) for part in zip(*parts, strict=True))
    key, use = np.unique(tensor * max(len(prints), 1) + footprint, return_inverse=True)
    tensors = np.zeros((len(core), traces[0].tensors.shape[1]), dtype=np.int64)
    for n in reversed(range(len(traces))):
        tensors[numbers[n]] = traces[n].tensors
    return Launch(
        traces=traces,
        first_row=first_row,
        row=row,
        write=write,
        exact=(prints[footprint, FLAGS] & (REACH | BOUNDS)) == 0,
        tensor=tensor,
        use=use.reshape(-1),
        uses=np.stack([key // max(len(prints), 1), key % max(len(prints), 1)], axis=1),
        footprints=prints,
        tensors=tensors,
        numbers=numbers,
        core=core,
        shared=shared,
    )


def _tensors(traces: Sequence[Trace]) -> tuple[list[Column], Column, Column]:
    """Per core the numbers of its tensors over all cores; the core of each; which are shared."""
    if len(traces) == 1:
        count = len(traces[0].tensors)
        zero = np.zeros(count, dtype=np.int64)
        return [np.arange(count)], zero, zero.astype(bool)
    numbers: list[Column] = []
    cores: list[int] = []
    by_key: dict[str, int] = {}
    shared: set[int] = set()
    for core, trace in enumerate(traces):
        mine = []
        for name in trace.tensors[:, _SHARED].tolist():
            key = trace.names[name]
            number = by_key.setdefault(key, len(cores)) if key else len(cores)
            mine.append(number)
            if number == len(cores):
                cores.append(core)
            else:
                shared.add(number)
        numbers.append(np.array(mine, dtype=np.int64))
    return numbers, np.array(cores, dtype=np.int64), np.isin(np.arange(len(cores)), list(shared))


def _footprints(traces: Sequence[Trace]) -> tuple[Column, list[Column], list[Column]]:
    """All footprints, each once; per core the numbers of its own, and of its whole tensors."""
    known: dict[bytes, int] = {}

    def number(rows: Column) -> Column:
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        found = [known.setdefault(row.tobytes(), len(known)) for row in rows]
        return np.array(found, dtype=np.int64)

    mine, whole = [], []
    for trace in traces:
        mine.append(number(trace.footprints))
        results = trace.tensors[(trace.tensors[:, _FLAGS] & RETURNED) != 0]
        prints = np.zeros((len(results), trace.footprints.shape[1]), dtype=np.int64)
        prints[:, PARTITIONS], prints[:, RUN] = results[:, _PARTITIONS], results[:, _SIZE]
        whole.append(number(prints))
    table = np.frombuffer(b"".join(known), dtype=np.int64)
    return coarse(table.reshape(-1, traces[0].footprints.shape[1])), mine, whole


def _accesses(
    trace: Trace, first_row: int, numbers: Column, footprint_of: Column, whole: Column
) -> tuple[Column, Column, Column, Column]:
    """Row, write, tensor and footprint of a core's accesses.

    Barriers are none; what adds to its target reads it as well; results are read at the end.
    """
    row, write, use = trace.access_row, (trace.access & 1) == 1, trace.use
    adds = np.array([accumulates(s) for s in trace.signatures] or [False], dtype=bool)
    moves = np.array([not is_barrier(s) for s in trace.signatures] or [False], dtype=bool)
    kept = np.flatnonzero(moves[trace.signature[row]] & (use != NO_USE))
    added = np.flatnonzero(adds[trace.signature[row]] & write & (use != NO_USE))
    returned = np.flatnonzero((trace.tensors[:, _FLAGS] & RETURNED) != 0)
    order = np.argsort(np.concatenate([row[kept] * 2 + write[kept], row[added] * 2]), kind="stable")
    row = np.concatenate([row[kept], row[added]])[order]
    write = np.concatenate([write[kept], np.zeros(len(added), dtype=bool)])[order]
    uses = trace.uses.astype(np.int64)[np.concatenate([use[kept], use[added]])[order]]
    end = np.full(len(returned), trace.num_rows)
    return (
        np.concatenate([row, end]) + first_row,
        np.concatenate([write, np.zeros(len(end), dtype=bool)]),
        numbers[np.concatenate([uses[:, 0], returned])],
        np.concatenate([footprint_of[uses[:, 1]], whole]),
    )


def touches_of(launch: Launch) -> Touches:
    """Every access as the atoms it touches."""
    pattern, base, pool, size = _atoms_of_uses(launch)
    start, length = pool.start[pattern], pool.length[pattern]
    count = length[launch.use]
    access = np.repeat(np.arange(len(launch.use)), count)
    atom = pool.numbers[expand(start[launch.use], count)] + np.repeat(base[launch.use], count)
    # Accesses are in order of row, reads first: a stable sort by atom keeps that.
    order = np.argsort(atom, kind="stable")
    return Touches(launch, atom[order], access[order], size)


@dataclass(frozen=True, slots=True)
class _Pool:
    """Patterns of atoms: numbers[start[p] : start[p] + length[p]], relative to a region's first."""

    start: Column
    length: Column
    numbers: Column


class _Patterns:
    """The atoms of sets of footprints, each set split once."""

    def __init__(self) -> None:
        self._sets: dict[bytes, tuple[int, Atoms]] = {}
        self._lengths: list[Column] = []
        self._numbers: list[Column] = []
        self._count = 0

    def get(self, key: bytes) -> tuple[int, Atoms] | None:
        """Number of the first footprint's pattern, the others follow; and the atoms."""
        return self._sets.get(key)

    def add(self, key: bytes, footprints: Column) -> tuple[int, Atoms]:
        atoms = split(footprints)
        self._sets[key] = self._count, atoms
        self._lengths.append(np.diff(atoms.end, prepend=0))
        self._numbers.append(atoms.numbers)
        self._count += len(footprints)
        return self._sets[key]

    def pool(self) -> _Pool:
        length = np.concatenate([*self._lengths, np.zeros(0, dtype=np.int64)])
        numbers = np.concatenate([*self._numbers, np.zeros(0, dtype=np.int64)])
        return _Pool(np.cumsum(length) - length, length, numbers)


def _atoms_of_uses(launch: Launch) -> tuple[Column, Column, _Pool, Column]:
    """Per use its pattern and the number of its region's first atom; patterns; sizes of atoms."""
    regions = _regions(launch)
    region = regions.number[launch.uses[:, 0]]
    pattern, base = np.zeros_like(region), np.zeros_like(region)
    patterns = _Patterns()
    sizes = [np.zeros(0, dtype=np.int64)]
    atoms_before = begin = 0
    order = np.argsort(region, kind="stable")
    for end in (np.flatnonzero(np.diff(region[order], append=-1)) + 1).tolist():
        members = order[begin:end]
        begin = end
        place, first, atoms = _pattern_of(launch, regions, members, patterns)
        pattern[members] = first + place
        base[members] = atoms_before
        atoms_before += atoms.count
        sizes.append(atoms.size_bytes)
    return pattern, base, patterns.pool(), np.concatenate(sizes)


def _pattern_of(
    launch: Launch, regions: _Regions, members: Column, patterns: _Patterns
) -> tuple[Any, int, Atoms]:
    """Of the uses of one region: which pattern after the first is each's; the first; the atoms."""
    tensor, footprint = launch.uses[members].T
    if tensor[0] == tensor[-1]:
        key = footprint.tobytes()
        known = patterns.get(key)
        first, atoms = known or patterns.add(key, launch.footprints[footprint])
        return np.arange(len(members)), first, atoms
    prints = launch.footprints[footprint]
    # The same bytes at the same place are one pattern: flags do not matter.
    prints[:, FLAGS] = 0
    prints[:, [PARTITION, FIRST]] += regions.shift[tensor]
    prints, place = np.unique(prints, axis=0, return_inverse=True)
    key = b"given" + prints.tobytes()
    first, atoms = patterns.get(key) or patterns.add(key, prints)
    return place.reshape(-1), first, atoms


@dataclass(frozen=True, slots=True)
class _Regions:
    """number: per tensor the region it lies in.  shift: partitions and bytes to its start there."""

    number: Column
    shift: Column


def _regions(launch: Launch) -> _Regions:
    """Tensors whose given addresses overlap lie in one region, every other in its own."""
    table = launch.tensors
    number = np.arange(len(table))
    shift = np.zeros((len(table), 2), dtype=np.int64)
    given: dict[tuple[int, int], list[tuple[int, int, int, int]]] = {}
    placed = (table[:, _FLAGS] & GIVEN != 0) & (table[:, _SPACE] != _HBM)
    for tensor in np.flatnonzero(placed).tolist():
        space, partition, _, start, size = table[tensor, :_FLAGS].tolist()
        item = (start, start + size, partition, tensor)
        given.setdefault((int(launch.core[tensor]), space), []).append(item)
    for items in given.values():
        end = -1
        leader, origin = 0, 0
        for start, stop, partition, tensor in sorted(items):
            if start >= end:
                leader, origin = tensor, start
            number[tensor] = leader
            shift[tensor] = (partition, start - origin)
            end = max(end, stop)
    return _Regions(number, shift)
