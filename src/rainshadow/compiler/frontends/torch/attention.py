"""Scaled-dot-product attention as one operator of ours, forward and backward.

It is taken out before decomposition: torch's stock table splits the forward of the CPU's flash
attention but not its backward, which gives silently wrong gradients. Masks, dropout and shapes
outside the kernels' reach take the plain matmul-softmax-matmul path. The CPU kernels here are the
operators' definition.
"""

from __future__ import annotations

import math
from typing import Any

import torch

Tensor = torch.Tensor

#: The attention kernels keep one head's features on the 128 partitions.
MAX_HEAD_DIM = 128

_LIBRARY = torch.library.Library("rainshadow", "DEF")
_LIBRARY.define(
    "attention(Tensor q, Tensor k, Tensor v, bool is_causal, float scale) -> (Tensor, Tensor)"
)
_LIBRARY.define(
    "attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, "
    "bool is_causal, float scale) -> (Tensor, Tensor, Tensor)"
)


def attention_reference(
    q: Tensor, k: Tensor, v: Tensor, is_causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """q: [B, H, T, D]; k, v: [B, H, S, D]. Returns out [B, H, T, D], lse float32 [B, H, T].

    lse is the natural logarithm of each row's sum of exponentials. is_causal lets query t see
    keys 0..t (aligned at the top left, as torch does).
    """
    scores = _scores(q, k, is_causal, scale)
    lse = torch.logsumexp(scores, -1)
    weights = torch.exp(scores - lse.unsqueeze(-1)).to(v.dtype)
    return (weights.float() @ v.float()).to(q.dtype).contiguous(), lse


def attention_backward_reference(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor,
    is_causal: bool, scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of q, k, v from the gradient of out [B, H, T, D]."""
    weights = torch.exp(_scores(q, k, is_causal, scale) - lse.unsqueeze(-1))
    grad32, v32 = grad.float(), v.float()
    grad_v = weights.transpose(-1, -2) @ grad32
    delta = (grad32 * out.float()).sum(-1, keepdim=True)
    grad_scores = weights * (grad32 @ v32.transpose(-1, -2) - delta) * scale
    grad_q = (grad_scores @ k.float()).to(q.dtype)
    grad_k = (grad_scores.transpose(-1, -2) @ q.float()).to(k.dtype)
    return grad_q.contiguous(), grad_k.contiguous(), grad_v.to(v.dtype).contiguous()


def _scores(q: Tensor, k: Tensor, is_causal: bool, scale: float) -> Tensor:
    scores = (q.float() @ k.float().transpose(-1, -2)) * scale
    if is_causal:
        rows, columns = scores.shape[-2:]
        keep = torch.ones(rows, columns, dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~keep, -math.inf)
    return scores


_LIBRARY.impl("attention", attention_reference, "CPU")
_LIBRARY.impl("attention_backward", attention_backward_reference, "CPU")


@torch.library.register_fake("rainshadow::attention", lib=_LIBRARY)
def _(q: Tensor, k: Tensor, v: Tensor, is_causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:-1], dtype=torch.float32)


@torch.library.register_fake("rainshadow::attention_backward", lib=_LIBRARY)
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor,
    is_causal: bool, scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    q, k, v, ctx.is_causal, ctx.scale = inputs
    ctx.save_for_backward(q, k, v, *output)


def _backward(ctx: Any, grad: Tensor, grad_lse: Tensor) -> Any:
    gradients = torch.ops.rainshadow.attention_backward(
        grad, *ctx.saved_tensors, ctx.is_causal, ctx.scale
    )
    return (*gradients, None, None)


torch.library.register_autograd(
    "rainshadow::attention", _backward, setup_context=_save, lib=_LIBRARY
)


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, *, scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """torch's operator on this device; see F.scaled_dot_product_attention for the arguments."""
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    if enable_gqa and key.shape[-3] != query.shape[-3]:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    plain = attn_mask is None and dropout_p == 0.0 and query.dim() == 4
    square = not is_causal or query.shape[-2] == key.shape[-2]
    heads = query.shape[:-2] == key.shape[:-2] and value.shape == key.shape
    if plain and square and heads and query.shape[-1] <= MAX_HEAD_DIM:
        return torch.ops.rainshadow.attention(query, key, value, is_causal, factor)[0]
    return _by_matmuls(query, key, value, attn_mask, dropout_p, is_causal, factor)


def _by_matmuls(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, dropout_p: float,
    is_causal: bool, scale: float,
) -> Tensor:  # fmt: skip
    scores = torch.matmul(query, key.transpose(-1, -2)) * scale
    if is_causal:
        shape = (query.shape[-2], key.shape[-2])
        attn_mask = torch.ones(shape, dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = torch.where(attn_mask, scores, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    weights = torch.softmax(scores, -1, dtype=torch.float32)
    if dropout_p > 0.0:
        weights = torch.nn.functional.dropout(weights, dropout_p)
    return torch.matmul(weights.to(value.dtype), value)


def register(library: torch.library.Library) -> None:
    """Route torch's SDPA on the device here, with and without autograd."""
    for key in ("AutogradPrivateUse1", "PrivateUse1"):
        library.impl("scaled_dot_product_attention", scaled_dot_product_attention, key)
