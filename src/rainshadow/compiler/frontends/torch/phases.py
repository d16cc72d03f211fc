"""Knows which part of a training step is running: forward, backward, optimizer or other.

Backward is read off autograd's engine; the optimizer's step off torch's optimizer hooks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from rainshadow.compiler.frontends.torch.storage import is_device_tensor
from rainshadow.compiler.session import Phase, current_session

STEP_START = "optimizer step start"
STEP_END = "optimizer step end"


def eager_phase(differentiable: bool = False) -> Phase:
    """The phase an operator issued now belongs to.

    Outside backward and the optimizer, operators that record gradients are the forward; the rest
    (clipping, scaling, evaluation) is "other". differentiable: the operator is one that autograd
    calls with gradients switched off.
    """
    if torch._C._current_graph_task_id() != -1:
        return "backward"
    if current_session().open_steps:
        return "optimizer"
    return "forward" if torch.is_grad_enabled() or differentiable else "other"


def _is_ours(optimizer: Any) -> bool:
    groups = optimizer.param_groups
    return any(is_device_tensor(parameter) for group in groups for parameter in group["params"])


def _before(optimizer: Any, args: Any, kwargs: Any) -> None:
    if not _is_ours(optimizer):
        return
    session = current_session()
    _leave(optimizer)  # a step that raised never reached its end
    if not session.open_steps:
        session.mark(STEP_START)
    session.open_steps.append(id(optimizer))


def _after(optimizer: Any, args: Any, kwargs: Any) -> None:
    if not _is_ours(optimizer):
        return
    _leave(optimizer)
    if not current_session().open_steps:
        current_session().mark(STEP_END)


def _leave(optimizer: Any) -> None:
    """Forget the optimizer's step and any that began inside it."""
    steps = current_session().open_steps
    if id(optimizer) in steps:
        del steps[steps.index(id(optimizer)) :]


def register() -> None:
    """Watch every optimizer."""
    register_optimizer_step_pre_hook(_before)
    register_optimizer_step_post_hook(_after)
