"""Knows how a CUDA device in the arguments of a PyTorch call becomes the target device.

The mode changes nothing but the arguments: Dynamo traces through it, so that everything which
notes a tie stands behind `torch.compiler.is_compiling()` and is never traced.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from rainshadow.porting.ties import TieLog, user_line

_TO = torch.Tensor.to
_CUDA = torch.Tensor.cuda
_PIN = torch.Tensor.pin_memory
_IS_PINNED = torch.Tensor.is_pinned
_CROSS_ENTROPY = torch.nn.functional.cross_entropy
_MODULES = ("torch/nn/modules/",)


def is_cuda(value: object) -> bool:
    """Whether an argument names a CUDA device: "cuda", "cuda:1", torch.device("cuda")."""
    if isinstance(value, str):
        return value == "cuda" or value.startswith("cuda:")
    return isinstance(value, torch.device) and value.type == "cuda"


class CudaDeviceMode(TorchFunctionMode):
    """Rewrites CUDA devices in the arguments of every PyTorch function to `target`.

    log: the ties met.  targets_seen: called with the number of targets of each cross entropy
    that is computed with gradients, which is how a step's tokens are counted.
    """

    def __init__(
        self, target: torch.device, log: TieLog, targets_seen: Callable[[int], None]
    ) -> None:
        super().__init__()
        self.target = target
        self.log = log
        self.targets_seen = targets_seen

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not torch.compiler.is_compiling():
            self._observe(func, args, kwargs)
        if func is _CUDA:
            return self._moved(args[0], args[0].to(self.target))
        if func is _PIN:
            return args[0]
        if func is _IS_PINNED:
            return True
        if func is _TO and (any(map(is_cuda, args)) or is_cuda(kwargs.get("device"))):
            args = tuple(self.target if is_cuda(a) else a for a in args)
            kwargs = {k: self.target if is_cuda(v) else v for k, v in kwargs.items()}
            return self._moved(args[0], func(*args, **kwargs))
        if "device" in kwargs and is_cuda(kwargs["device"]):
            kwargs = {**kwargs, "device": self.target}
        if kwargs.get("pin_memory"):
            kwargs = {**kwargs, "pin_memory": False}
        return func(*args, **kwargs)

    def _moved(self, source: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
        """The result of a transfer, dense as a copy between devices is.

        On the CPU nothing is copied, and a slice would keep its gaps: `view` works on the one
        and raises on the other.
        """
        if result is source and source.stride() != torch.empty_like(source, device="meta").stride():
            return source.clone()
        return result

    def _observe(self, func: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """Note the tie, if this call is one."""
        if func is _CROSS_ENTROPY:
            if torch.is_grad_enabled():
                target = args[1] if len(args) > 1 else kwargs["target"]
                self.targets_seen(target.numel())
            return
        if func is _CUDA:
            api = "Tensor.cuda"
        elif func is _PIN or kwargs.get("pin_memory"):
            api = "Tensor.pin_memory"
        elif func is _TO:
            if not (any(map(is_cuda, args)) or is_cuda(kwargs.get("device"))):
                return
            api = "Tensor.to"
        elif is_cuda(kwargs.get("device")):
            api = "device argument"
        else:
            return
        where = user_line(sys._getframe(2), _MODULES if api == "device argument" else ())
        if where is not None:
            self.log.add(api, where)
