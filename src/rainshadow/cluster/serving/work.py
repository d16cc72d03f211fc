"""Knows what one forward pass reads and computes when a model answers requests; no machine in it.

Decode of multi-head latent attention is counted absorbed: scores and values are taken against the
compressed cache itself (DeepSeek-V2, section 2.1.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rainshadow.cluster.mixers import Real
from rainshadow.cluster.model import TransformerModel
from rainshadow.errors import UnknownNameError


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How numbers are stored. bytes_per_weight: scales included.  dtypes: of the matmuls, the
    first that a chip has a peak for; a chip without any computes in bfloat16.
    """

    name: str
    bytes_per_weight: float
    bytes_per_cached: float
    dtypes: tuple[str, ...]


#: nvfp4: 4 bits and one 8-bit scale for 16 weights; mxfp4: one for 32.
PRECISIONS = {
    "bf16": Precision(
        name="bf16", bytes_per_weight=2, bytes_per_cached=2, dtypes=("bfloat16",)
    ),
    "int8": Precision(name="int8", bytes_per_weight=1, bytes_per_cached=2, dtypes=("bfloat16",)),
    "fp8": Precision(
        name="fp8", bytes_per_weight=1, bytes_per_cached=1,
        dtypes=("float8_e4m3fn", "float8_e4m3", "float8_e5m2"),
    ),
    "fp4": Precision(
        name="fp4", bytes_per_weight=0.5 + 1 / 16, bytes_per_cached=1,
        dtypes=("float4_e2m1fn_x4", "float8_e4m3fn", "float8_e4m3"),
    ),
    "mxfp4": Precision(
        name="mxfp4", bytes_per_weight=0.5 + 1 / 32, bytes_per_cached=1,
        dtypes=("float4_e2m1fn_x4", "bfloat16"),
    ),
}  # fmt: skip


#: What `rainshadow plan` and other programs call the same.
_ALIASES = {
    "bfloat16": "bf16",
    "float16": "bf16",
    "fp16": "bf16",
    "float8": "fp8",
    "float8_e4m3": "fp8",
    "mxfp8": "fp8",
    "nvfp4": "fp4",
}


def precision_of(name: str) -> Precision:
    """Errors: `UnknownNameError` with the precisions that exist."""
    word = name.lower()
    found = PRECISIONS.get(_ALIASES.get(word, word))
    if found is None:
        raise UnknownNameError("precision", name, [*PRECISIONS, *_ALIASES])
    return found


@dataclass(frozen=True, slots=True)
class Work:
    """Counts of a model, per forward pass."""

    model: TransformerModel

    @property
    def shared_parameters(self) -> int:
        """Weights that every token meets: all but routed experts and the input table."""
        model = self.model
        return (
            model.dense_layers * model.dense_layer_parameters
            + model.moe_layers * model.moe_shared_parameters
            + model.hidden * model.vocab
        )

    @property
    def expert_parameters(self) -> int:
        """All routed experts of all layers."""
        moe = self.model.moe
        return 0 if moe is None else self.model.moe_layers * moe.experts * self._one_expert

    @property
    def active_expert_parameters(self) -> int:
        """Routed experts that one token meets."""
        moe = self.model.moe
        return 0 if moe is None else self.model.moe_layers * moe.top_k * self._one_expert

    @property
    def _one_expert(self) -> int:
        return self.model.expert_parameters

    @property
    def input_table_parameters(self) -> int:
        """The input table, looked up and never streamed; shares the output matrix where tied."""
        return self.model.embedding_parameters - self.model.hidden * self.model.vocab

    def touched_expert_parameters(self, tokens: Real) -> Real:
        """Routed experts that at least one of `tokens` meets, if the router chooses evenly."""
        moe = self.model.moe
        if moe is None:
            return 0.0
        missed = (1 - moe.top_k / moe.experts) ** np.asarray(tokens, dtype=float)
        return self.expert_parameters * (1 - missed)

    def cached_values(self, context: Real) -> Real:
        """Values of the KV cache of one sequence of `context` tokens, all layers."""
        model = self.model
        if model.compressed is not None:
            return model.compressed.cached_values(context, model.layers, model.head_dim)
        seen = np.minimum(context, model.window) if model.window else context
        windowed = model.windowed_layers
        per_token = model.kv_values_per_token
        keys = model.full_layers * np.asarray(context, dtype=float) + windowed * seen
        return per_token * keys + self.state_values

    def read_values(self, context: Real) -> Real:
        """Those of them that one decode step reads."""
        model = self.model
        if model.compressed is not None:
            return model.compressed.read_values(context, model.layers, model.head_dim)
        return self.cached_values(context)

    @property
    def state_values(self) -> int:
        """Of one sequence, all state spaces."""
        return self.model.ssm.cached_values if self.model.ssm is not None else 0

    def decode_attention_flops(self, context: Real) -> Real:
        """Scores and weighted values of one new token against `context` cached ones."""
        model, mla = self.model, self.model.mla
        width = model.query_width + model.value_width
        if mla is not None:
            width = model.heads * (2 * mla.kv_rank + mla.rope_dim)
        if model.compressed is not None:
            part = model.compressed
            index = part.index_flops(np.asarray(context, dtype=float) / part.sparse_ratio)
            return 2 * width * part.keys_of_last(context, model.layers) + index
        keys = (self.cached_values(context) - self.state_values) / model.kv_values_per_token
        states = model.ssm.layers * 4 * model.ssm.inner * model.ssm.state if model.ssm else 0
        return 2 * width * keys + states

    def prefill_attention_flops(self, tokens: float) -> float:
        """Attention of a prompt of `tokens`, all layers, pairs that the mask keeps."""
        per_token = self.model.attention_flops(int(tokens)) + self.model.state_flops
        return self.model.layers * per_token * tokens
