"""Knows how to make a script that was written for CUDA run on another device, unedited.

`Redirection` is a context: inside it "cuda" means the target, outside it nothing has changed.
The target is the simulated NeuronCore, or the CPU for the exact reference run. Which lines asked
for CUDA is noted in a TieLog; what the script computes is watch.py's business.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo  # reads functions below by name when first imported: before they change
from torch.utils._device import DeviceContext

from rainshadow.porting import cuda_namespace
from rainshadow.porting.cuda_namespace import DeviceFacts
from rainshadow.porting.device_mode import CudaDeviceMode, is_cuda
from rainshadow.porting.mixed_precision import (
    PrecisionPolicy,
    install_autocast,
    install_grad_scaler,
)
from rainshadow.porting.one_process import install_one_process
from rainshadow.porting.patches import Patches
from rainshadow.porting.ties import TieLog, code_owner, user_line

#: Arguments of torch.compile that mean something to Inductor only.
_INDUCTOR_ONLY = ("mode", "options", "fullgraph", "dynamic")
_OPTIMIZERS = ("torch/optim/",)


class Redirection:
    """Redirects CUDA to `target` while entered.

    facts: what the script is told about its GPU.  policy: whether autocast takes effect.
    backend: name of the torch.compile backend, or None to run compiled modules eagerly.
    targets_seen: called with the number of targets of each training loss (see device_mode).
    """

    def __init__(
        self,
        target: str,
        *,
        facts: DeviceFacts,
        policy: PrecisionPolicy,
        backend: str | None,
        log: TieLog,
        targets_seen: Callable[[int], None] = lambda number: None,
    ) -> None:
        self.target = torch.device(target)
        self.facts = facts
        self.policy = policy
        self.backend = backend
        self.log = log
        self._patches = Patches()
        self._mode = CudaDeviceMode(self.target, log, targets_seen)

    def __enter__(self) -> Redirection:
        try:
            self._install()
        except BaseException:
            self._patches.restore()
            raise
        self._mode.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._mode.__exit__(*exception)
        self._patches.restore()

    def _install(self) -> None:
        cuda_namespace.install(self._patches, self.facts, self.log)
        install_autocast(self._patches, self.target, self.policy, self.log)
        install_grad_scaler(self._patches, self.target, self.log)
        self._install_placement()
        self._install_classes()
        self._install_compile()
        self._install_flags()
        install_one_process(self._patches, self.log)

    def _mapped(self, value: Any) -> Any:
        return self.target if is_cuda(value) else value

    def _install_placement(self) -> None:
        """Module.to, Module.cuda, the default device, checkpoints."""
        patches, log = self._patches, self.log
        module_to, module_cuda = torch.nn.Module.to, torch.nn.Module.cuda
        swap = torch.__future__.get_swap_module_params_on_conversion()
        patches.set(
            torch.__future__, "get_swap_module_params_on_conversion",
            lambda: swap or self.target.type != "cpu",
        )  # fmt: skip

        @functools.wraps(module_to)
        def to(module: Any, *args: Any, **kwargs: Any) -> Any:
            if any(map(is_cuda, args)) or is_cuda(kwargs.get("device")):
                log.met("Module.to")
            return module_to(module, *args, **kwargs)

        @functools.wraps(module_cuda)
        def cuda(module: Any, device: Any = None) -> Any:
            log.met("Module.cuda")
            return module_to(module, self.target)

        set_default = torch.set_default_device

        @functools.wraps(set_default)
        def set_default_device(device: Any) -> None:
            if is_cuda(device):
                log.met("torch.set_default_device")
            set_default(self._mapped(device))

        context_init = DeviceContext.__init__

        @functools.wraps(context_init)
        def enter_device(context: Any, device: Any) -> None:
            if is_cuda(device):
                log.met("torch.device as context")
            context_init(context, self._mapped(device))

        patches.set(torch.nn.Module, "to", to)
        patches.set(torch.nn.Module, "cuda", cuda)
        patches.set(torch, "set_default_device", set_default_device)
        patches.set(DeviceContext, "__init__", enter_device)
        patches.set(torch, "load", self._load(torch.load))

    def _load(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def load(f: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
            wanted = map_location
            if is_cuda(wanted):
                self.log.met("torch.load")
                map_location = "cpu"
            elif wanted is None:
                map_location = _cuda_storage_to_host
            loaded = original(f, map_location, *args, **kwargs)
            if not is_cuda(wanted) or self.target.type == "cpu":
                return loaded
            return torch.utils._pytree.tree_map_only(
                torch.Tensor, lambda tensor: tensor.to(self.target), loaded
            )

        return load

    def _install_classes(self) -> None:
        """Class attributes that the function mode does not see."""
        patches, log, target = self._patches, self.log, self.target
        real = torch.Tensor.is_cuda

        def is_cuda_tensor(tensor: Any) -> bool:
            if not torch.compiler.is_compiling():
                if target.type == "cpu" and code_owner(sys._getframe(1).f_code.co_filename) in (
                    "torch",
                    "interpreter",
                ):
                    return real.__get__(tensor)
                log.met("Tensor.is_cuda")
            return tensor.device.type == target.type

        patches.set(torch.Tensor, "is_cuda", property(is_cuda_tensor))
        loader = torch.utils.data.DataLoader
        loader_init = loader.__init__

        @functools.wraps(loader_init)
        def loader_unpinned(self: Any, *args: Any, **kwargs: Any) -> None:
            if kwargs.get("pin_memory"):
                log.met("DataLoader(pin_memory=True)")
                kwargs = {**kwargs, "pin_memory": False}
            loader_init(self, *args, **kwargs)

        patches.set(loader, "__init__", loader_unpinned)
        patches.set(torch, "Generator", _generator_class(torch.Generator, log))
        optimizer = torch.optim.Optimizer
        optimizer_init = optimizer.__init__

        @functools.wraps(optimizer_init)
        def optimizer_made(self: Any, params: Any, defaults: dict[str, Any]) -> None:
            if defaults.get("fused"):
                where = user_line(sys._getframe(1), _OPTIMIZERS)
                if where is not None:
                    log.add("fused=True", where)
            optimizer_init(self, params, defaults)

        patches.set(optimizer, "__init__", optimizer_made)

    def _install_compile(self) -> None:
        original = torch.compile

        @functools.wraps(original)
        def compile(model: Any = None, **kwargs: Any) -> Any:
            dropped = [name for name in _INDUCTOR_ONLY if kwargs.get(name)]
            if kwargs.get("backend", self.backend) not in (self.backend, "inductor"):
                dropped.append("backend")
            self.log.met("torch.compile(*)" if dropped else "torch.compile")
            if model is None:
                return lambda function: compile(function, **kwargs)
            if self.backend is None or kwargs.get("disable"):
                return model
            return original(model, backend=self.backend, dynamic=False)

        self._patches.set(torch, "compile", compile)

    def _install_flags(self) -> None:
        """Flags of CUDA libraries: kept where PyTorch can hold them, without effect."""
        patches, log = self._patches, self.log
        for name, owner in (
            ("torch.backends.cuda.matmul", type(torch.backends.cuda.matmul)),
            ("torch.backends.cudnn", type(torch.backends.cudnn)),
        ):
            patches.set(owner, "__setattr__", _watched_setattr(name, owner.__setattr__, log))
        switches = [n for n in vars(torch.backends.cuda) if n.startswith("enable_")]
        for name in switches:
            patches.set(torch.backends.cuda, name, _ignored(f"torch.backends.cuda.{name}", log))
        patches.set(
            torch.backends.cuda, "sdp_kernel",
            _ignored_context("torch.backends.cuda.sdp_kernel", log),
        )  # fmt: skip
        patches.set(
            torch.nn.attention, "sdpa_kernel",
            _ignored_context("torch.nn.attention.sdpa_kernel", log),
        )  # fmt: skip
        patches.set(
            torch, "set_float32_matmul_precision",
            _ignored("torch.set_float32_matmul_precision", log),
        )  # fmt: skip


def _cuda_storage_to_host(storage: Any, location: str) -> Any:
    return storage if location.startswith("cuda") else None


def _generator_class(original: type, log: TieLog) -> type:
    """A stand-in for torch.Generator that accepts device="cuda" and draws on the host."""

    class Meta(type):
        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, original)

        def __call__(cls, device: Any = "cpu") -> Any:
            if is_cuda(device):
                log.met("torch.Generator")
                device = "cpu"
            return original(device)

    return Meta("Generator", (), {})


def _watched_setattr(name: str, original: Callable[..., None], log: TieLog) -> Callable[..., None]:
    def set_flag(self: Any, attribute: str, value: Any) -> None:
        log.met(f"{name}.{attribute}")
        original(self, attribute, value)

    return set_flag


def _ignored(api: str, log: TieLog) -> Callable[..., None]:
    def call(*args: Any, **kwargs: Any) -> None:
        if not torch.compiler.is_compiling():
            log.met(api)

    return call


def _ignored_context(api: str, log: TieLog) -> Callable[..., Any]:
    note = _ignored(api, log)

    def context(*args: Any, **kwargs: Any) -> Any:
        note()
        return cuda_namespace._no_context()

    return context
