"""PyTorch modules as models: sizes are read off the graph, what is not known is refused."""

from __future__ import annotations

import textwrap

import pytest

from rainshadow.cluster.model_files import load_model
from rainshadow.errors import InputError, NotModelled, ScriptError, UnknownNameError

LLAMA = """
import torch
from torch import nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, d, heads, kv, ffn, repeat):
        super().__init__()
        self.heads, self.kv, self.repeat = heads, kv, repeat
        self.first, self.second = nn.RMSNorm(d), nn.RMSNorm(d)
        width = d // heads * kv
        self.q, self.k, self.v = (nn.Linear(d, w, bias=False) for w in (d, width, width))
        self.o = nn.Linear(d, d, bias=False)
        self.gate, self.up = (nn.Linear(d, ffn, bias=False) for _ in range(2))
        self.down = nn.Linear(ffn, d, bias=False)

    def forward(self, x):
        b, t, d = x.shape
        y = self.first(x)
        q = self.q(y).view(b, t, self.heads, -1).transpose(1, 2)
        k = self.k(y).view(b, t, self.kv, -1).transpose(1, 2)
        v = self.v(y).view(b, t, self.kv, -1).transpose(1, 2)
        if self.repeat:
            k, v = (z.repeat_interleave(self.heads // self.kv, dim=1) for z in (k, v))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=not self.repeat)
        x = x + self.o(a.transpose(1, 2).reshape(b, t, d))
        y = self.second(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Model(nn.Module):
    def __init__(self, layers, d, heads, kv, ffn, vocab, repeat=False, tied=False):
        super().__init__()
        self.table = nn.Embedding(vocab, d)
        self.blocks = nn.ModuleList(Block(d, heads, kv, ffn, repeat) for _ in range(layers))
        self.norm, self.logits = nn.RMSNorm(d), nn.Linear(d, vocab, bias=False)
        if tied:
            self.logits.weight = self.table.weight

    def forward(self, tokens):
        x = self.table(tokens)
        for block in self.blocks:
            x = block(x)
        return self.logits(self.norm(x))


def llama_8b():
    return Model(32, 4096, 32, 8, 14336, 128256)


def small_tied_repeated():
    return Model(3, 64, 4, 2, 160, 1000, repeat=True, tied=True)


def convolution():
    return nn.Conv2d(3, 8, 3), (torch.zeros(1, 3, 8, 8),)


def mistaken():
    raise RuntimeError("no weights here")


def a_number():
    return 7
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "net.py"
    path.write_text(textwrap.dedent(LLAMA))
    return path


def sizes(model):
    names = ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab", "gated")
    return tuple(getattr(model, name) for name in (*names, "tied_embeddings", "bias", "causal"))


def test_eight_billion_parameters_without_memory_are_llama_3_1_8b(script):
    captured, shipped = load_model(f"{script}:llama_8b"), load_model("llama_3_1_8b")
    assert sizes(captured) == sizes(shipped)
    assert captured.num_parameters == shipped.num_parameters


def test_repeated_keys_and_tied_tables_are_seen(script):
    model = load_model(f"{script}:small_tied_repeated")
    assert sizes(model) == (3, 64, 4, 2, 16, 160, 1000, True, True, False, True)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("convolution", NotModelled, "no embedding"),
        ("mistaken", ScriptError, "no weights here"),
        ("a_number", InputError, "made int"),
        ("lama_8b", UnknownNameError, "llama_8b"),
    ],
)
def test_what_is_no_transformer_is_refused(script, name, error, message):
    with pytest.raises(error, match=message):
        load_model(f"{script}:{name}")


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"cannot read 'nowhere\.py'"):
        load_model("nowhere.py:build")
