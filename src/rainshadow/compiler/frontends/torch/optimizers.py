"""Optimizer and GradScaler operators over lists of tensors, as elementwise math.

Each rule names the tensors an operator overwrites and their new values, so that one graph - one
kernel launch - updates every parameter. Formulas follow the torch.optim documentation of AdamW,
Adam and SGD, and of torch.amp.GradScaler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

Tensor = torch.Tensor
Tensors = Sequence[Tensor]
#: (tensors overwritten, their new values)
Update = tuple[list[Tensor], list[Tensor]]


def _adam(
    params: Tensors, grads: Tensors, exp_avgs: Tensors, exp_avg_sqs: Tensors,
    max_exp_avg_sqs: Tensors, state_steps: Tensors, *, lr: Any, beta1: float, beta2: float,
    weight_decay: float, eps: float, amsgrad: bool, maximize: bool,
    grad_scale: Tensor | None = None, found_inf: Tensor | None = None, decoupled: bool,
) -> Update:  # fmt: skip
    old: list[Tensor] = []
    new: list[Tensor] = []
    shrinkage = lr * weight_decay
    rates, roots = _rates_and_roots(state_steps, lr, beta1, beta2)
    for i, param in enumerate(params):
        weight = param.float()
        grad = grads[i].float()
        if grad_scale is not None:
            grad = grad / grad_scale
            old.append(grads[i])
            new.append(grad.to(grads[i].dtype))
        if maximize:
            grad = -grad
        if weight_decay and not decoupled:
            grad = grad + weight * weight_decay
        first, second = exp_avgs[i], exp_avg_sqs[i]
        # Every operator reads a result or an input of one before: the fuser makes one region.
        mean = first.float() + (grad - first.float()) * (1 - beta1)
        square = second.float() + (grad * grad - second.float()) * (1 - beta2)
        largest = square
        if amsgrad:
            largest = torch.maximum(max_exp_avg_sqs[i].float(), square)
            old.append(max_exp_avg_sqs[i])
            new.append(largest.to(max_exp_avg_sqs[i].dtype))
        denominator = torch.sqrt(largest) * roots[i] + eps
        updated = weight - (mean / denominator) * rates[i]
        if weight_decay and decoupled:
            updated = updated - weight * shrinkage
        old += [param, first, second]
        new += [updated.to(param.dtype), mean.to(first.dtype), square.to(second.dtype)]
    return old, _unless(found_inf, old, new)


def _rates_and_roots(
    steps: Tensor | Tensors, lr: Any, beta1: float, beta2: float
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Per parameter: lr / (1 - beta1**step), and 1 / sqrt(1 - beta2**step).

    steps: one vector, or a scalar for each parameter.
    """
    if not isinstance(steps, Tensor):
        pairs = [_rates_and_roots(step, lr, beta1, beta2) for step in steps]
        return [rate for rate, _ in pairs], [root for _, root in pairs]  # type: ignore[misc]
    counts = steps.float()
    rate = torch.reciprocal(_bias_correction(counts, beta1)) * lr
    return rate, torch.rsqrt(_bias_correction(counts, beta2))  # type: ignore[return-value]


def _bias_correction(step: Tensor, beta: float) -> Tensor:
    """1 - beta**step, by tanh: in float32 the plain formula loses four digits at beta 0.999."""
    # A decay rate of 0 has no past: e**-1e4 is 0.
    half = step * (0.5 * math.log(beta) if beta > 0 else -1e4)
    tangent = torch.tanh(half)
    return (tangent * -2.0) / (1.0 - tangent)


def _unless(found_inf: Tensor | None, old: Tensors, new: list[Tensor]) -> list[Tensor]:
    """Keep the old values where GradScaler found an overflow."""
    if found_inf is None:
        return new
    skip = found_inf != 0
    return [torch.where(skip, before, after) for before, after in zip(old, new, strict=True)]


def _fused_adamw(*state: Any, **options: Any) -> Update:
    return _adam(*state, decoupled=True, **options)


def _fused_adam(*state: Any, **options: Any) -> Update:
    return _adam(*state, decoupled=False, **options)


def _fused_sgd(
    params: Tensors, grads: Tensors, buffers: Tensors, *, weight_decay: float, momentum: float,
    lr: Any, dampening: float, nesterov: bool, maximize: bool, is_first_step: bool,
    grad_scale: Tensor | None = None, found_inf: Tensor | None = None,
) -> Update:  # fmt: skip
    old: list[Tensor] = []
    new: list[Tensor] = []
    for i, param in enumerate(params):
        grad = grads[i].float()
        if grad_scale is not None:
            grad = grad / grad_scale
            old.append(grads[i])
            new.append(grad.to(grads[i].dtype))
        if maximize:
            grad = -grad
        weight = param.float()
        if weight_decay:
            grad = grad + weight * weight_decay
        if momentum:
            past = buffers[i].float()
            buffer = grad if is_first_step else past * momentum + grad * (1 - dampening)
            old.append(buffers[i])
            new.append(buffer.to(buffers[i].dtype))
            grad = grad + buffer * momentum if nesterov else buffer
        old.append(param)
        new.append((weight - grad * lr).to(param.dtype))
    return old, _unless(found_inf, old, new)


def _unscale(grads: Tensors, found_inf: Tensor, inv_scale: Tensor) -> Update:
    """GradScaler.unscale_: divide the gradients, and set found_inf to 1 if any is not finite."""
    worst = found_inf
    scaled = []
    for grad in grads:
        # x - x is 0 for every finite x and NaN otherwise; NaN != NaN.
        difference = grad.float() - grad.float()
        bad = (difference != difference).float().amax()
        worst = torch.maximum(worst, bad.expand(found_inf.shape))
        scaled.append((grad.float() * inv_scale).to(grad.dtype))
    return [*grads, found_inf], [*scaled, worst]


def _update_scale(
    scale: Tensor, growth_tracker: Tensor, found_inf: Tensor, growth: float, backoff: float,
    interval: int,
) -> Update:  # fmt: skip
    """GradScaler.update: shrink after an overflow, grow after `interval` good steps."""
    overflow = found_inf != 0
    streak = growth_tracker + 1
    grows = streak == interval
    grown = torch.where(grows, scale * growth, scale)
    new_scale = torch.where(overflow, scale * backoff, grown)
    zero = torch.zeros_like(growth_tracker)
    kept = torch.where(grows, zero, streak)
    return [scale, growth_tracker], [new_scale, torch.where(overflow, zero, kept)]


aten = torch.ops.aten

#: Operators that overwrite their arguments -> rule.
UPDATES: dict[Any, Callable[..., Update]] = {
    aten._fused_adamw_.default: _fused_adamw,
    aten._fused_adamw_.tensor_lr: _fused_adamw,
    aten._fused_adam_.default: _fused_adam,
    aten._fused_adam_.tensor_lr: _fused_adam,
    aten._fused_sgd_.default: _fused_sgd,
    aten._fused_sgd_.tensor_lr: _fused_sgd,
    aten._amp_foreach_non_finite_check_and_unscale_.default: _unscale,
    aten._amp_update_scale_.default: _update_scale,
}
