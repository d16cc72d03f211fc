"""Operators taken apart by rules of our own, because torch's table lacks them or draws otherwise.

Dropout draws the numbers the CPU's dropout draws, so that a seed gives one mask on both. The
fused cells of LSTM and GRU are what torch calls on every device but the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def _dropout(x: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    """(x * kept / (1 - p), kept). Drawn as `bernoulli_(1 - p)`, not from uniform numbers."""
    if train is False or p == 0.0:
        return x.clone(), torch.ones_like(x, dtype=torch.bool)
    # The CPU's mask has the strides of a dense x and is drawn in the order of its memory.
    by_stride = sorted(range(x.dim()), key=x.stride, reverse=True)
    kept = torch.bernoulli(x.permute(by_stride), p=1.0 - p)
    kept = kept.permute([by_stride.index(dim) for dim in range(x.dim())])
    scale = 1.0 / (1.0 - p) if p < 1.0 else 0.0
    return x * (kept * scale), kept.to(torch.bool)


def _lstm_cell(
    input_gates: Tensor, hidden_gates: Tensor, cell: Tensor, input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gates in the order input, forget, cell, output: (h, c, the four gates' values)."""
    gates = _biased(input_gates, input_bias) + _biased(hidden_gates, hidden_bias)
    entry, forget, candidate, exit_ = gates.chunk(4, -1)
    entry, forget, exit_ = torch.sigmoid(entry), torch.sigmoid(forget), torch.sigmoid(exit_)
    candidate = torch.tanh(candidate)
    new_cell = forget * cell + entry * candidate
    workspace = torch.cat([entry, forget, candidate, exit_], -1)
    return exit_ * torch.tanh(new_cell), new_cell, workspace


def _lstm_cell_backward(
    grad_hidden: Tensor | None, grad_cell: Tensor | None, cell: Tensor, new_cell: Tensor,
    workspace: Tensor, has_bias: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """(gradient of the gates before their functions, of the old cell, of a bias)."""
    if grad_hidden is None and grad_cell is None:
        return None, None, None
    entry, forget, candidate, exit_ = workspace.chunk(4, -1)
    squashed = torch.tanh(new_cell)
    through = torch.zeros_like(cell) if grad_cell is None else grad_cell
    grad_exit = torch.zeros_like(cell)
    if grad_hidden is not None:
        through = through + grad_hidden * exit_ * (1 - squashed * squashed)
        grad_exit = grad_hidden * squashed
    gates = torch.cat(
        [
            through * candidate * entry * (1 - entry),
            through * cell * forget * (1 - forget),
            through * entry * (1 - candidate * candidate),
            grad_exit * exit_ * (1 - exit_),
        ],
        -1,
    )
    return gates, through * forget, gates.sum(0) if has_bias else None


def _gru_cell(
    input_gates: Tensor, hidden_gates: Tensor, hidden: Tensor, input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gates in the order reset, update, new: (h, what the backward pass needs, 5 wide)."""
    input_reset, input_update, input_new = _biased(input_gates, input_bias).chunk(3, -1)
    own_reset, own_update, own_new = _biased(hidden_gates, hidden_bias).chunk(3, -1)
    reset = torch.sigmoid(input_reset + own_reset)
    update = torch.sigmoid(input_update + own_update)
    new = torch.tanh(input_new + reset * own_new)
    workspace = torch.cat([reset, update, new, hidden, own_new], -1)
    return new + update * (hidden - new), workspace


def _gru_cell_backward(
    grad: Tensor, workspace: Tensor, has_bias: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of the input's gates, the hidden state's gates, the state, and both biases."""
    reset, update, new, hidden, own_new = workspace.chunk(5, -1)
    grad_new = grad * (1 - update) * (1 - new * new)
    grad_update = grad * (hidden - new) * update * (1 - update)
    grad_reset = grad_new * own_new * reset * (1 - reset)
    of_input = torch.cat([grad_reset, grad_update, grad_new], -1)
    of_hidden = torch.cat([grad_reset, grad_update, grad_new * reset], -1)
    biases = (of_input.sum(0), of_hidden.sum(0)) if has_bias else (None, None)
    return of_input, of_hidden, grad * update, *biases


def _biased(gates: Tensor, bias: Tensor | None) -> Tensor:
    return gates if bias is None else gates + bias


def _variance_and_mean(
    x: Tensor, dim: list[int] | None = None, *, correction: float | None = None,
    keepdim: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(sum of squared distances from the mean / (count - correction), mean)."""
    dims = [d % x.dim() for d in dim] if dim else list(range(x.dim()))
    count = math.prod(x.shape[d] for d in dims)
    mean = x.mean(dims, keepdim=True)
    distance = x - mean
    total = (distance * distance).sum(dims, keepdim=keepdim)
    degrees = max(0.0, count - (1 if correction is None else correction))
    variance = total * (1.0 / degrees if degrees else math.inf)
    return variance, mean if keepdim else mean.squeeze(dims)


def _variance(x: Tensor, dim: list[int] | None = None, **options: Any) -> Tensor:
    return _variance_and_mean(x, dim, **options)[0]


#: Overload -> decomposition.
OWN_RULES: dict[Any, Callable[..., Any]] = {
    aten.native_dropout.default: _dropout,
    aten.var.correction: _variance,
    aten.var_mean.correction: _variance_and_mean,
    aten._thnn_fused_lstm_cell.default: _lstm_cell,
    aten._thnn_fused_lstm_cell_backward_impl.default: _lstm_cell_backward,
    aten._thnn_fused_gru_cell.default: _gru_cell,
    aten._thnn_fused_gru_cell_backward.default: _gru_cell_backward,
}


def _batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None,
    running_variance: Tensor | None, training: bool, momentum: float, epsilon: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(normalised, mean, 1 / standard deviation); training moves the running statistics.

    torch's operator overwrites them without saying so in its schema, which tracing relies on.
    """
    if running_mean is None or running_variance is None:
        return aten._native_batch_norm_legit.no_stats(x, weight, bias, training, momentum, epsilon)  # type: ignore[no-any-return]
    if not training:
        return aten._native_batch_norm_legit_no_training(
            x, weight, bias, running_mean, running_variance, momentum, epsilon
        )  # type: ignore[no-any-return]
    *results, mean, variance = aten._native_batch_norm_legit_functional(
        x, weight, bias, running_mean, running_variance, training, momentum, epsilon
    )
    running_mean.copy_(mean)
    running_variance.copy_(variance)
    return tuple(results)  # type: ignore[return-value]


def register(library: torch.library.Library) -> None:
    """Install the operators that overwrite arguments, which a decomposition cannot."""
    library.impl("native_batch_norm", _batch_norm, "PrivateUse1")
