"""Knows what a layer's mixer is made of where it is not plain attention; no model, no machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Real: TypeAlias = float | NDArray[np.float64]
#: One weight matrix of a mixer: inputs, outputs, split by tensor parallelism.
Matrix = tuple[int, int, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2): low-rank queries and a compressed KV cache.

    q_rank 0: queries are not compressed. nope_dim, rope_dim, value_dim: per head.
    """

    q_rank: int
    kv_rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSpace:
    """Mamba-2 mixers, in place of attention in `layers` of the model's layers (arXiv 2405.21060).

    state: values that each channel keeps.  groups: of heads that share what writes to and reads
    from the state.  conv: taps of the convolution before it.  chunk: tokens that a kernel works on
    at a time.
    """

    layers: int
    heads: int
    head_dim: int
    state: int
    groups: int
    conv: int = 4
    chunk: int = 128

    @property
    def inner(self) -> int:
        """Channels of all heads."""
        return self.heads * self.head_dim

    @property
    def convolved(self) -> int:
        """Channels that pass the convolution: the input, and what writes to and reads the state."""
        return self.inner + 2 * self.groups * self.state

    @property
    def flops(self) -> int:
        """Per token: within a chunk, where a causal mask keeps half, and through the state."""
        inside = self.chunk * (self.groups * self.state + self.inner)
        return inside + 4 * self.inner * self.state

    @property
    def cached_values(self) -> int:
        """Of one sequence: states of 32 bits, counted as two values."""
        return 2 * self.layers * self.inner * self.state


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedAttention:
    """Attention to a window of keys and to compressed ones, keys being values too (DeepSeek-V4).

    q_rank: of the queries.  out_groups, out_rank: the output is projected by groups of heads to
    out_rank each, then to the model's width.  window: keys that every layer sees as they are.
    sparse_layers: see top_k of the keys made of sparse_ratio tokens each, chosen by an indexer of
    index_heads heads of index_dim.  block_layers: see all keys made of block_ratio tokens each.
    """

    q_rank: int
    out_groups: int
    out_rank: int
    window: int
    sparse_layers: int
    sparse_ratio: int
    top_k: int
    index_heads: int
    index_dim: int
    block_layers: int
    block_ratio: int

    def matrices(self, hidden: int, heads: int, head_dim: int) -> tuple[tuple[str, Matrix], ...]:
        """The projections that each layer has."""
        width = heads * head_dim
        return (
            ("q_down", (hidden, self.q_rank, False)),
            ("q_up", (self.q_rank, width, True)),
            ("kv", (hidden, head_dim, False)),
            ("out_down", (width, self.out_rank, True)),
            ("out_up", (self.out_groups * self.out_rank, hidden, True)),
        )

    def sparse_matrices(self, hidden: int, head_dim: int) -> tuple[Matrix, ...]:
        """Of a sparse layer: keys and their gates, from overlapping pairs of blocks; the indexer,
        with compressed keys of its own.
        """
        return (
            (hidden, 4 * head_dim, False),
            (self.q_rank, self.index_heads * self.index_dim, True),
            (hidden, self.index_heads, True),
            (hidden, 4 * self.index_dim, False),
        )

    def block_matrices(self, hidden: int, head_dim: int) -> tuple[Matrix, ...]:
        """Of a layer that sees blocks: keys and their gates."""
        return ((hidden, 2 * head_dim, False),)

    def keys_seen(self, sequence: float, layers: int) -> float:
        """Keys of a causal query, averaged over the tokens of a sequence, summed over layers."""
        sparse = _mean_seen(sequence / self.sparse_ratio, self.top_k)
        return (
            layers * _mean_seen(sequence, self.window)
            + self.sparse_layers * sparse
            + self.block_layers * sequence / self.block_ratio / 2
        )

    def keys_of_last(self, context: Real, layers: int) -> Real:
        """Keys that a token after `context` others sees, summed over layers."""
        tokens = np.asarray(context, dtype=float)
        return (
            layers * np.minimum(tokens, self.window)
            + self.sparse_layers * np.minimum(tokens / self.sparse_ratio, self.top_k)
            + self.block_layers * tokens / self.block_ratio
        )

    def cached_values(self, context: Real, layers: int, head_dim: int) -> Real:
        """Of one sequence, all layers: windows, compressed keys, the indexers' own."""
        tokens = np.asarray(context, dtype=float)
        sparse = self.sparse_layers * (head_dim + self.index_dim) / self.sparse_ratio
        blocks = self.block_layers * head_dim / self.block_ratio
        return layers * head_dim * np.minimum(tokens, self.window) + (sparse + blocks) * tokens

    def read_values(self, context: Real, layers: int, head_dim: int) -> Real:
        """Those of them that the next token reads: the indexers' keys all, of others its own."""
        index = self.sparse_layers * self.index_dim / self.sparse_ratio
        return head_dim * self.keys_of_last(context, layers) + index * np.asarray(context, float)

    def index_flops(self, keys: Real) -> Real:
        """Scores of `keys` compressed keys, all sparse layers."""
        return 2 * self.sparse_layers * self.index_heads * self.index_dim * keys


def _mean_seen(keys: float, most: int) -> float:
    """Of a causal mask over `keys`, where no query sees more than `most`: the mean."""
    return keys / 2 if keys <= most else most - most**2 / (2 * keys)
