"""Modules whose operators torch's own table lacks or draws otherwise: values and gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


class First(nn.Module):
    """The first output of a module that returns several."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.module(*inputs)[0]


class Transposed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(0, 1)


def _attention() -> nn.Module:
    class SelfAttention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x, x, x, need_weights=False)[0]

    return SelfAttention()


def _encoder_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dropout": (lambda: nn.Dropout(0.3), (4, 33)),
    "dropout of all": (lambda: nn.Dropout(1.0), (4, 8)),
    "dropout of a transposed input": (
        lambda: nn.Sequential(Transposed(), nn.Dropout(0.5)),
        (6, 12, 5),
    ),
    "lstm": (lambda: First(nn.LSTM(8, 16, 2, batch_first=True)), (3, 5, 8)),
    "lstm without bias": (lambda: First(nn.LSTM(8, 16, bias=False)), (5, 3, 8)),
    "bidirectional lstm": (lambda: First(nn.LSTM(8, 6, bidirectional=True)), (5, 3, 8)),
    "gru": (lambda: First(nn.GRU(8, 16, 2, batch_first=True)), (3, 5, 8)),
    "lstm cell": (lambda: First(nn.LSTMCell(8, 16)), (3, 8)),
    "gru cell": (lambda: nn.GRUCell(8, 16), (3, 8)),
    "batch norm": (lambda: nn.BatchNorm1d(8), (16, 8)),
    "batch norm in 2-D": (lambda: nn.BatchNorm2d(3), (2, 3, 4, 4)),
    "batch norm in evaluation": (lambda: nn.BatchNorm1d(8).eval(), (16, 8)),
    "group norm": (lambda: nn.GroupNorm(2, 8), (4, 8, 6)),
    "instance norm": (lambda: nn.InstanceNorm1d(4, affine=True), (3, 4, 8)),
    "attention with dropout": (_attention, (2, 6, 8)),
    "transformer layer with dropout": (_encoder_layer, (2, 6, 8)),
}


def _outcome(module: nn.Module, x: Tensor, compiled: bool) -> list[Tensor]:
    """Output, gradients and buffers after one forward and backward."""
    torch.manual_seed(5)
    x = x.detach().requires_grad_()
    out = (torch.compile(module, backend="rainshadow") if compiled else module)(x)
    (out * torch.arange(out.numel(), device=out.device).view(out.shape).cos()).sum().backward()
    state = [*(p.grad for p in module.parameters()), *module.buffers()]
    return [t.detach().cpu() for t in (out, x.grad, *state) if t is not None]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", CASES)
def test_module(session, name, compiled):
    build, shape = CASES[name]
    torch.manual_seed(1)
    module, x = build(), torch.randn(shape)
    there = copy.deepcopy(module).to("rainshadow")
    ours = _outcome(there, x.to("rainshadow"), compiled)
    expected = _outcome(module, x, False)
    assert len(ours) == len(expected)
    for got, wanted in zip(ours, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=2e-4, atol=2e-5)


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("correction", [0, 1, 4])
@pytest.mark.parametrize("dim", [None, 0, (0, 1)])
def test_variance(session, dim, correction, keepdim):
    x = torch.randn(4, 6)
    options = {"dim": dim, "correction": correction, "keepdim": keepdim}
    there = torch.var_mean(x.to("rainshadow"), **options)
    for got, wanted in zip(there, torch.var_mean(x, **options), strict=True):
        torch.testing.assert_close(got.cpu(), wanted)
