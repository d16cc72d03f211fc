"""Knows what a training script computed: its losses, its first gradients, its optimizer steps.

It listens at `backward()` and at the optimizers' steps and changes nothing. The device that runs
the script is told of each step's end through `StepListener`.
"""

from __future__ import annotations

import functools
import gc
import time
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
)

from rainshadow.porting.model_flops import ModelFlops
from rainshadow.porting.patches import Patches

_SCALED_FROM = "_unscaled_root"

#: The first step may also hold the script's evaluation; the second is counted where there is one.
_COUNTED_STEPS = 2


class StepListener(Protocol):
    """A device that executes the script and is told what the watch sees."""

    def step_ended(self) -> None:
        """An optimizer has made a step."""

    def quiet(self) -> Any:
        """A context in which the device counts nothing: what happens there is only observation."""


class StepLimitReached(BaseException):
    """Ends a script that was asked for only so many optimizer steps."""


class TrainingWatch:
    """Watches a run while entered. See record.RunRecord for what the fields mean.

    step_limit: number of optimizer steps after which the script is ended, or None.
    count_flops: count the operations of the first steps (slows them; not where torch compiles).
    """

    def __init__(
        self,
        listener: StepListener | None = None,
        step_limit: int | None = None,
        *,
        count_flops: bool = False,
    ) -> None:
        self.losses: list[float] = []
        self.loss_step: list[int] = []
        self.step_wall_s: list[float] = []
        self.targets_per_step: list[int] = []
        self.gradients: dict[str, np.ndarray[Any, Any]] = {}
        self.num_parameters = 0
        self._listener = listener
        self._limit = step_limit
        self._targets = 0
        self._depth = 0
        self._step_began_s = time.perf_counter()
        self._optimizers: list[weakref.ref[Any]] = []
        self._scale = 1.0
        self._patches = Patches()
        self._hooks: list[Any] = []
        self._counter: ModelFlops | None = ModelFlops() if count_flops else None
        self.model_flops = 0

    def __enter__(self) -> TrainingWatch:
        self._patches.set(torch.autograd, "backward", self._backward(torch.autograd.backward))
        self._patches.set(torch.amp.GradScaler, "scale", self._scaled(torch.amp.GradScaler.scale))
        init = torch.optim.Optimizer.__init__

        @functools.wraps(init)
        def made(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            init(optimizer, *args, **kwargs)
            self._optimizers.append(weakref.ref(optimizer))

        self._patches.set(torch.optim.Optimizer, "__init__", made)
        self._hooks = [
            register_optimizer_step_post_hook(self._after_step),
        ]
        if self._counter is not None:
            self._counter.__enter__()
        self._step_began_s = time.perf_counter()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._counter is not None and not self.step_wall_s:
            self.model_flops = self._counter.total
        self._stop_counting()
        for hook in self._hooks:
            hook.remove()
        self._patches.restore()

    def targets_seen(self, number: int) -> None:
        """Count the loss targets of the step under way."""
        self._targets += number

    def _scaled(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def scale(scaler: Any, outputs: Any) -> Any:
            scaled = original(scaler, outputs)
            if isinstance(outputs, torch.Tensor) and scaled is not outputs:
                setattr(scaled, _SCALED_FROM, (outputs.detach(), float(scaler.get_scale())))
            return scaled

        return scale

    def _backward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            if self._depth:
                return original(tensors, *args, **kwargs)
            self._depth += 1
            self._note_loss(tensors)
            try:
                result = original(tensors, *args, **kwargs)
            finally:
                self._depth -= 1
            if not self.step_wall_s:
                self._note_gradients()
            return result

        return backward

    def _observed(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor's values on the host, in fp32."""
        if self._listener is None:
            return tensor.detach().to("cpu", torch.float32)
        with self._listener.quiet():
            return tensor.detach().to("cpu").to(torch.float32)

    def _note_loss(self, tensors: Any) -> None:
        roots = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
        total = 0.0
        for root in roots:
            value, self._scale = getattr(root, _SCALED_FROM, (root, 1.0))
            total += float(self._observed(value).double().sum())
        self.losses.append(total)
        self.loss_step.append(len(self.step_wall_s))

    def _note_gradients(self) -> None:
        """Keep the gradients of all optimizers' parameters as they are now, scaling undone."""
        parameters = [
            p
            for reference in self._optimizers
            if (optimizer := reference()) is not None
            for group in optimizer.param_groups
            for p in group["params"]
        ]
        self.num_parameters = sum(p.numel() for p in parameters)
        names = parameter_names()
        for index, parameter in enumerate(parameters):
            if parameter.grad is None:
                continue
            name = names.get(id(parameter), f"parameter {index}")
            values = self._observed(parameter.grad) / self._scale
            self.gradients[name] = values.numpy().copy()

    def _after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if self._listener is not None:
            self._listener.step_ended()
        now = time.perf_counter()
        self.step_wall_s.append(now - self._step_began_s)
        self._step_began_s = now
        self.targets_per_step.append(self._targets)
        self._targets = 0
        self._count_step()
        if self._limit is not None and len(self.step_wall_s) >= self._limit:
            raise StepLimitReached

    def _count_step(self) -> None:
        """Keep the operations of the step that ends; the second is the last that is counted."""
        if self._counter is None:
            return
        self.model_flops = self._counter.total
        self._counter.total = 0
        if len(self.step_wall_s) == _COUNTED_STEPS:
            self._stop_counting()

    def _stop_counting(self) -> None:
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
            self._counter = None


def parameter_names() -> dict[int, str]:
    """The dotted names of all parameters that live in modules, by id.

    A parameter that several modules share has the name it has in the first; the wrappers of
    torch.compile and of data parallelism add nothing to a name.
    """
    modules = [m for m in gc.get_objects() if issubclass(type(m), torch.nn.Module)]
    inner = {id(child) for m in modules for child in m.children()}
    names: dict[int, str] = {}
    for root in modules:
        if id(root) in inner:
            continue
        for name, parameter in root.named_parameters():
            name = name.removeprefix("_orig_mod.").removeprefix("module.")
            names.setdefault(id(parameter), name)
    return names
