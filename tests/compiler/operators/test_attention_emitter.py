"""Emitted attention equals PyTorch's, forward and backward, for any shape, dtype and masking."""

from __future__ import annotations

import math
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from emitted import Lines, relative_error, run_emitted
from hypothesis import given, settings
from hypothesis import strategies as st

from rainshadow.compiler.operators.attention import emit_attention, plan_attention
from rainshadow.compiler.operators.attention_backward import (
    emit_attention_backward,
    plan_attention_backward,
)
from rainshadow.compiler.operators.attention_heads import AttentionSpec
from rainshadow.compiler.operators.tiling import CoreLimits
from rainshadow.errors import InputError, NotModelled
from rainshadow.machine import load_chip
from rainshadow.nki import Shape

torch = pytest.importorskip("torch")

DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
#: fp32: order of sums. bf16: each rounding of p, of grad_scores and of a result is 2^-9.
TOLERANCE = {"float32": 1e-5, "bfloat16": 3e-2}


def attention_spec(batch, heads, q_len, head_dim, **options):
    chip = options.pop("chip", "trainium2")
    hbm = options.pop("hbm", "float32")
    limits = CoreLimits.of(load_chip(chip))
    if "sbuf_bytes" in options:
        limits = replace(limits, sbuf_bytes=options.pop("sbuf_bytes"))
    return AttentionSpec(
        name="attention",
        batch=batch,
        heads=heads,
        q_len=q_len,
        head_dim=head_dim,
        limits=limits,
        dtype=hbm,
        out_dtype=hbm,
        **{
            "kv_len": q_len,
            "scale": 1 / math.sqrt(head_dim),
            "compute_dtype": "float32",
            **options,
        },
    )


class Case:
    """Random operands of a spec, as permuted views of [batch, row, head, head_dim], and truth."""

    def __init__(self, spec, seed=0, spread=1.0):
        rng = np.random.default_rng(seed)
        self.spec = spec
        dtype = DTYPES[spec.dtype]

        def tensor(rows):
            values = rng.standard_normal((spec.batch, rows, spec.heads, spec.head_dim))
            return (spread * values).astype(dtype).transpose(0, 2, 1, 3)

        self.q, self.grad_out = tensor(spec.q_len), tensor(spec.q_len)
        self.k, self.v = tensor(spec.kv_len), tensor(spec.kv_len)
        exact = [
            torch.tensor(x.astype(np.float64), requires_grad=True) for x in (self.q, self.k, self.v)
        ]
        scores = exact[0] @ exact[1].transpose(-1, -2) * spec.scale
        if spec.causal:
            hidden = torch.ones(spec.q_len, spec.kv_len, dtype=torch.bool).triu(1)
            scores = scores.masked_fill(hidden, -math.inf)
        self.lse = torch.logsumexp(scores, -1).detach().numpy().astype(np.float32)
        out = torch.nn.functional.scaled_dot_product_attention(
            *exact, is_causal=spec.causal, scale=spec.scale
        )
        out.backward(torch.tensor(self.grad_out.astype(np.float64)))
        self.out = out.detach().numpy()
        self.gradients = [x.grad.numpy() for x in exact]

    def forward(self, chip="trainium2"):
        writer = Lines()
        emit_attention(self.spec, writer)
        out = np.zeros_like(self.q)
        lse = np.full(self.lse.shape, np.nan, np.float32)
        run = run_emitted(writer, "attention", self.q, self.k, self.v, out, lse, chip=chip)
        return out, lse, run

    def backward(self, chip="trainium2"):
        writer = Lines()
        emit_attention_backward(self.spec, writer)
        gradients = [np.zeros_like(x) for x in (self.q, self.k, self.v)]
        saved = self.out.astype(DTYPES[self.spec.out_dtype])
        run = run_emitted(
            writer, "attention", self.q, self.k, self.v, saved, self.grad_out, self.lse,
            *gradients, chip=chip,
        )  # fmt: skip
        return gradients, run

    def check(self, chip="trainium2", tolerance=None):
        spec = self.spec
        tolerance = tolerance or max(TOLERANCE[spec.dtype], TOLERANCE[spec.compute_dtype])
        out, lse, _ = self.forward(chip)
        assert relative_error(out, self.out) < tolerance
        assert np.max(np.abs(lse - self.lse)) < tolerance * max(1, np.max(np.abs(self.lse)))
        gradients, _ = self.backward(chip)
        for name, actual, expected in zip("qkv", gradients, self.gradients, strict=True):
            # A softmax over one key has no gradient: compare with what the operands could give.
            floor = 0.5 * np.max(np.abs(self.grad_out.astype(np.float64)))
            worst = np.max(np.abs(actual.astype(np.float64) - expected))
            assert worst < tolerance * max(np.max(np.abs(expected)), floor), name


@settings(max_examples=30)
@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 6),
    length=st.integers(1, 300),
    head_dim=st.sampled_from([8, 16, 32, 48, 64, 80, 128]),
    causal=st.booleans(),
    dtypes=st.sampled_from(
        [("float32", "float32"), ("bfloat16", "bfloat16"), ("float32", "bfloat16")]
    ),
    chip=st.sampled_from(["trainium1", "trainium2"]),
)
def test_any_shape(batch, heads, length, head_dim, causal, dtypes, chip):
    spec = attention_spec(
        batch, heads, length, head_dim, causal=causal, hbm=dtypes[0], compute_dtype=dtypes[1],
        chip=chip,
    )  # fmt: skip
    Case(spec, seed=length).check(chip)


