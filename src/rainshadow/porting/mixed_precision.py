"""Knows how CUDA's autocast and gradient scaling are spelled on the target device."""

from __future__ import annotations

import functools
import math
import sys
from dataclasses import dataclass
from typing import Any

import torch

from rainshadow.porting.device_mode import is_cuda
from rainshadow.porting.patches import Patches
from rainshadow.porting.ties import TieLog, user_line

_AMP = ("torch/cuda/amp/", "torch/amp/", "typing_extensions", "contextlib")
_HOST = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class PrecisionPolicy:
    """autocast: whether the script's autocast regions take effect (False: exact fp32)."""

    autocast: bool


def install_autocast(
    patches: Patches, target: torch.device, policy: PrecisionPolicy, log: TieLog
) -> None:
    """Make `torch.autocast("cuda")`, in all its spellings, that of `target`."""
    original = torch.amp.autocast_mode.autocast.__init__

    @functools.wraps(original)
    def init(
        self: Any,
        device_type: str,
        dtype: torch.dtype | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        if is_cuda(device_type):
            half = dtype is torch.float16 or dtype is None
            if not torch.compiler.is_compiling():
                api = "torch.autocast(float16)" if half and enabled else "torch.autocast"
                log.met(api, through=_AMP)
            device_type = target.type
            dtype = torch.bfloat16 if half else dtype
            enabled = enabled and policy.autocast
        original(self, device_type, dtype, enabled, cache_enabled)

    patches.set(torch.amp.autocast_mode.autocast, "__init__", init)
    for name in ("is_autocast_enabled", "get_autocast_dtype"):
        patches.set(torch, name, _of_target(getattr(torch, name), target))


def _of_target(original: Any, target: torch.device) -> Any:
    @functools.wraps(original)
    def asked(*args: Any, **kwargs: Any) -> Any:
        args = tuple(target.type if is_cuda(a) else a for a in args)
        return original(*args, **kwargs)

    return asked


def install_grad_scaler(patches: Patches, target: torch.device, log: TieLog) -> None:
    """Make `GradScaler("cuda")` work on `target`.

    On the host PyTorch's own scaler does; elsewhere the scale is a host number, the finiteness
    test a norm, and fused optimizers are given unscaled gradients.
    """
    scaler = torch.amp.GradScaler
    original_init = scaler.__init__
    original_step = scaler.step

    @functools.wraps(original_init)
    def init(self: Any, device: str = "cuda", *args: Any, **kwargs: Any) -> None:
        enabled = kwargs.get("enabled", args[4] if len(args) > 4 else True)
        if is_cuda(device):
            where = user_line(sys._getframe(1), _AMP)
            if where is not None:
                log.add("GradScaler" if enabled else "GradScaler(enabled=False)", where)
            device = target.type
        original_init(self, device, *args, **kwargs)

    patches.set(scaler, "__init__", init)
    if target.type == "cpu":
        return

    def _lazy_init_scale_growth_tracker(self: Any, dev: torch.device) -> None:
        self._scale = torch.full((), self._init_scale, dtype=torch.float32, device=_HOST)
        self._growth_tracker = torch.full((), 0, dtype=torch.int32, device=_HOST)

    def _unscale_grads_(
        self: Any, optimizer: Any, inv_scale: Any, found_inf: Any, allow_fp16: bool
    ) -> dict[torch.device, torch.Tensor]:
        return {_HOST: torch.tensor(float(_unscale(optimizer, float(inv_scale))))}

    @functools.wraps(original_step)
    def step(self: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        fused = getattr(optimizer, "_step_supports_amp_scaling", False)
        if not (self._enabled and fused):
            return original_step(self, optimizer, *args, **kwargs)
        optimizer._step_supports_amp_scaling = False
        try:
            return original_step(self, optimizer, *args, **kwargs)
        finally:
            optimizer._step_supports_amp_scaling = True

    patches.set(scaler, "_lazy_init_scale_growth_tracker", _lazy_init_scale_growth_tracker)
    patches.set(scaler, "_unscale_grads_", _unscale_grads_)
    patches.set(scaler, "step", step)


@torch.no_grad()
def _unscale(optimizer: Any, inverse: float) -> bool:
    """Multiply all gradients of an optimizer by `inverse`; True where one is not finite."""
    grads = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
    if not grads:
        return False
    torch._foreach_mul_(grads, inverse)
    norms = torch._foreach_norm(grads)
    return not math.isfinite(torch.linalg.vector_norm(torch.stack(norms)).item())
