"""Knows what was executed: one row per instruction in program order, in NumPy columns, no time.

A Trace can be saved, loaded and timed on any chip of its family without executing again.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rainshadow.errors import InputError, SourceLine
from rainshadow.isa.footprint import WIDTH
from rainshadow.isa.instruction import OperandKind, Signature

Column = np.ndarray[Any, np.dtype[Any]]
FORMAT_VERSION = 4

#: Address spaces of `Trace.ranges`, by number.
SPACES = ("sbuf", "psum", "hbm")

#: Flags of `Trace.tensors`: at an address the kernel gives; an argument; returned by the kernel;
#: where a tile lies that has been moved away; a tile that was dropped, loaded again.
GIVEN, ARGUMENT, RETURNED, SPILLED, RELOADED = 1, 2, 4, 8, 16

#: In `Trace.use`: the access belongs to no tensor.
NO_USE = -1


@dataclass(frozen=True, slots=True)
class TraceTensor:
    """A tensor of the kernel: a row of `Trace.tensors`.

    size_bytes: per partition on chip, in all in HBM.  line: where it was made, None for an
    argument.  shared: equal on all cores that share it, "" for one core's own.
    """

    name: str
    space: str
    partition: int
    partitions: int
    address: int
    size_bytes: int
    flags: int
    line: SourceLine | None
    shared: str


@dataclass(frozen=True, slots=True)
class TraceLine:
    """A line of the user's kernel and the function it stands in."""

    source: SourceLine
    function: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The executed instructions of one kernel launch on one core.

    signature: int32[n], index into `signatures`.  line: int32[n], index into `lines`.
    access: int32[m], what each row touches: range number * 2, + 1 where it writes; row i owns
    access[access_end[i-1]:access_end[i]].  access_end: int32[n].
    ranges: int64[r, 7]: space (index into SPACES), first and end partition, first and end byte,
    and of what has regular gaps the period and the run of bytes touched in each; else 0, 0.
    tensors: int64[t, 9], see `tensor`: space, first partition, partitions, address, size in bytes,
    flags, line (-1 for none), name and shared key (indices into `names`).
    use: int32[m], beside `access`, index into `uses`: int32[u, 2], tensor and footprint; NO_USE
    for an access that only orders two rows.
    footprints: int64[f, 17], the exact bytes within a tensor (`isa.footprint`).
    stored: int64[k, 2], a row and a checksum of what it stores in HBM that cores share; only where
    several cores ran with data.
    A Trace that joins several has no tensors.
    peak_bytes: largest use of each space (per partition for sbuf and psum).
    chip: the machine whose rules the kernel was checked against.
    """

    kernel: str
    chip: str
    signature: Column
    line: Column
    access: Column
    access_end: Column
    ranges: Column
    signatures: Sequence[Signature]
    lines: Sequence[TraceLine]
    peak_bytes: dict[str, int] = field(default_factory=dict)
    tensors: Column = field(default_factory=lambda: np.zeros((0, 9), dtype=np.int64))
    use: Column = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    uses: Column = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int32))
    footprints: Column = field(default_factory=lambda: np.zeros((0, WIDTH), dtype=np.int64))
    names: Sequence[str] = ()
    stored: Column = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))
    #: What others have worked out from the columns, and need again to time on another chip.
    worked_out: dict[str, Any] = field(init=False, default_factory=dict, repr=False, compare=False)

    def tensor(self, index: int) -> TraceTensor:
        """A tensor by its number in `uses`."""
        row = self.tensors[index].tolist()
        space, partition, partitions, address, size, flags, line, name, shared = row
        return TraceTensor(
            name=self.names[name],
            space=SPACES[space],
            partition=partition,
            partitions=partitions,
            address=address,
            size_bytes=size,
            flags=flags,
            line=self.lines[line].source if line >= 0 else None,
            shared=self.names[shared],
        )

    @property
    def access_row(self) -> Column:
        """int64[m]: the row that each access belongs to."""
        return np.repeat(np.arange(self.num_rows), np.diff(self.access_end, prepend=0))

    @property
    def num_rows(self) -> int:
        return len(self.signature)

    @property
    def nbytes(self) -> int:
        """Bytes of the row columns (the tables of signatures, lines and ranges not counted)."""
        columns = (self.signature, self.line, self.access, self.access_end, self.use)
        return sum(column.nbytes for column in columns)

    @property
    def scopes(self) -> list[str]:
        """Names of the functions that issued instructions, in order of first use."""
        return list(dict.fromkeys(line.function for line in self.lines))

    @property
    def scope(self) -> Column:
        """int32[n]: index into `scopes` of the function that issued each row."""
        position = {name: index for index, name in enumerate(self.scopes)}
        of_line = np.array([position[line.function] for line in self.lines], dtype=np.int32)
        return of_line[self.line] if len(of_line) else np.zeros(0, dtype=np.int32)

    def count_by_signature(self) -> Column:
        """int64[s]: how often each signature was executed."""
        return np.bincount(self.signature, minlength=len(self.signatures))

    def total(self, value_of: Any) -> int:
        """Sum of `value_of(signature)` over all rows."""
        counts = self.count_by_signature()
        return sum(
            int(count) * int(value_of(signature))
            for count, signature in zip(counts, self.signatures, strict=True)
        )

    @property
    def flops(self) -> int:
        """Useful matmul floating-point operations (2 per multiply-add)."""
        return self.total(lambda signature: signature.flops)

    def moved_bytes(self, space: str, *, written: bool) -> int:
        """Bytes written to, or read from, "sbuf", "psum" or "hbm"."""
        return self.total(lambda signature: signature.moved_bytes(space, written=written))

    def spilled_bytes(self) -> dict[str, int]:
        """Bytes of SBUF that were moved to HBM for want of room, and back: saved, reloaded.

        Tiles that were dropped and loaded again count as reloaded, each as a whole.
        """
        space, flags = self.tensors[:, 0], self.tensors[:, 5]
        again = self.tensors[(space == SPACES.index("sbuf")) & (flags & RELOADED != 0)]
        reloaded = int((again[:, 2] * again[:, 4]).sum())
        away = (space == SPACES.index("hbm")) & (flags & SPILLED != 0)
        if not away.any():
            return {"saved_bytes": 0, "reloaded_bytes": reloaded}
        some = np.flatnonzero(self.use != NO_USE)
        tensor = self.uses[self.use[some], 0]
        sizes = self.tensors[tensor, 4] * away[tensor]
        writes = self.access[some] & 1
        return {
            "saved_bytes": int(sizes[writes == 1].sum()),
            "reloaded_bytes": int(sizes[writes == 0].sum()) + reloaded,
        }

    def save(self, path: Path) -> None:
        """Write an .npz that `load` reads; complete or not at all."""
        header = {
            "version": FORMAT_VERSION,
            "kernel": self.kernel,
            "chip": self.chip,
            "signatures": [asdict(signature) for signature in self.signatures],
            "lines": [asdict(line) for line in self.lines],
            "peak_bytes": self.peak_bytes,
            "names": list(self.names),
        }
        text = json.dumps(header).encode()
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".npz")
        try:
            with os.fdopen(handle, "wb") as stream:
                np.savez_compressed(
                    stream,
                    header=np.frombuffer(text, dtype=np.uint8),
                    signature=self.signature,
                    line=self.line,
                    access=self.access,
                    access_end=self.access_end,
                    ranges=self.ranges,
                    tensors=self.tensors,
                    use=self.use,
                    uses=self.uses,
                    footprints=self.footprints,
                    stored=self.stored,
                )
            Path(temporary).chmod(0o644)  # mkstemp makes files for their owner only
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    @staticmethod
    def load(path: Path) -> Trace:
        """Read what `save` wrote.

        Errors: `InputError` if the file is no trace or of another format version.
        """
        try:
            # Opened here, so that np.load can't take it for a single array.
            with zipfile.ZipFile(path):
                pass
            with np.load(path) as data:
                columns = {name: data[name] for name in data.files}
            header = json.loads(columns.pop("header").tobytes())
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{path} is not a trace: {error}") from error
        if header["version"] != FORMAT_VERSION:
            raise InputError(
                f"{path} has trace format {header['version']}", allowed=str(FORMAT_VERSION)
            )
        return Trace(
            kernel=header["kernel"],
            chip=header["chip"],
            signatures=tuple(_signature(entry) for entry in header["signatures"]),
            lines=tuple(
                TraceLine(SourceLine(**entry["source"]), entry["function"])
                for entry in header["lines"]
            ),
            peak_bytes=header["peak_bytes"],
            names=tuple(header["names"]),
            **columns,
        )


def _signature(entry: dict[str, Any]) -> Signature:
    operands = {name: OperandKind(**kind) for name, kind in entry["operands"].items()}
    params = {name: _as_tuple(value) for name, value in entry["params"].items()}
    return Signature(entry["opcode"], entry["engine"], operands, tuple(entry["writes"]), params)


def _as_tuple(value: Any) -> Any:
    """JSON has no tuples; parameters have no lists."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def with_dependencies(trace: Trace, edges: Sequence[tuple[int, int]]) -> Trace:
    """The trace with (row, producer) edges that no memory explains.

    An edge is a range of a partition that does not exist, which the producer writes and the row
    reads: whoever honours accesses honours it. It belongs to no tensor: its use is -1.
    """
    if not edges:
        return trace
    rows = np.array(edges, dtype=np.int64)
    token = np.arange(len(edges), dtype=np.int64)
    added = np.zeros((len(edges), trace.ranges.shape[1]), dtype=np.int64)
    added[:, 1:5] = np.stack([token * 0 - 1, token * 0, token, token + 1], axis=1)
    item = (len(trace.ranges) + token) * 2
    owners = np.concatenate([rows[:, 0], rows[:, 1]])
    items = np.concatenate([item, item + 1])
    order = np.argsort(owners, kind="stable")
    at = trace.access_end[owners[order]]
    counts = np.bincount(owners, minlength=len(trace.access_end))
    return replace(
        trace,
        access=np.insert(trace.access, at, items[order]).astype(np.int32),
        access_end=(trace.access_end + np.cumsum(counts)).astype(np.int32),
        ranges=np.concatenate([trace.ranges, added]),
        use=np.insert(trace.use, at, NO_USE),
    )
