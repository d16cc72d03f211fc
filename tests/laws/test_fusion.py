"""Law: a fused graph computes what its operators compute one by one, and what PyTorch computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from rainshadow.compiler.frontends.torch.device import register_device  # noqa: E402
from rainshadow.compiler.session import Session, SessionOptions  # noqa: E402

# Before any backward pass: autograd asks once how many kinds of device there are.
register_device()

#: Steps of a program: value, other value, [rows, columns] kept. All are continuous and so are
#: their gradients: after two layer norms x and y differ by rounding alone, and a step that jumps,
#: or bends, at x = y would compare that.
STEPS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: x + y,
    "multiply": lambda x, y: x * y,
    "subtract a number": lambda x, y: x - 0.5,
    "tanh": lambda x, y: torch.tanh(x),
    "sigmoid": lambda x, y: torch.sigmoid(x),
    "gelu": lambda x, y: torch.nn.functional.gelu(x),
    "maximum": lambda x, y: y + torch.tanh(torch.maximum(x, y) - y).square(),
    "where": lambda x, y: torch.where(x > y, x, y + torch.tanh(x - y)),
    "less the mean": lambda x, y: x - x.mean(-1, keepdim=True),
    "softmax": lambda x, y: torch.softmax(x, -1),
    "layer norm": lambda x, y: torch.nn.functional.layer_norm(x, x.shape[-1:]),
    "add column sums": lambda x, y: x + 0.01 * y.sum(0),
    "reshaped": lambda x, y: (x.reshape(-1) * 0.5).reshape(x.shape),
    "transposed": lambda x, y: (x.t().contiguous() + 1).t(),
}
PROGRAMS = st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=6)
SHAPES = st.sampled_from([(1, 7), (64, 48), (128, 33), (200, 16)])


def program(names: list[str]) -> Callable[[Any, Any], Any]:
    def run(x: Any, y: Any) -> Any:
        for name in names:
            x, y = STEPS[name](x, y), x
        return x.square().sum() + y.sum()

    return run


def results(function: Callable[[Any, Any], Any], device: str, shape: tuple[int, int]) -> list[Any]:
    """The value and both gradients, on the CPU."""
    torch.manual_seed(0)
    x, y = (torch.randn(shape).to(device).requires_grad_() for _ in range(2))
    value = function(x, y)
    value.backward()
    zero = torch.zeros(shape)
    return [value.detach().cpu(), *(zero if v.grad is None else v.grad.cpu() for v in (x, y))]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(PROGRAMS, SHAPES)
def test_compiled_equals_eager_equals_pytorch(names, shape):
    torch._dynamo.reset()
    function = program(names)
    expected = results(function, "cpu", shape)
    with Session("trainium2", SessionOptions(precision="fp32", allow_host=False)):
        compiled = results(torch.compile(function, backend="rainshadow"), "rainshadow", shape)
        eager = results(function, "rainshadow", shape)
    for a, b, c in zip(compiled, eager, expected, strict=True):
        torch.testing.assert_close(a, c, rtol=2e-4, atol=2e-4)
        torch.testing.assert_close(b, c, rtol=2e-4, atol=2e-4)
