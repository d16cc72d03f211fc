"""One small GPT with its inputs, loss and gradients on the CPU: what front-end tests compare to."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm_1(x)).split(c, dim=2)
        q, k, v = (y.view(b, t, self.heads, c // self.heads).transpose(1, 2) for y in (q, k, v))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(y.transpose(1, 2).contiguous().view(b, t, c))
        return x + self.mlp(self.norm_2(x))


class SmallGPT(nn.Module):
    """One block, tied embeddings: every operator of a GPT's training step."""

    def __init__(self, vocabulary: int = 32, context: int = 16, width: int = 32) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(context, width)
        self.block = Block(width, heads=2)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.token.weight

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(tokens.size(1), device=tokens.device)
        x = self.block(self.token(tokens) + self.position(positions))
        return functional.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


class Case:
    """A model on the CPU with its inputs, loss and gradients."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = SmallGPT()
        self.tokens = torch.randint(0, 32, (2, 16))
        self.targets = torch.randint(0, 32, (2, 16))
        loss = self.model(self.tokens, self.targets)
        loss.backward()
        self.loss = loss.item()
        self.gradients = gradients(self.model)
        self.model.zero_grad()

    def on_device(self) -> tuple[SmallGPT, torch.Tensor, torch.Tensor]:
        model = self.model.to("rainshadow")
        return model, self.tokens.to("rainshadow"), self.targets.to("rainshadow")


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all gradients, on the CPU."""
    return {name: p.grad.cpu().clone() for name, p in model.named_parameters()}


def worst_relative_error(found: dict[str, torch.Tensor], true: dict[str, torch.Tensor]) -> float:
    """Largest, over parameters, of the error's norm against the true gradient's norm."""
    assert found.keys() == true.keys()
    return max(
        float((found[name] - true[name]).norm() / true[name].norm().clamp_min(1e-12))
        for name in true
    )
