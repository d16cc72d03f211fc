"""Knows what a piece of memory is: which space it is in, where it starts, what it holds.

Who gets which address is decided by `rainshadow.sim.memory`; this module only describes.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np

from rainshadow import dtypes


class Space(Enum):
    """Memory spaces, spelled as `nki.language.MemoryRegion` spells them."""

    sbuf = "sbuf"
    psum = "psum"
    private_hbm = "private_hbm"
    shared_hbm = "shared_hbm"

    # Members are singletons; identity is the cheapest hash where operands are told apart.
    __hash__ = object.__hash__

    @property
    def on_chip(self) -> bool:
        return self is Space.sbuf or self is Space.psum


class Buffer:
    """One allocation.

    space: where it lives.  shape: as allocated, partition axis first for SBUF and PSUM.
    address: first byte within HBM; on chip what the kernel gives, else 0, to which placement adds
    its choice when the kernel is over.
    size_bytes: bytes per partition (SBUF, PSUM) or in all (HBM).
    storage: flat uint8 array holding the elements, or None when only time is simulated.
    partition_bytes: in `storage`, from one partition to the next; 0 where these are size_bytes
    apart, as they are unless tiles share the storage.
    wide: `storage` holds the elements as float32, whatever their dtype.
    ordinal: number of an on-chip tensor among its core's, or below -1 of one in HBM; else -1.
    range_numbers: on chip, of its views' bytes (`sim.range_table`); None before the first.
    started: in PSUM, what matmuls have written (`isa.started`); None before the first.
    release: called with the buffer when nothing refers to it any more.
    """

    __slots__ = (
        "__weakref__",
        "address",
        "dtype",
        "name",
        "on_chip",
        "ordinal",
        "partition_bytes",
        "partitions",
        "range_numbers",
        "release",
        "shape",
        "size_bytes",
        "space",
        "start_partition",
        "started",
        "storage",
        "wide",
    )

    def __init__(
        self,
        *,
        space: Space,
        shape: tuple[int, ...],
        dtype: str,
        address: int = 0,
        start_partition: int = 0,
        storage: np.ndarray[Any, Any] | None = None,
        name: str = "",
    ) -> None:
        self.space = space
        self.shape = shape
        self.dtype = dtype
        self.address = address
        self.start_partition = start_partition
        self.storage = storage
        self.name = name
        self.ordinal = -1
        self.partition_bytes = 0
        self.wide = False
        self.release: Callable[[Buffer], None] | None = None
        self.started: Any = None
        self.range_numbers: dict[int, int] | None = None
        self.on_chip = space.on_chip
        self.partitions = shape[0] if self.on_chip else 1
        per_partition = shape[1:] if self.on_chip else shape
        count = 1
        for size in per_partition:
            count *= size
        self.size_bytes = count * dtypes.itemsize(dtype)

    def twin(self, name: str) -> Buffer:
        """Another allocation of the same space, shape and dtype, without address or storage."""
        twin = Buffer.__new__(Buffer)
        twin.space = self.space
        twin.shape = self.shape
        twin.dtype = self.dtype
        twin.address = twin.start_partition = twin.partition_bytes = 0
        twin.storage = twin.release = twin.started = twin.range_numbers = None
        twin.wide = False
        twin.name = name
        twin.ordinal = -1
        twin.on_chip = self.on_chip
        twin.partitions = self.partitions
        twin.size_bytes = self.size_bytes
        return twin

    def __del__(self) -> None:
        if self.release is not None:
            self.release(self)
