"""The host's bytes for what a core's tensors hold, and what they are before a first write."""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow import dtypes
from rainshadow.errors import SourceLine
from rainshadow.isa.memory import Buffer, Space
from rainshadow.machine import NeuronCore
from rainshadow.sim.options import SimOptions
from rainshadow.sim.replay import on_chip_memory

Bytes = np.ndarray[Any, Any]

#: A NaN in every floating-point dtype.
_NAN_BYTE = 0xFF
#: Added to a partition's bytes in this process: partitions a multiple of 4 KiB apart would fall
#: into the same few sets of a CPU's cache.
PARTITION_PADDING_BYTES = 64


#: What AWS's NKI_PRECISE_FP=0 keeps as float32.
_LOW_PRECISION = ("bfloat16", "float8_e4m3", "float8_e4m3fn", "float8_e5m2")


class Storage:
    """Gives tensors their bytes, and takes those of tensors that are gone for the next.

    addresses: of the on-chip tensors where an earlier launch is executed again, else None.
    """

    def __init__(self, core: NeuronCore, options: SimOptions, addresses: Any = None) -> None:
        self._core = core
        self._options = options
        self._addresses = addresses
        self._pool: dict[int, list[Bytes]] = {}
        self._given: dict[Space, Bytes] = {}

    def of(self, buffer: Buffer, line: SourceLine | None) -> Bytes:
        """Bytes for a new tensor. line: where it is made."""
        zeroed = line in self._options.zeroed
        if zeroed:
            buffer.partition_bytes = 0
        buffer.wide = not self._options.precise and buffer.dtype in _LOW_PRECISION
        if buffer.wide:
            buffer.partition_bytes = 0
            size = buffer.size_bytes * buffer.partitions // dtypes.itemsize(buffer.dtype)
            return self._filled(np.empty(4 * size, dtype=np.uint8), zeroed=zeroed)
        if buffer.partition_bytes:
            first = buffer.start_partition * buffer.partition_bytes + buffer.address
            return self._given_memory(buffer)[first:]
        if self._addresses is not None and buffer.on_chip:
            address = int(self._addresses[buffer.ordinal])
            return on_chip_memory(self._core).storage(buffer, address)
        size = buffer.size_bytes * buffer.partitions
        pooled = self._pool.get(size)
        storage = pooled.pop() if pooled else np.empty(size, dtype=np.uint8)
        return self._filled(storage, zeroed=zeroed)

    def release(self, buffer: Buffer) -> None:
        """The tensor is gone."""
        if buffer.storage is not None and not buffer.partition_bytes and not buffer.wide:
            self._pool.setdefault(buffer.storage.nbytes, []).append(buffer.storage)

    def _given_memory(self, buffer: Buffer) -> Bytes:
        """All of SBUF or PSUM, for tiles whose addresses the kernel gives: they may overlap."""
        memory = self._given.get(buffer.space)
        if memory is None:
            size = int(self._core.partitions.value) * buffer.partition_bytes
            memory = self._filled(np.empty(size, dtype=np.uint8))
            self._given[buffer.space] = memory
        return memory

    def _filled(self, storage: Bytes, *, zeroed: bool = False) -> Bytes:
        zeroed = zeroed or self._options.uninitialized == "zero"
        storage.fill(0 if zeroed else _NAN_BYTE)
        return storage
