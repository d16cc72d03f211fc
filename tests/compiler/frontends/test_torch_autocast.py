"""The device's autocast policy: CUDA's lists, and a session that switches it off."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

OPERATIONS = {
    "linear": (lambda x: functional.linear(x, x), torch.bfloat16),
    "matmul": (lambda x: x @ x, torch.bfloat16),
    "bmm": (lambda x: torch.bmm(x[None], x[None]), torch.bfloat16),
    "attention": (
        lambda x: functional.scaled_dot_product_attention(
            x[None, None], x[None, None], x[None, None]
        ),
        torch.bfloat16,
    ),
    "softmax": (lambda x: (x @ x).softmax(-1), torch.float32),
    "layer norm": (lambda x: functional.layer_norm(x @ x, (8,)), torch.float32),
    "cross entropy": (
        lambda x: functional.cross_entropy(
            x @ x, torch.zeros(8, dtype=torch.long, device=x.device)
        ),
        torch.float32,
    ),
    "sum": (lambda x: (x @ x).sum(), torch.float32),
    "add": (lambda x: (x @ x) + (x @ x), torch.bfloat16),
    "gelu": (lambda x: functional.gelu(x @ x), torch.bfloat16),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_policy(bf16_session, name):
    operation, dtype = OPERATIONS[name]
    x = torch.ones(8, 8, device="rainshadow") / 8
    with torch.autocast("rainshadow", dtype=torch.bfloat16):
        assert operation(x).dtype == dtype
    assert operation(x).dtype == torch.float32


def test_fp32_session_casts_nothing(session):
    x = torch.ones(8, 8, device="rainshadow")
    with torch.autocast("rainshadow", dtype=torch.bfloat16):
        assert (x @ x).dtype == torch.float32


def test_compiled_under_autocast(bf16_session, case):
    torch._dynamo.reset()
    model, tokens, targets = case.on_device()
    compiled = torch.compile(model, backend="rainshadow")
    with torch.autocast("rainshadow", dtype=torch.bfloat16):
        loss = compiled(tokens, targets)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(case.loss, rel=2e-2)
    assert loss.item() != pytest.approx(case.loss, rel=1e-7)
    assert model.token.weight.grad.dtype == torch.float32
