"""IEEE special values through elementwise operators: infinities, NaN, zeros of both signs."""

from __future__ import annotations

import pytest
import torch

INF, NAN = float("inf"), float("nan")
VALUES = torch.tensor([INF, -INF, NAN, 0.0, -0.0, 1.0, -1.0, 3.4e38, -3.4e38, 1e-45])

CALLS = {
    "add inf": lambda x: x + INF,
    "multiply by inf": lambda x: x * INF,
    "compare with inf": lambda x: (x == INF).float(),
    "less than inf": lambda x: (x < INF).float(),
    "maximum with -inf": lambda x: x.clamp(min=-INF),
    "clamp": lambda x: x.clamp(-2, 2),
    "fill with -inf": lambda x: x.masked_fill(x > 0, -INF),
    "where nan": lambda x: torch.where(x > 0, x, NAN),
    "nan_to_num": lambda x: x.nan_to_num(),
    "full": lambda x: torch.full_like(x, -INF) + 0 * x.nan_to_num(0, 0, 0),
    "exp": lambda x: x.exp(),
    "log": lambda x: x.abs().log(),
    "sqrt": lambda x: x.sqrt(),
    "reciprocal": lambda x: 1 / x,
    "relu": lambda x: x.relu(),
    "sigmoid": lambda x: x.sigmoid(),
    "tanh": lambda x: x.tanh(),
    "maximum": lambda x: torch.maximum(x, x.flip(0)),
    "isinf": lambda x: x.isinf().float(),
    "isnan": lambda x: x.isnan().float(),
    "isfinite": lambda x: x.isfinite().float(),
    "sum": lambda x: x.sum(),
    "amax": lambda x: x.amax(),
    "softmax": lambda x: x[3:7].masked_fill(x[3:7] > 0, -INF).softmax(-1),
}


@pytest.mark.parametrize("name", CALLS)
def test_special_values(session, name):
    there = CALLS[name](VALUES.to("rainshadow")).cpu()
    torch.testing.assert_close(there, CALLS[name](VALUES), equal_nan=True)
