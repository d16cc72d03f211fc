"""Batches of elementwise regions compute what the regions compute one by one."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from rainshadow.compiler.frontends.torch.device import register_device  # noqa: E402
from rainshadow.compiler.session import Session, SessionOptions  # noqa: E402

SHAPES = [(128, 128), (128,), (256, 65), (65, 7), (384,), (128,), (16, 8, 3), (128, 600)]


def step(device: str, shapes: list[tuple[int, ...]], **options: float) -> list[torch.Tensor]:
    """Parameters after three AdamW steps with made-up gradients."""
    torch.manual_seed(0)
    values = [torch.randn(shape) for shape in shapes]
    gradients = [[torch.randn(shape) for shape in shapes] for _ in range(3)]
    parameters = [torch.nn.Parameter(value.clone().to(device)) for value in values]
    optimizer = torch.optim.AdamW(parameters, **options)
    for row in gradients:
        for parameter, gradient in zip(parameters, row, strict=True):
            parameter.grad = gradient.to(device)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return [parameter.detach().cpu() for parameter in parameters]


def on_chip(shapes: list[tuple[int, ...]], **options: float) -> tuple[list[torch.Tensor], Session]:
    with Session("trainium2", SessionOptions(precision="fp32", allow_host=False)) as session:
        register_device()
        return step("rainshadow", shapes, **options), session


def test_an_adamw_step_over_many_small_parameters_agrees_with_pytorch():
    options = {"lr": 1e-2, "weight_decay": 0.1, "fused": True}
    found, session = on_chip(SHAPES, **options)
    for value, expected in zip(found, step("cpu", SHAPES, **options), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    source = next(k.program.source for k in session.kernels if "adamw" in k.name)
    assert "places = (nl.ds(0, 128)" in source, "small parameters share one function"


def rows_per_parameter(count: int) -> float:
    _, session = on_chip([(128,)] * count, lr=1e-2, fused=True)
    return next(k.trace.num_rows for k in session.kernels if "adamw" in k.name) / count


def test_batching_takes_fewer_instructions_than_one_by_one(monkeypatch):
    batched = rows_per_parameter(12)
    monkeypatch.setattr("rainshadow.compiler.build.batch_flat_regions", lambda r, limits: list(r))
    # Programs are kept by their shapes: another number of parameters is compiled anew.
    assert batched < 0.7 * rows_per_parameter(13)


def test_a_chain_of_equal_steps_is_not_joined():
    def chain(x: torch.Tensor) -> torch.Tensor:
        y = x * 2 + 1
        z = y.reshape(-1, 64).t().contiguous().t().reshape(x.shape) * 2 + 1
        return z * 2 + 1

    x = torch.randn(128, 64)
    with Session("trainium2", SessionOptions(precision="fp32", allow_host=False)):
        register_device()
        found = torch.compile(chain, backend="rainshadow")(x.to("rainshadow")).cpu()
    torch.testing.assert_close(found, chain(x))
