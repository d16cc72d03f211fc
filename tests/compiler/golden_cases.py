"""Small modules whose emitted NKI is kept in tests/golden; as a script, prints one of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from rainshadow.compiler.frontends.torch.device import register_device
from rainshadow.compiler.session import Session, SessionOptions

ROWS, WIDTH, HEADS = 256, 64, 2


class Attention(nn.Module):
    """q, k, v: [1, HEADS, ROWS, WIDTH / HEADS]."""

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


class Loss(nn.Module):
    def forward(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(scores, targets)


class Chain(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x * 2.0 + 1.0) * torch.tanh(x)


def rows(device: str, *shape: int) -> torch.Tensor:
    return torch.ones(shape or (ROWS, WIDTH), device=device, requires_grad=True)


def _linear(device: str) -> torch.Tensor:
    module = nn.Sequential(nn.Linear(WIDTH, 128), nn.GELU()).to(device)
    return torch.compile(module, backend="rainshadow")(rows(device)).sum()


def _layer_norm(device: str) -> torch.Tensor:
    module = nn.LayerNorm(WIDTH).to(device)
    return torch.compile(module, backend="rainshadow")(rows(device)).sum()


def _cross_entropy(device: str) -> torch.Tensor:
    targets = torch.zeros(ROWS, dtype=torch.long).to(device)
    return torch.compile(Loss(), backend="rainshadow")(rows(device), targets)


def _attention(device: str) -> torch.Tensor:
    q, k, v = (rows(device, 1, HEADS, ROWS, WIDTH // HEADS) for _ in range(3))
    return torch.compile(Attention(), backend="rainshadow")(q, k, v).sum()


def _embedding(device: str) -> torch.Tensor:
    module = nn.Embedding(50, WIDTH).to(device)
    tokens = torch.arange(ROWS).remainder(50).to(device)
    return torch.compile(module, backend="rainshadow")(tokens).sum()


def _chain(device: str) -> torch.Tensor:
    return torch.compile(Chain(), backend="rainshadow")(rows(device)).sum()


def _adamw(device: str) -> torch.Tensor:
    parameters = [nn.Parameter(torch.ones(shape).to(device)) for shape in ((128, 8), (128,))]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    torch.optim.AdamW(parameters, lr=1e-3, fused=True).step()
    return rows(device).sum()


CASES: dict[str, Callable[[str], torch.Tensor]] = {
    "linear_gelu": _linear,
    "layer_norm": _layer_norm,
    "cross_entropy": _cross_entropy,
    "attention": _attention,
    "embedding": _embedding,
    "elementwise_chain": _chain,
    "adamw": _adamw,
}


def emitted(name: str) -> str:
    """NKI of every kernel that a case's forward and backward launch, in order."""
    torch._dynamo.reset()
    with Session("trainium2", SessionOptions(precision="fp32", allow_host=False)) as session:
        register_device()
        CASES[name]("rainshadow").backward()
        kernels = [kernel for kernel in session.kernels if kernel.num_launches]
        text = "\n\n".join(f"# kernel {k.name}\n{k.program.source}" for k in kernels)
    # Graphs are numbered in the order in which a process compiles them.
    return re.sub(r"_\d+_(forward|backward)", r"_0_\1", text)


if __name__ == "__main__":
    print(emitted(sys.argv[1]))
