"""Knows what a transformer or hybrid is made of: parameters and FLOPs, counted exactly; no machine.

Reading files is left to `cluster.model_files`. One multiply-add is two FLOPs. Attention counts
only the pairs a causal or windowed mask keeps, because that is what kernels execute.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from rainshadow.cluster.mixers import CompressedAttention, LatentAttention, StateSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureOfExperts:
    """Experts beside or instead of the dense MLP. shared_ffn: width of all shared experts.

    dense_layers: layers that keep a dense MLP of the model's `ffn`.  latent: width that routed
    experts read and write (LatentMoE), 0 for the model's own.
    """

    experts: int
    top_k: int
    expert_ffn: int
    shared_ffn: int = 0
    dense_layers: int = 0
    latent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """A vision or audio tower that runs before the transformer on `tokens` of its own."""

    layers: int
    hidden: int
    heads: int
    ffn: int
    tokens: int
    gated: bool = False


@dataclass(frozen=True, kw_only=True)
class TransformerModel:
    """One transformer.

    layers: each one mixer (attention, or a state space) and one MLP.
    ffn: width of the dense MLP, 0 in a hybrid whose other layers have none.
    max_positions: learned position embeddings, 0 for rotary.
    window: keys a windowed layer sees, 0 for none; global_layers: layers that see all keys.
    prediction_layers: multi-token-prediction layers (DeepSeek-V3), each one layer and one
    projection of 2 hidden -> hidden.  streams: residual streams that a mixer or MLP reads and
    writes as mixtures (manifold-constrained hyper-connections), 1 for the plain residual.
    sources: keys of data/sources.toml.
    """

    name: str
    title: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    gated: bool = True
    tied_embeddings: bool = False
    bias: bool = False
    layer_norm: bool = False
    max_positions: int = 0
    causal: bool = True
    window: int = 0
    global_layers: int = 0
    prediction_layers: int = 0
    streams: int = 1
    moe: MixtureOfExperts | None = None
    mla: LatentAttention | None = None
    ssm: StateSpace | None = None
    compressed: CompressedAttention | None = None
    encoder: Encoder | None = None
    aliases: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    note: str = ""

    @property
    def unusual_mixers(self) -> str:
        """What layers have instead of plain or latent attention; empty for nothing else."""
        if self.ssm is not None:
            return "state-space layers"
        return "compressed attention" if self.compressed is not None else ""

    # Layers of each kind.

    @property
    def dense_layers(self) -> int:
        """Layers with a dense MLP."""
        return self.layers if self.moe is None else self.moe.dense_layers

    @property
    def moe_layers(self) -> int:
        """Layers with experts; multi-token-prediction layers are counted apart."""
        return self.layers - self.dense_layers

    @property
    def attention_layers(self) -> int:
        """Layers whose mixer is attention."""
        return self.layers - (self.ssm.layers if self.ssm is not None else 0)

    @property
    def full_layers(self) -> int:
        """Layers whose attention sees all keys."""
        return self.global_layers if self.window else self.attention_layers

    @property
    def windowed_layers(self) -> int:
        """Layers whose attention sees the last keys only."""
        return self.attention_layers - self.full_layers

    # Parameters.

    @property
    def query_width(self) -> int:
        """Columns of the query projection, all heads."""
        if self.mla is not None:
            return self.heads * (self.mla.nope_dim + self.mla.rope_dim)
        return self.heads * self.head_dim

    @property
    def value_width(self) -> int:
        """Rows of the output projection, all heads."""
        return self.heads * (self.mla.value_dim if self.mla is not None else self.head_dim)

    @cached_property
    def attention_matrices(self) -> tuple[tuple[str, int, int, bool], ...]:
        """(name, inputs, outputs, split by tensor parallelism) of the projections."""
        hidden, mla = self.hidden, self.mla
        if self.compressed is not None:
            rows_of = self.compressed.matrices(hidden, self.heads, self.head_dim)
            return tuple((name, *matrix) for name, matrix in rows_of)
        if mla is None:
            kv_width = self.kv_heads * self.head_dim
            return (
                ("qkv", hidden, self.query_width + 2 * kv_width, True),
                ("out", self.value_width, hidden, True),
            )
        up = self.heads * (mla.nope_dim + mla.value_dim)
        rows: list[tuple[str, int, int, bool]] = []
        if mla.q_rank:
            rows += [
                ("q_down", hidden, mla.q_rank, False),
                ("q_up", mla.q_rank, self.query_width, True),
            ]
        else:
            rows.append(("q", hidden, self.query_width, True))
        rows += [
            ("kv_down", hidden, mla.kv_rank + mla.rope_dim, False),
            ("kv_up", mla.kv_rank, up, True),
            ("out", self.value_width, hidden, True),
        ]
        return tuple(rows)

    @cached_property
    def mixer_matrices(self) -> tuple[tuple[int, int, bool, float], ...]:
        """(inputs, outputs, split by tensor parallelism, share of the layers that have it)."""
        share = self.attention_layers / self.layers
        mine = tuple((i, o, split, share) for _, i, o, split in self.attention_matrices)
        if self.compressed is not None:
            return mine + self._compressing_matrices
        if self.ssm is None:
            return mine
        entry = self.ssm.inner + self.ssm.convolved + self.ssm.heads
        mamba = ((self.hidden, entry), (self.ssm.inner, self.hidden))
        return mine + tuple((i, o, True, 1 - share) for i, o in mamba)

    @property
    def _compressing_matrices(self) -> tuple[tuple[int, int, bool, float], ...]:
        part = self.compressed
        if part is None:
            return ()
        sparse, block = part.sparse_layers / self.layers, part.block_layers / self.layers
        return (
            *((*one, sparse) for one in part.sparse_matrices(self.hidden, self.head_dim)),
            *((*one, block) for one in part.block_matrices(self.hidden, self.head_dim)),
        )

    @property
    def mixed_width(self) -> float:
        """Rows of the output projection of a mixer, averaged over layers."""
        if self.ssm is None:
            return self.value_width
        total = self.attention_layers * self.value_width + self.ssm.layers * self.ssm.inner
        return total / self.layers

    @cached_property
    def mixer_width(self) -> float:
        """Values that a mixer keeps of a token for the backward pass, averaged over layers."""
        attention = self.query_width + self.kv_values_per_token + self.value_width
        if self.ssm is None:
            return attention
        share = self.attention_layers / self.layers
        mamba = self.ssm.convolved + 2 * self.ssm.inner  # convolved, the gate, and the result
        return share * attention + (1 - share) * mamba

    @cached_property
    def mixer_parameters(self) -> float:
        """Weights of one layer's mixer, averaged over layers; a whole number without a hybrid."""
        if self.ssm is None:
            compressing = sum(share * i * o for i, o, _, share in self._compressing_matrices)
            return self.attention_parameters + compressing
        ssm = self.ssm
        entry = ssm.inner + ssm.convolved + ssm.heads
        small = ssm.convolved * (ssm.conv + 1) + 3 * ssm.heads + ssm.inner
        mamba = self.hidden * (entry + ssm.inner) + small
        total = self.attention_layers * self.attention_parameters + ssm.layers * mamba
        return total / self.layers

    @cached_property
    def attention_parameters(self) -> int:
        """Weights of one layer's attention, biases included."""
        count = sum(rows * columns for _, rows, columns, _ in self.attention_matrices)
        if self.bias:
            count += sum(columns for _, _, columns, _ in self.attention_matrices)
        if self.mla is not None:
            count += self.mla.q_rank + self.mla.kv_rank  # their norms
        return count

    def mlp_parameters(self, width: int) -> int:
        """Weights of an MLP of `width`, biases included."""
        matrices = 3 if self.gated else 2
        biases = (matrices - 1) * width + self.hidden if self.bias else 0
        return matrices * self.hidden * width + biases

    @property
    def norm_parameters(self) -> int:
        """The two norms of a layer, and what mixes its residual streams."""
        norms = 2 * self.hidden * (2 if self.layer_norm else 1)
        return norms + 2 * self.mixing_parameters

    @property
    def mixing_parameters(self) -> int:
        """Of one mixer or MLP: from all streams to the weights of its reads, writes and mixture."""
        if self.streams == 1:
            return 0
        return (2 + self.streams) * self.streams * self.streams * self.hidden

    @property
    def expert_width(self) -> int:
        """Values of a token that a routed expert reads and writes."""
        return (self.moe.latent if self.moe is not None else 0) or self.hidden

    @cached_property
    def expert_parameters(self) -> int:
        """One routed expert."""
        if self.moe is None:
            return 0
        if not self.moe.latent:
            return self.mlp_parameters(self.moe.expert_ffn)
        return (3 if self.gated else 2) * self.moe.latent * self.moe.expert_ffn

    @property
    def latent_parameters(self) -> int:
        """Of a layer with experts: into their width and back."""
        return 2 * self.hidden * self.moe.latent if self.moe is not None else 0

    @cached_property
    def dense_layer_parameters(self) -> float:
        """One layer with a dense MLP."""
        return self.mixer_parameters + self.norm_parameters + self.mlp_parameters(self.ffn)

    @cached_property
    def moe_shared_parameters(self) -> float:
        """One layer with experts, without the routed experts: every expert-parallel rank has it."""
        if self.moe is None:
            return 0
        shared = self.mlp_parameters(self.moe.shared_ffn) if self.moe.shared_ffn else 0
        router = self.hidden * self.moe.experts + self.latent_parameters
        return self.mixer_parameters + self.norm_parameters + shared + router

    @cached_property
    def embedding_parameters(self) -> int:
        """The input table, and the output matrix where it is not the same."""
        tables = 1 if self.tied_embeddings else 2
        return self.hidden * (tables * self.vocab + self.max_positions)

    @cached_property
    def encoder_parameters(self) -> int:
        """The tower and its projection into the transformer."""
        tower = self.encoder
        if tower is None:
            return 0
        mlp = (3 if tower.gated else 2) * tower.hidden * tower.ffn
        layer = 4 * tower.hidden**2 + mlp + 4 * tower.hidden
        return tower.layers * layer + tower.hidden * self.hidden

    @cached_property
    def prediction_parameters(self) -> float:
        """The multi-token-prediction layers."""
        return self.prediction_layers * (self._last_layer_parameters + 2 * self.hidden**2)

    @property
    def _last_layer_parameters(self) -> float:
        if self.moe is None:
            return self.dense_layer_parameters
        return self.moe_shared_parameters + self.moe.experts * self.expert_parameters

    @cached_property
    def num_parameters(self) -> int:
        """All of them, the multi-token-prediction layers left out as model cards do."""
        experts = self.moe.experts if self.moe is not None else 0
        moe_layer = self.moe_shared_parameters + experts * self.expert_parameters
        final_norm = self.hidden * (2 if self.layer_norm else 1)
        layers = self.dense_layers * self.dense_layer_parameters + self.moe_layers * moe_layer
        return round(layers) + self.embedding_parameters + self.encoder_parameters + final_norm

    @cached_property
    def num_active_parameters(self) -> int:
        """Those a token meets: top-k experts instead of all."""
        if self.moe is None:
            return self.num_parameters
        idle = self.moe.experts - self.moe.top_k
        return self.num_parameters - self.moe_layers * idle * self.expert_parameters

    # FLOPs of the forward pass; the backward pass of a matmul is twice as much.

    @cached_property
    def dense_layer_matmul_flops(self) -> float:
        """Per token: projections and MLP of a layer with a dense MLP."""
        return self._projection_flops + 2 * (3 if self.gated else 2) * self.hidden * self.ffn

    @cached_property
    def moe_layer_matmul_flops(self) -> float:
        """Per token: projections, shared experts, router and top-k experts."""
        if self.moe is None:
            return 0
        routed = self.moe.top_k * self.moe.expert_ffn * self.expert_width
        shared = self.moe.shared_ffn * self.hidden
        mlp = 2 * (3 if self.gated else 2) * (routed + shared) + 2 * self.latent_parameters
        return self._projection_flops + mlp + 2 * self.hidden * self.moe.experts

    @property
    def _projection_flops(self) -> float:
        mixing = 4 * self.mixing_parameters
        return 2 * sum(share * i * o for i, o, _, share in self.mixer_matrices) + mixing

    def attention_flops(self, sequence: int) -> float:
        """Per token and layer, averaged over layers: scores and weighted values, kept pairs only.

        sequence: keys of a document; a causal mask keeps half of the pairs. Compressed attention
        includes its indexer.
        """
        if self.compressed is not None:
            seen = self.compressed.keys_seen(sequence, self.layers)
            index = self.compressed.index_flops(sequence / self.compressed.sparse_ratio / 2)
            return (2 * (self.query_width + self.value_width) * seen + index) / self.layers
        seen = sequence / 2 if self.causal else float(sequence)
        windowed = min(seen, self.window) if self.window else seen
        keys = self.full_layers * seen + self.windowed_layers * windowed
        return 2 * (self.query_width + self.value_width) * keys / self.layers

    @property
    def state_flops(self) -> float:
        """Per token and layer, averaged over layers: what state spaces do with their states."""
        return self.ssm.layers * self.ssm.flops / self.layers if self.ssm is not None else 0.0

    @property
    def outputs(self) -> int:
        """Times that training passes the output matrix: multi-token prediction adds to one."""
        return 1 + self.prediction_layers

    @property
    def logits_flops(self) -> int:
        """Per token: the output matrix, once."""
        return 2 * self.hidden * self.vocab

    def forward_flops(self, sequence: int) -> float:
        """Per token, the whole model with its multi-token-prediction layers, without an encoder."""
        last = (
            self.moe_layer_matmul_flops if self.moe is not None else self.dense_layer_matmul_flops
        )
        attention = self.attention_flops(sequence) + self.state_flops
        extra = last + attention + 4 * self.hidden**2 + self.logits_flops
        return (
            self.dense_layers * self.dense_layer_matmul_flops
            + self.moe_layers * self.moe_layer_matmul_flops
            + self.layers * attention
            + self.logits_flops
            + self.prediction_layers * extra
        )

    def train_flops(self, sequence: int) -> float:
        """Model FLOPs of one trained token, forward and backward, no recomputation."""
        return 3 * self.forward_flops(sequence)

    # KV cache, for inference.

    @property
    def kv_values_per_token(self) -> int:
        """Values the KV cache keeps per token and layer."""
        if self.mla is not None:
            return self.mla.kv_rank + self.mla.rope_dim
        if self.compressed is not None:
            return self.head_dim
        return 2 * self.kv_heads * self.head_dim
