"""The PyTorch device "rainshadow", in pure Python: registration and what `torch.rainshadow` offers.

Device tensors are plain `torch.Tensor`s (no subclass) with a real storage, made with torch's
private set-up for Python backends. Because they are plain, torch.compile takes them directly
(Dynamo, FakeTensor and AOTAutograd were all tried on them: no shadow tensors are needed), tied
parameters stay tied and views alias as on any device. What operators do is left to `transfers`
and `eager`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from rainshadow.compiler.frontends.torch import (
    attention,
    autocast,
    capture,
    eager,
    own_rules,
    phases,
    transfers,
)
from rainshadow.compiler.frontends.torch.storage import (
    DEVICE_TYPE,
    adopt,
    allocate,
    has_data,
    host_view,
    is_device_tensor,
)
from rainshadow.compiler.session import current_session
from rainshadow.errors import NotModelled

__all__ = ["DEVICE_TYPE", "register_device"]

#: Registrations last as long as these objects.
_LIBRARIES: list[torch.library.Library] = []


class _DeviceModule:
    """`torch.rainshadow`: one device, nothing asynchronous, the CPU's random generator."""

    class device:  # noqa: N801 - torch's name
        """`with torch.rainshadow.device(0)`: there is only one."""

        def __init__(self, index: Any) -> None:
            self.index = index

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def set_device(self, index: Any) -> None: ...

    def synchronize(self, device: Any = None) -> None: ...

    def empty_cache(self) -> None: ...

    def manual_seed(self, seed: int) -> None:
        torch.default_generator.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None: ...  # torch.manual_seed seeds the CPU's, ours

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16, torch.float32]

    def is_bf16_supported(self) -> bool:
        return True

    def memory_allocated(self, device: Any = None) -> int:
        return current_session().hbm.live_bytes

    def max_memory_allocated(self, device: Any = None) -> int:
        return current_session().hbm.peak_bytes

    def reset_peak_memory_stats(self, device: Any = None) -> None:
        current_session().hbm.reset_peak()


def register_device() -> None:
    """Make "rainshadow" a torch device and compile backend; calling it again does nothing.

    Errors: `NotModelled` if this torch cannot register a device from Python.
    """
    if _LIBRARIES:
        return
    try:
        from torch.utils.backend_registration import (
            _setup_privateuseone_for_python_backend as set_up,
        )
    except ImportError:
        raise NotModelled(
            f"torch {torch.__version__} cannot register a device from Python",
            fix="install torch 2.13, the tested release",
        ) from None
    set_up(DEVICE_TYPE, backend_module=_DeviceModule())
    aten = torch.library.Library("aten", "IMPL")
    everything_else = torch.library.Library("_", "IMPL")
    _LIBRARIES.extend((aten, everything_else))
    transfers.register(aten)
    eager.register(aten, everything_else)
    attention.register(aten)
    own_rules.register(aten)
    autocast.register(aten, everything_else)
    capture.register()
    phases.register()
    _mend_modules()
    _mend_storages()
    _mend_printing()


# -- places where torch's Python knows its own devices by name ------------------------------------


def _mend_modules() -> None:
    """Module.to keeps each Parameter object, as it does for in-tree devices.

    torch only swaps a parameter's data in place between devices on its own list; for others it
    makes new parameters and unties shared ones. Its `swap_tensors` path does keep them.
    """
    for name in ("to", "cpu", DEVICE_TYPE, "to_empty"):
        original = getattr(torch.nn.Module, name, None)
        if original is not None:
            setattr(torch.nn.Module, name, _swapping(original))


def _swapping(original: Callable[..., Any]) -> Callable[..., Any]:
    def move(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        target = str([*args, *kwargs.values()])
        here = any(is_device_tensor(tensor) for tensor in self.parameters())
        if not here and DEVICE_TYPE not in target and original.__name__ != DEVICE_TYPE:
            return original(self, *args, **kwargs)
        with _swap_parameters():
            return original(self, *args, **kwargs)

    move.__name__ = original.__name__
    move.__doc__ = original.__doc__
    return move


@contextlib.contextmanager
def _swap_parameters() -> Iterator[None]:
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        yield
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)


def _mend_storages() -> None:
    """Storage copies (deepcopy, torch.save, torch.load) get their memory from us.

    torch allocates them in C++, from an allocator a Python backend cannot provide.
    """
    original_clone = torch.UntypedStorage.clone
    original_to = torch.UntypedStorage.to

    def clone(self: torch.UntypedStorage) -> torch.UntypedStorage:
        if self.device.type != DEVICE_TYPE:
            return original_clone(self)
        source = transfers.bytes_of(self)
        if not has_data(source):
            return allocate(source.shape, torch.uint8).untyped_storage()
        return adopt(host_view(source).clone()).untyped_storage()

    def to_device(self: torch.UntypedStorage, *_: Any, **__: Any) -> torch.UntypedStorage:
        if self.device.type == DEVICE_TYPE:
            return self
        source = torch.empty((0,), dtype=torch.uint8, device="cpu").set_(self)
        return transfers.to_device(source).untyped_storage()

    def to(
        self: torch.UntypedStorage, *, device: Any, non_blocking: bool = False
    ) -> torch.UntypedStorage:
        if torch.device(device).type == DEVICE_TYPE:
            return to_device(self)
        return original_to(self, device=device, non_blocking=non_blocking)

    torch.UntypedStorage.clone = clone  # type: ignore[method-assign]
    torch.UntypedStorage.to = to  # type: ignore[method-assign]
    setattr(torch.UntypedStorage, DEVICE_TYPE, to_device)


def _mend_printing() -> None:
    """Printing a device tensor formats a host copy; it launches no kernels."""
    original = torch._tensor_str._tensor_str

    def tensor_str(self: torch.Tensor, indent: int) -> str:
        shown = host_view(self.detach()) if is_device_tensor(self) else self
        return original(shown, indent)

    torch._tensor_str._tensor_str = tensor_str