@settings(max_examples=10)
@given(q_len=st.integers(1, 300), kv_len=st.integers(1, 300), heads=st.integers(1, 4))
def test_cross_attention(q_len, kv_len, heads):
    Case(attention_spec(1, heads, q_len, 32, kv_len=kv_len, causal=False)).check()


@pytest.mark.parametrize("length", [512, 513, 640, 1024, 1100, 2304])
@pytest.mark.parametrize("causal", [True, False])
def test_long_rows(length, causal):
    """One head whose scores fill PSUM, and more: sums rescaled from chunk to chunk."""
    spec = attention_spec(1, 1, length, 32, causal=causal)
    Case(spec).check()
    assert plan_attention(spec).chunks == -(-length // 1024)


@pytest.mark.parametrize(("length", "sbuf_kib"), [(100, 40), (200, 60), (640, 90), (1100, 110)])
def test_several_sets_of_heads(length, sbuf_kib):
    """SBUF too small for all heads: entries of the batch, then heads, are taken in turn."""
    spec = attention_spec(2, 4, length, 64, sbuf_bytes=sbuf_kib * 1024)
    for plan in (plan_attention(spec), plan_attention_backward(spec)):
        assert plan.sets.pairs <= 8
    assert plan.sets.pairs < 8
    case = Case(spec)
    case.check()
    assert case.forward()[2].trace.peak_bytes["sbuf"] <= sbuf_kib * 1024
    assert case.backward()[1].trace.peak_bytes["sbuf"] <= sbuf_kib * 1024


def test_large_scores_do_not_overflow():
    """Scores of several hundred: the maximum is taken off before the exponential."""
    # float32 scores of 1000 are off by 1e-4, and so are their exponentials.
    Case(attention_spec(1, 2, 200, 64), spread=8.0).check(tolerance=2e-4)
    Case(attention_spec(1, 1, 1300, 64), spread=8.0).check(tolerance=2e-4)


def test_hidden_keys_have_no_influence():
    """Changing the last key and value changes the last query's output only."""
    case = Case(attention_spec(1, 2, 150, 32))
    first, _, _ = case.forward()
    case.k[:, :, -1] += 5
    case.v[:, :, -1] -= 5
    second, _, _ = case.forward()
    assert np.array_equal(first[:, :, :-1], second[:, :, :-1])
    assert not np.array_equal(first[:, :, -1], second[:, :, -1])


def test_a_wrong_scale_is_found():
    """The comparison can fail: gradients for another scale are far outside the tolerance."""
    case = Case(attention_spec(1, 2, 64, 32))
    right = case.gradients
    other = Case(attention_spec(1, 2, 64, 32, scale=0.2))
    gradients, _ = other.backward()
    assert relative_error(gradients[0], right[0]) > 1e-2


def test_few_large_instructions():
    """The example model: 32 heads of 128 queries at once, about 5 instructions a head."""
    case = Case(attention_spec(8, 4, 128, 32, hbm="bfloat16", compute_dtype="bfloat16"))
    assert case.forward()[2].trace.num_rows <= 170
    assert case.backward()[1].trace.num_rows <= 340


def test_masked_tiles_are_skipped():
    """Causal attention does little more than half of the products."""

    def flops(causal):
        spec = attention_spec(1, 2, 1024, 64, causal=causal, hbm="bfloat16")
        writer = Lines()
        emit_attention(spec, writer)
        tensor = Shape((1, 2, 1024, 64), "bfloat16")
        lse = Shape((1, 2, 1024), "float32")
        arguments = (tensor, tensor, tensor, tensor, lse)
        trace = run_emitted(writer, "attention", *arguments, data="none").trace
        matmuls = [s.flops for s in trace.signatures]
        mask = 2 * 128 * 128 * 128 * 8 * 2 if causal else 0
        return sum(matmuls[i] for i in trace.signature) - mask

    assert flops(False) == 2 * 2 * 1024 * 1024 * 64 * 2
    assert flops(True) / flops(False) == pytest.approx((8 + 1) / 16)


@pytest.mark.parametrize("length", [1, 128, 200, 640, 1100])
def test_source_is_readable(length):
    """No line is longer than the repository's own, and none is empty code."""
    for emit in (emit_attention, emit_attention_backward):
        writer = Lines()
        emit(attention_spec(2, 4, length, 64), writer)
        assert max(len(line) for line in writer.lines) <= 100
        assert '"""' in writer.lines[1]


def test_limits_are_named():
    with pytest.raises(NotModelled, match="head size 160"):
        attention_spec(1, 1, 64, 160)
    with pytest.raises(NotModelled, match="causal attention of 64 queries over 96 keys"):
        attention_spec(1, 1, 64, 32, kv_len=96)
    with pytest.raises(InputError, match="one head of 400000 keys"):
        plan_attention(attention_spec(1, 1, 64, 32, kv_len=400000, causal=False))
