"""torch.autocast on the device: which operators run in bf16 and which in float32.

The lists follow torch's documented CUDA policy ("Automatic Mixed Precision package", CUDA ops that
can autocast to float16 / to float32), because scripts written for CUDA expect it. A session with
precision="fp32" casts nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_map

from rainshadow.compiler.frontends.torch.storage import DEVICE_TYPE
from rainshadow.compiler.session import current_session

LOWER_PRECISION = (
    "linear", "matmul", "mm", "bmm", "addmm", "addbmm", "baddbmm", "addmv", "addr", "mv",
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d.input",
    "conv_transpose3d.input", "einsum", "prelu", "scaled_dot_product_attention",
)  # fmt: skip

FLOAT32 = (
    "layer_norm", "group_norm", "rms_norm", "softmax.int", "log_softmax.int", "nll_loss",
    "nll_loss_nd", "cross_entropy_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss",
    "soft_margin_loss", "triplet_margin_loss", "hinge_embedding_loss", "margin_ranking_loss",
    "cosine_embedding_loss", "poisson_nll_loss", "kl_div", "binary_cross_entropy_with_logits",
    "cosine_similarity", "cdist", "dist", "renorm", "exp", "expm1", "log", "log10", "log1p",
    "log2", "pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar", "reciprocal", "rsqrt",
    "softplus", "sum", "sum.dim_IntList", "prod", "prod.dim_int", "cumsum", "cumprod",
    "norm.Scalar", "norm.ScalarOpt_dim", "logsumexp", "acos", "asin", "cosh", "erfinv", "sinh",
    "tan",
)  # fmt: skip

_KEY = "AutocastPrivateUse1"
_KEYS = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    eligible = (
        isinstance(value, torch.Tensor)
        and value.is_floating_point()
        and value.device.type == DEVICE_TYPE
        and value.dtype not in (dtype, torch.float64)
    )
    return value.to(dtype) if eligible else value


def _casting(operator: Any, fixed: torch.dtype | None) -> Callable[..., Any]:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_KEYS):
            if current_session().options.precision == "bf16":
                dtype = fixed or torch.get_autocast_dtype(DEVICE_TYPE)
                args, kwargs = tree_map(lambda value: _cast(value, dtype), (args, kwargs))
            return operator(*args, **kwargs)

    return kernel


def _overload(name: str) -> Any:
    base, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, base), overload or "default")


def register(aten: torch.library.Library, everything_else: torch.library.Library) -> None:
    """Install the policy; operators on neither list run in the dtype they are given."""
    everything_else.fallback(torch.library.fallthrough_kernel, _KEY)
    for name in LOWER_PRECISION:
        aten.impl(name, _casting(_overload(name), None), _KEY)
    for name in FLOAT32:
        aten.impl(name, _casting(_overload(name), torch.float32), _KEY)
