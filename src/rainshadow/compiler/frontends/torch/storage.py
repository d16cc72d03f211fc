"""Knows device tensors as memory: plain `torch.Tensor`s of device "rainshadow" over host memory.

A simulated HBM allocation is the memory of a CPU storage. The device's storage points at the same
bytes and owns the CPU storage through a Python attribute, so `host_view` and NumPy see device data
without a copy and views are ordinary strided views. What operators do is left to `eager`.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch

from rainshadow.compiler.session import HbmMeter, current_session
from rainshadow.nki.kernel import numpy_from_torch

DEVICE_TYPE = "rainshadow"

#: Kernels of CPU tensors that touch metadata only; they work for any tensor with a storage.
CPU_KEYS = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
_set_storage = torch.ops.aten.set_.source_Storage_storage_offset.redispatch


class HbmBlock:
    """One allocation: its host memory and size. has_data: False if nothing is ever written.

    counted: False for a second look at memory that is counted already.
    """

    __slots__ = ("__weakref__", "has_data", "host", "meter", "nbytes")

    def __init__(self, host: torch.UntypedStorage, counted: bool = True) -> None:
        session = current_session()
        self.nbytes = host.nbytes() if counted else 0
        session.allocate(self.nbytes)
        self.host = host
        self.has_data = session.options.data == "full"
        self.meter: HbmMeter = session.hbm

    def __del__(self) -> None:
        meter = getattr(self, "meter", None)
        if meter is not None:
            meter.free(self.nbytes)


def is_device_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type == DEVICE_TYPE


def device() -> torch.device:
    """The one simulated device."""
    return torch.device(DEVICE_TYPE, 0)


#: Address -> allocation, for storages that torch makes itself over device memory.
_BLOCKS: WeakValueDictionary[int, HbmBlock] = WeakValueDictionary()


def block_of(tensor: torch.Tensor) -> HbmBlock:
    """The allocation behind a device tensor."""
    storage: Any = tensor.untyped_storage()
    try:
        return storage._rainshadow_block
    except AttributeError:
        storage._rainshadow_block = block = _BLOCKS[storage.data_ptr()]
        return block


def device_storage(host: torch.UntypedStorage, counted: bool = True) -> torch.UntypedStorage:
    """A device storage over a CPU storage's bytes."""
    block = HbmBlock(host, counted)
    pointer = host.data_ptr()
    storage = torch._C._construct_storage_from_data_pointer(pointer, device(), host.nbytes())
    storage._rainshadow_block = block
    if pointer and counted:
        _BLOCKS[pointer] = block
    return storage


def tensor_over(
    storage: torch.UntypedStorage,
    dtype: torch.dtype,
    size: Sequence[int],
    stride: Sequence[int],
    offset: int = 0,
) -> torch.Tensor:
    """A device tensor over part of a device storage; offset and strides in elements."""
    tensor = torch._C._acc.create_empty_tensor((0,), dtype)
    return _set_storage(CPU_KEYS, tensor, storage, offset, tuple(size), tuple(stride))


def reset(
    tensor: torch.Tensor,
    storage: torch.UntypedStorage,
    offset: int,
    size: Sequence[int],
    stride: Sequence[int],
) -> torch.Tensor:
    """Point an existing device tensor at other memory."""
    return _set_storage(CPU_KEYS, tensor, storage, offset, tuple(size), tuple(stride))


def adopt(host: torch.Tensor) -> torch.Tensor:
    """A device tensor over a CPU tensor's memory, without a copy."""
    storage = device_storage(host.untyped_storage())
    return tensor_over(storage, host.dtype, host.shape, host.stride(), host.storage_offset())


def allocate(
    size: Sequence[int], dtype: torch.dtype, stride: Sequence[int] | None = None
) -> torch.Tensor:
    """An uninitialised device tensor; contiguous unless strides (in elements) are given."""
    extents = tuple(int(extent) for extent in size)
    if not extents and dtype is torch.float32:
        return tensor_over(device_storage(_next_scalar()), dtype, (), ())
    strides = tuple(stride) if stride is not None else contiguous_strides(extents)
    length = span(extents, strides)
    session = current_session()
    session.require_room(length * dtype.itemsize)
    if session.options.data == "none":
        host = _untouched_memory(length * dtype.itemsize)
    else:
        host = torch.empty((length,), dtype=dtype, device="cpu")
    return tensor_over(device_storage(host.untyped_storage()), dtype, extents, strides)


