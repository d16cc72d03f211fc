"""Optimizers, gradient clipping and GradScaler on the device against the CPU."""

from __future__ import annotations

import pytest
import torch
import torch.nn as nn

OPTIMIZERS = {
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1, fused=True),
    "adamw foreach": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=False),
    "adam fused amsgrad": lambda p: torch.optim.Adam(p, lr=1e-2, fused=True, amsgrad=True),
    "sgd fused": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, nesterov=True, fused=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
}


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4))


def _train(model: nn.Module, make, device: str, steps: int = 4) -> list[float]:
    optimizer = make(model.parameters())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    generator = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(steps):
        x = torch.randn(6, 8, generator=generator).to(device)
        loss = model(x).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parity_with_cpu(session, name):
    make = OPTIMIZERS[name]
    plain = (lambda p: make(p)) if "fused" not in name else make
    host, there = _model(), _model().to("rainshadow")
    expected = _train(host, plain, "cpu")
    assert _train(there, make, "rainshadow") == pytest.approx(expected, rel=1e-4)
    for a, b in zip(there.parameters(), host.parameters(), strict=True):
        torch.testing.assert_close(a.detach().cpu(), b.detach(), rtol=2e-4, atol=1e-5)
    assert session.host_fallbacks == []
    assert session.step == 4


def test_fused_adamw_is_one_launch_in_place(session):
    model = _model().to("rainshadow")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    for _ in range(3):
        model(torch.ones(2, 8, device="rainshadow")).sum().backward()
        optimizer.step()
    adam = [x for x in session.launches if x.kernel.name.startswith("fused_adamw")]
    assert len(adam) == 3
    assert len({x.kernel.number for x in adam}) == 1
    assert {x.phase for x in adam} == {"optimizer"}
    assert [m.name for m in session.marks[:2]] == ["optimizer step start", "optimizer step end"]


def test_learning_rate_schedule_makes_no_new_programs(session):
    model = _model().to("rainshadow")
    _train(model, OPTIMIZERS["adamw fused"], "rainshadow", steps=2)
    programs = len(session.kernels)
    torch.manual_seed(0)
    _train(model, OPTIMIZERS["adamw fused"], "rainshadow", steps=6)
    assert len(session.kernels) == programs


@pytest.mark.parametrize("overflow", [False, True])
def test_grad_scaler(session, overflow):
    model = nn.Linear(4, 1).to("rainshadow")
    before = model.weight.detach().cpu().clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    scaler = torch.amp.GradScaler("rainshadow", init_scale=256.0, growth_interval=1)
    x = torch.ones(2, 4, device="rainshadow")
    if overflow:
        x[0, 0] = float("inf")
    scaler.scale(model(x).sum()).backward()
    scaler.unscale_(optimizer)
    if not overflow:
        assert model.weight.grad.tolist() == [[2.0] * 4]
    scaler.step(optimizer)
    scaler.update()
    changed = not torch.equal(model.weight.detach().cpu(), before)
    assert changed != overflow
    assert scaler.get_scale() == (128.0 if overflow else 512.0)
    assert session.host_fallbacks == []


def test_amsgrad_and_found_inf_leave_weights(session):
    weight = torch.ones(3, device="rainshadow")
    state = [torch.zeros(3, device="rainshadow") for _ in range(3)]
    gradient = torch.ones(3, device="rainshadow")
    step = torch.ones((), device="rainshadow")
    torch._fused_adam_(
        [weight], [gradient], [state[0]], [state[1]], [state[2]], [step],
        lr=0.1, beta1=0.9, beta2=0.99, weight_decay=0.0, eps=1e-8, amsgrad=True, maximize=False,
        grad_scale=torch.ones((), device="rainshadow"),
        found_inf=torch.ones((), device="rainshadow"),
    )  # fmt: skip
    assert weight.tolist() == [1, 1, 1]
    assert state[0].tolist() == [0, 0, 0]
