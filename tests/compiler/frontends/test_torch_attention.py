"""Attention on the device against torch's own on the CPU, forward and gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

BOOLEAN = torch.ones(6, 6, dtype=torch.bool).tril()
ADDITIVE = torch.linspace(-1, 1, 36).view(6, 6)

CASES = {
    "plain": {},
    "causal": {"is_causal": True},
    "scale": {"scale": 0.3, "is_causal": True},
    "boolean mask": {"attn_mask": BOOLEAN},
    "additive mask": {"attn_mask": ADDITIVE},
    "grouped heads": {"enable_gqa": True, "is_causal": True},
}


@pytest.mark.parametrize("name", CASES)
def test_forward_and_gradients(session, name):
    torch.manual_seed(0)
    options = CASES[name]
    kv_heads = 2 if options.get("enable_gqa") else 4
    host = [torch.randn(2, h, 6, 8, requires_grad=True) for h in (4, kv_heads, kv_heads)]
    weight = torch.randn(2, 4, 6, 8)
    out = functional.scaled_dot_product_attention(*host, **options)
    out.backward(weight)
    there = [t.detach().to("rainshadow").requires_grad_() for t in host]
    moved = {k: v.to("rainshadow") if torch.is_tensor(v) else v for k, v in options.items()}
    found = functional.scaled_dot_product_attention(*there, **moved)
    found.backward(weight.to("rainshadow"))
    torch.testing.assert_close(found.cpu(), out, rtol=1e-4, atol=1e-5)
    for a, b in zip(there, host, strict=True):
        torch.testing.assert_close(a.grad.cpu(), b.grad, rtol=1e-4, atol=1e-5)
    own = [launch for launch in session.launches if "attention" in launch.kernel.name]
    assert bool(own) == ("attn_mask" not in options)
    assert session.host_fallbacks == []


def test_reference_is_the_definition_and_passes_gradcheck():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 4, 3, requires_grad=True) for _ in range(3))
    out, lse = torch.ops.rainshadow.attention(q, k, v, True, 0.5)
    true = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.5)
    torch.testing.assert_close(out, true)
    assert lse.shape == (1, 2, 4)
    weight = torch.randn_like(out)
    found = torch.autograd.grad(out, (q, k, v), weight)
    torch.testing.assert_close(found, torch.autograd.grad(true, (q, k, v), weight))


def test_dropout_takes_the_plain_path(session):
    q = torch.randn(1, 1, 4, 8, device="rainshadow")
    out = functional.scaled_dot_product_attention(q, q, q, dropout_p=0.5)
    assert out.shape == q.shape
    assert "attention" not in [launch.kernel.name for launch in session.launches]
    assert session.transfers["random"].count >= 1
