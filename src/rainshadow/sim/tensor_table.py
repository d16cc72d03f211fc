"""Knows the tensors of one recorded launch."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from rainshadow.isa.memory import Buffer, Space
from rainshadow.sim.placement import Request
from rainshadow.sim.trace import ARGUMENT, GIVEN, SPACES, TraceLine

Column = np.ndarray[Any, np.dtype[Any]]

#: The on-chip spaces, by their number in `Trace`.
_SPACES = {SPACES.index(space.value): space for space in (Space.sbuf, Space.psum)}

#: Columns of `Trace.tensors`.
_COLUMNS = 9
_PARTITIONS, _ADDRESS, _SIZE, _FLAGS, _LINE, _NAME = 2, 3, 4, 5, 6, 7


class TensorTable:
    """Rows of `Trace.tensors` as tensors are made; on chip in the order of their ordinals."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._name_ids: dict[str, int] = {}
        self._on_chip = array("q")
        self._num_on_chip = 0
        self._hbm: list[list[int]] = []
        self._hbm_numbers: dict[int, int] = {}

    def add(self, buffer: Buffer, space: int, line: int, flags: int, shared: str = "") -> None:
        """Enter a tensor; one that the core knows already gets the shared key.

        One on chip gets the next ordinal.
        """
        row = [
            space,
            buffer.start_partition,
            buffer.partitions,
            buffer.address,
            buffer.size_bytes,
            flags,
            line,
            self._name(label_of(buffer)),
            self._name(shared),
        ]
        if buffer.on_chip:
            buffer.ordinal = self._num_on_chip
            self._num_on_chip += 1
            self._on_chip.extend(row)
            return
        number = self._hbm_numbers.get(buffer.ordinal)
        if number is None:
            self._hbm_numbers[buffer.ordinal] = len(self._hbm)
            self._hbm.append(row)
        else:
            self._hbm[number][-1] = row[-1]

    def tile(self, ordinal: int) -> Buffer:
        """One that stands for a tensor on chip: its bytes, without a storage."""
        row = self._on_chip[ordinal * _COLUMNS : (ordinal + 1) * _COLUMNS]
        size = row[_SIZE]
        words, dtype = (size // 4, "uint32") if size % 4 == 0 else (size, "uint8")
        buffer = Buffer(
            space=_SPACES[row[0]],
            shape=(row[_PARTITIONS], words),
            dtype=dtype,
            name=self.names[row[_NAME]],
        )
        buffer.ordinal = ordinal
        return buffer

    def line(self, ordinal: int) -> int:
        """Number of the line that made a tensor on chip."""
        return self._on_chip[ordinal * _COLUMNS + _LINE]

    def mark(self, buffer: Buffer, flag: int) -> None:
        """Set a flag of a tensor that has been entered."""
        if buffer.on_chip:
            self._on_chip[buffer.ordinal * _COLUMNS + _FLAGS] |= flag
        elif buffer.ordinal in self._hbm_numbers:
            self._hbm[self._hbm_numbers[buffer.ordinal]][_FLAGS] |= flag

    def _name(self, text: str) -> int:
        number = self._name_ids.get(text)
        if number is None:
            number = len(self.names)
            self._name_ids[text] = number
            self.names.append(text)
        return number

    # -- as columns ----------------------------------------------------------------------------

    def indices(self, ordinals: Column) -> Column:
        """Rows of the table for the buffers of these ordinals."""
        result = ordinals.copy()
        of_ordinal = {
            ordinal: self._num_on_chip + number for ordinal, number in self._hbm_numbers.items()
        }
        outside, which = np.unique(ordinals[ordinals < 0], return_inverse=True)
        rows = np.array([of_ordinal[ordinal] for ordinal in outside.tolist()], dtype=np.int64)
        result[ordinals < 0] = rows[which] if len(rows) else 0
        return result

    def arguments(self) -> list[int]:
        """Ordinals of the kernel's arguments."""
        return [
            ordinal
            for ordinal, number in self._hbm_numbers.items()
            if self._hbm[number][_FLAGS] & ARGUMENT
        ]

    def extents(self) -> Column:
        """int64[tensors on chip, 3]: space, partitions, bytes per partition."""
        return self._table()[:, [0, _PARTITIONS, _SIZE]]

    def requests(self, lines: Sequence[TraceLine]) -> list[Request]:
        """The tensors on chip, as placement takes them."""
        columns = self._table().T
        space, at, size, flags, line, name = columns[[0, _ADDRESS, _SIZE, _FLAGS, _LINE, _NAME]]
        return list(
            map(
                Request,
                [_SPACES[number] for number in space.tolist()],
                size.tolist(),
                [self.names[number] for number in name.tolist()],
                [lines[number].source for number in line.tolist()],
                [a if given else None for a, given in zip(at.tolist(), flags & GIVEN, strict=True)],
            )
        )

    def _table(self) -> Column:
        """int64[tensors on chip, 9], the own memory: none can be added while it is looked at."""
        return np.frombuffer(self._on_chip, dtype=np.int64).reshape(-1, _COLUMNS)

    def rows(self, addresses: Column) -> Column:
        """int64[t, 9]; addresses: of the tensors on chip, as placed."""
        outside = np.array(self._hbm, dtype=np.int64).reshape(-1, _COLUMNS)
        rows: Column = np.concatenate([self._table(), outside])
        rows[: self._num_on_chip, _ADDRESS] = addresses[: self._num_on_chip]
        return rows


def label_of(buffer: Buffer) -> str:
    """The tensor's name, or what it holds."""
    return buffer.name or _described(buffer.dtype, buffer.shape)


@lru_cache(maxsize=4096)
def _described(dtype: str, shape: tuple[int, ...]) -> str:
    return f"{dtype}{list(shape)}"