#: float32 scalars are allocated one after the other from pages of so many, see `as_vector`.
_SCALARS_PER_PAGE = 1024
_SCALAR_BYTES = 4
_page: torch.UntypedStorage | None = None
_scalars_used = 0


def _next_scalar() -> torch.UntypedStorage:
    """Host memory for one float32, behind that of the scalar before."""
    global _page, _scalars_used
    if _page is None or _scalars_used == _SCALARS_PER_PAGE:
        length = (_SCALARS_PER_PAGE,)
        _page = torch.zeros(length, dtype=torch.float32, device="cpu").untyped_storage()
        _scalars_used = 0
    address = _page.data_ptr() + _SCALAR_BYTES * _scalars_used
    _scalars_used += 1
    return _host_memory(address, _SCALAR_BYTES, _page)


def _host_memory(address: int, nbytes: int, owner: Any) -> torch.UntypedStorage:
    """A CPU storage over part of another one's memory, which it keeps alive."""
    cpu = torch.device("cpu")
    memory: Any = torch._C._construct_storage_from_data_pointer(address, cpu, nbytes)
    memory._rainshadow_owner = owner
    return memory


def as_vector(tensors: Sequence[Any]) -> torch.Tensor | None:
    """float32 scalars that follow each other in HBM, as one tensor over the same memory.

    None if they are not such scalars. Step counters of an optimizer are: one DMA then loads them
    and one instruction updates them.
    """
    scalars = len(tensors) > 1 and all(
        isinstance(t, torch.Tensor) and t.dim() == 0 and t.dtype is torch.float32 for t in tensors
    )
    if not scalars or not all(is_device_tensor(t) for t in tensors):
        return None
    first = tensors[0].data_ptr()
    if any(t.data_ptr() != first + _SCALAR_BYTES * i for i, t in enumerate(tensors)):
        return None
    pages = {id(getattr(block_of(t).host, "_rainshadow_owner", None)) for t in tensors}
    if len(pages) != 1 or id(None) in pages:
        return None
    memory = _host_memory(first, _SCALAR_BYTES * len(tensors), [block_of(t) for t in tensors])
    return tensor_over(device_storage(memory, False), torch.float32, (len(tensors),), (1,))


def _untouched_memory(nbytes: int) -> torch.Tensor:
    """Zeros that cost address space only: pages nobody writes are never backed by memory."""
    if nbytes == 0:
        return torch.empty((0,), dtype=torch.uint8, device="cpu")
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    return torch.frombuffer(mmap.mmap(-1, nbytes, flags=flags), dtype=torch.uint8)


def contiguous_strides(size: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides in elements, as torch gives them (empty axes count as 1)."""
    strides, step = [], 1
    for extent in reversed(size):
        strides.append(step)
        step *= max(extent, 1)
    return tuple(reversed(strides))


def span(size: Sequence[int], stride: Sequence[int]) -> int:
    """Elements from the first to one past the last that size and stride reach."""
    if any(extent == 0 for extent in size):
        return 0
    return 1 + sum((extent - 1) * step for extent, step in zip(size, stride, strict=True))


def has_data(tensor: torch.Tensor) -> bool:
    """False for tensors allocated by a session that runs without data."""
    return block_of(tensor).has_data


def host_view(tensor: torch.Tensor) -> torch.Tensor:
    """A CPU tensor over a device tensor's memory; it reads as zeros where there is no data."""
    view = torch.empty((0,), dtype=tensor.dtype, device="cpu")
    return view.set_(block_of(tensor).host, tensor.storage_offset(), tensor.shape, tensor.stride())


def kernel_argument(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """What a kernel takes for a device tensor: a NumPy view of its memory."""
    return numpy_from_torch(host_view(tensor))
