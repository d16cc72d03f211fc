"""Knows the operators that move, fill or relabel data: they are transfers, never arithmetic.

Copies between host and device, factories, random fills (with the CPU generator, so that a seed
gives the CPU's numbers), views, `resize_`, `set_` and reading a scalar. Arithmetic is left to
`eager`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from rainshadow.compiler.frontends.torch import eager
from rainshadow.compiler.frontends.torch.storage import (
    CPU_KEYS,
    adopt,
    allocate,
    block_of,
    contiguous_strides,
    device_storage,
    has_data,
    host_view,
    is_device_tensor,
    reset,
    span,
    tensor_over,
)
from rainshadow.compiler.session import current_session

aten = torch.ops.aten

#: Operators that only make a new view; the CPU kernel works on any strided storage.
VIEWS = ("as_strided", "view", "_reshape_alias", "unfold", "view.dtype", "view_as_real",
         "view_as_complex")  # fmt: skip

#: Operators that overwrite a tensor with values that depend on no device data.
FILLS = {
    "fill": ("zero_", "fill_.Scalar"),
    "random": (
        "normal_", "uniform_", "random_", "random_.to", "random_.from", "bernoulli_.float",
        "exponential_", "geometric_", "log_normal_", "cauchy_",
    ),
}  # fmt: skip

#: Factories: they write `out`, and no argument is a device tensor otherwise.
FACTORIES = ("arange.start_out", "linspace.out", "logspace.out", "range.out", "eye.out",
             "eye.m_out", "randperm.out", "randperm.generator_out")  # fmt: skip


def overload(name: str) -> Any:
    """The ATen overload for "name" or "name.overload"."""
    packet, _, kind = name.partition(".")
    return getattr(getattr(aten, packet), kind or "default")


def register(library: torch.library.Library) -> None:
    """Install these operators for the device."""
    simple: dict[str, Callable[..., Any]] = {
        "empty.memory_format": _empty,
        "empty_strided": _empty_strided,
        "copy_": _copy_,
        "_copy_from": _copy_from,
        "_copy_from_and_resize": _copy_from_and_resize,
        "_to_copy": _to_copy,
        "_local_scalar_dense": _local_scalar,
        "equal": _equal,
        "as_strided_": _as_strided_,
        "resize_": _resize_,
        "set_.source_Storage": _set_source_storage,
        "set_.source_Storage_storage_offset": _set_storage,
        "set_.source_Tensor": _set_tensor,
        "set_": _set_empty,
        "record_stream": lambda self, stream: None,
    }
    for name, function in simple.items():
        library.impl(name, function, "PrivateUse1")
    for name in VIEWS:
        library.impl(name, _view_kernel(overload(name)), "PrivateUse1")
    for kind, names in FILLS.items():
        for name in names:
            library.impl(name, _fill_kernel(overload(name), kind), "PrivateUse1")
    for name in FACTORIES:
        library.impl(name, _factory_kernel(overload(name)), "PrivateUse1")


def _view_kernel(op: Any) -> Callable[..., Any]:
    redispatch = op.redispatch

    def view(*args: Any, **kwargs: Any) -> Any:
        return redispatch(CPU_KEYS, *args, **kwargs)

    return view


def _fill_kernel(op: Any, kind: str) -> Callable[..., Any]:
    def fill(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        current_session().transfer(kind, self.numel() * self.itemsize)
        # Without data the generator must still move on, as it would in a run with data.
        if has_data(self):
            op(host_view(self), *args, **kwargs)
        return self

    return fill


def _factory_kernel(op: Any) -> Callable[..., Any]:
    def factory(*args: Any, out: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        kwargs.pop("device", None)
        values = op(*args, **kwargs, out=torch.empty((0,), dtype=out.dtype, device="cpu"))
        if out.shape != values.shape:
            _resize_(out, values.shape)
        return _copy_(out, values, kind="factory")

    return factory


def _empty(
    size: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    memory_format: torch.memory_format | None = None,
) -> torch.Tensor:
    dtype = dtype or torch.get_default_dtype()
    if memory_format in (None, torch.contiguous_format, torch.preserve_format):
        return allocate(size, dtype)
    shape = torch.empty(size, dtype=dtype, device="meta", memory_format=memory_format)
    return allocate(size, dtype, shape.stride())


def _empty_strided(
    size: Sequence[int],
    stride: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> torch.Tensor:
    return allocate(size, dtype or torch.get_default_dtype(), stride)


def _copy_(
    self: torch.Tensor, src: torch.Tensor, non_blocking: bool = False, *, kind: str | None = None
) -> torch.Tensor:
    to_device, from_device = is_device_tensor(self), is_device_tensor(src)
    if to_device and from_device:
        return eager.run(aten.copy_.default, (self, src), {})
    session = current_session()
    nbytes = self.numel() * self.itemsize
    session.transfer(kind or ("host to device" if to_device else "device to host"), nbytes)
    if to_device and not has_data(self):
        return self
    target = host_view(self) if to_device else self
    target.copy_(host_view(src) if from_device else src)
    return self


def _copy_from(self: torch.Tensor, dst: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    return _copy_(dst, self)


def _copy_from_and_resize(self: torch.Tensor, dst: torch.Tensor) -> torch.Tensor:
    if is_device_tensor(dst):
        _resize_(dst, self.shape)
    else:
        dst.resize_(self.shape)
    return _copy_(dst, self)


def _to_copy(
    self: torch.Tensor,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: torch.device | None = None,
    pin_memory: Any = None,
    non_blocking: bool = False,
    memory_format: torch.memory_format | None = None,
) -> torch.Tensor:
    if not is_device_tensor(self):
        return to_device(self.to(dtype) if dtype else self, memory_format)
    if device is None or device.type == self.device.type:
        return eager.run(aten._to_copy.default, (self,), {"dtype": dtype or self.dtype})
    current_session().transfer("device to host", self.numel() * self.itemsize)
    options = {} if memory_format is None else {"memory_format": memory_format}
    return host_view(self).to(dtype=dtype or self.dtype, copy=True, **options)


def _local_scalar(self: torch.Tensor) -> Any:
    current_session().transfer("device to host", self.itemsize)
    return host_view(self).item()


def _equal(self: torch.Tensor, other: torch.Tensor) -> bool:
    if self.shape != other.shape or self.dtype != other.dtype:
        return False
    return bool((self == other).all().item())


def _resize_(self: torch.Tensor, size: Sequence[int], *, memory_format: Any = None) -> torch.Tensor:
    strides = contiguous_strides(size)
    needed = (self.storage_offset() + span(size, strides)) * self.itemsize
    storage = self.untyped_storage()
    if storage.nbytes() >= needed and hasattr(storage, "_rainshadow_block"):
        return reset(self, storage, self.storage_offset(), size, strides)
    grown = allocate((needed,), torch.uint8)
    if self.numel() and has_data(self):
        kept = torch.empty((0,), dtype=torch.uint8, device="cpu").set_(block_of(self).host)
        host_view(grown)[: len(kept)] = kept
    return reset(self, grown.untyped_storage(), self.storage_offset(), size, strides)


def _as_strided_(
    self: torch.Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    storage_offset: int | None = None,
) -> torch.Tensor:
    offset = self.storage_offset() if storage_offset is None else storage_offset
    return reset(self, self.untyped_storage(), offset, size, stride)


def _set_source_storage(self: torch.Tensor, source: torch.UntypedStorage) -> torch.Tensor:
    length = source.nbytes() // self.itemsize
    return reset(self, source, 0, (length,), (1,))


def _set_storage(
    self: torch.Tensor,
    source: torch.UntypedStorage,
    storage_offset: int,
    size: Sequence[int],
    stride: Sequence[int] = (),
) -> torch.Tensor:
    strides = stride or contiguous_strides(size)
    return reset(self, source, storage_offset, size, strides)


def _set_tensor(self: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    storage = source.untyped_storage()
    return reset(self, storage, source.storage_offset(), source.shape, source.stride())


def _set_empty(self: torch.Tensor) -> torch.Tensor:
    empty = torch.empty((0,), dtype=torch.uint8, device="cpu").untyped_storage()
    return reset(self, device_storage(empty), 0, (0,), (1,))


def to_device(host: torch.Tensor, memory_format: torch.memory_format | None = None) -> torch.Tensor:
    """A device tensor with a copy of a CPU tensor's values, and its strides where it is dense."""
    session = current_session()
    session.transfer("host to device", host.numel() * host.itemsize)
    memory_format = memory_format or torch.preserve_format
    if session.options.data == "none":
        shape = torch.empty_like(host, device="meta", memory_format=memory_format)
        return allocate(host.shape, host.dtype, shape.stride())
    return adopt(host.clone(memory_format=memory_format))


def bytes_of(storage: torch.UntypedStorage) -> torch.Tensor:
    """A device storage as a uint8 tensor."""
    return tensor_over(storage, torch.uint8, (storage.nbytes(),), (1,))
