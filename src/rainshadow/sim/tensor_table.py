"""Knows the tensors of one recorded launch and the exact bytes its views touch in them."""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.isa.footprint import WIDTH, Footprint
from rainshadow.isa.memory import Buffer

Column = np.ndarray[Any, np.dtype[Any]]

#: Columns of `Trace.tensors`.
_COLUMNS = 9
_ADDRESS, _FLAGS = 3, 5


class TensorTable:
    """Rows of `Trace.tensors` as tensors are made; on chip in the order of their ordinals."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._name_ids: dict[str, int] = {}
        self._on_chip: list[list[int]] = []
        self._hbm: list[list[int]] = []
        self._hbm_numbers: dict[int, int] = {}
        self._footprints: dict[Footprint, int] = {}

    def add(self, buffer: Buffer, space: int, line: int, flags: int, shared: str) -> None:
        """Enter a tensor; one that the core knows already gets the shared key."""
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
            self._on_chip.append(row)
            return
        number = self._hbm_numbers.get(buffer.ordinal)
        if number is None:
            self._hbm_numbers[buffer.ordinal] = len(self._hbm)
            self._hbm.append(row)
        else:
            self._hbm[number][-1] = row[-1]

    def mark(self, buffer: Buffer, flag: int) -> None:
        """Set a flag of a tensor that has been entered."""
        if buffer.on_chip:
            self._on_chip[buffer.ordinal][_FLAGS] |= flag
        elif buffer.ordinal in self._hbm_numbers:
            self._hbm[self._hbm_numbers[buffer.ordinal]][_FLAGS] |= flag

    def footprint_id(self, footprint: Footprint) -> int:
        """Number of a view's footprint."""
        return self._footprints.setdefault(footprint, len(self._footprints))

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
            ordinal: len(self._on_chip) + number for ordinal, number in self._hbm_numbers.items()
        }
        for position in np.flatnonzero(ordinals < 0).tolist():
            result[position] = of_ordinal[int(ordinals[position])]
        return result

    def rows(self, addresses: Column) -> Column:
        """int64[t, 9]; addresses: of the tensors on chip, as placed."""
        table = np.array(self._on_chip + self._hbm, dtype=np.int64).reshape(-1, _COLUMNS)
        table[: len(self._on_chip), _ADDRESS] = addresses[: len(self._on_chip)]
        return table

    def footprints(self) -> Column:
        """int64[f, WIDTH]."""
        return np.array(list(self._footprints), dtype=np.int64).reshape(-1, WIDTH)


def label_of(buffer: Buffer) -> str:
    """The tensor's name, or what it holds."""
    return buffer.name or f"{buffer.dtype}{list(buffer.shape)}"
