"""Emitted matmuls give NumPy's result for any size, layout, dtype, block and epilogue."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from emitted import Lines, relative_error, run_emitted
from hypothesis import given, settings
from hypothesis import strategies as st

from rainshadow.compiler.operators.matmul import (
    BiasActivationEpilogue,
    MatmulSpec,
    emit_matmul,
    plan_matmul,
)
from rainshadow.compiler.operators.panels import MatmulOperand
from rainshadow.compiler.operators.tiling import CoreLimits
from rainshadow.errors import InputError
from rainshadow.machine import load_chip
from rainshadow.nki import Shape

DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
#: fp32 sums in another order than NumPy's float64.
TOLERANCE = 3e-6


def limits(chip="trainium2", **changes):
    return replace(CoreLimits.of(load_chip(chip)), **changes)


def matmul_spec(m, n, k, *, a_k_major=False, b_k_major=False, hbm="float32", **options):
    batched = options.get("batch", 1) > 1
    return MatmulSpec(
        name="product",
        m=m,
        n=n,
        k=k,
        a=MatmulOperand(name="x", dtype=hbm, k_major=a_k_major, batched=batched),
        b=MatmulOperand(name="w", dtype=hbm, k_major=b_k_major, batched=batched),
        **{"limits": limits(), "out_dtype": "float32", "compute_dtype": "float32", **options},
    )


def operands(spec, rng):
    """HBM arrays of A and B, and both in float64 after the cast, as [.., M, K] and [.., K, N]."""
    lead = (spec.batch,) if spec.batch > 1 else ()
    shapes = (spec.m, spec.k), (spec.n, spec.k)
    arrays, exact = [], []
    for operand, (rows, depth) in zip((spec.a, spec.b), shapes, strict=True):
        shape = (depth, rows) if operand.k_major else (rows, depth)
        array = rng.standard_normal(lead + shape).astype(DTYPES[operand.dtype])
        arrays.append(array)
        value = array.astype(DTYPES[spec.compute_dtype]).astype(np.float64)
        exact.append(np.swapaxes(value, -1, -2) if operand.k_major else value)
    return arrays, exact[0], np.swapaxes(exact[1], -1, -2)


def run_matmul(spec, rng, *more, chip="trainium2"):
    writer = Lines()
    emit_matmul(spec, writer)
    arrays, a, b = operands(spec, rng)
    lead = (spec.batch,) if spec.batch > 1 else ()
    out = np.full((*lead, spec.m, spec.n), np.nan, DTYPES[spec.out_dtype])
    run = run_emitted(writer, spec.name, *arrays, *more, out, chip=chip)
    return out, a @ b, run


@settings(max_examples=40)
@given(
    m=st.integers(1, 700),
    n=st.integers(1, 1100),
    k=st.integers(1, 700),
    layouts=st.tuples(st.booleans(), st.booleans()),
    dtypes=st.sampled_from(
        [("float32", "float32"), ("bfloat16", "bfloat16"), ("float32", "bfloat16")]
    ),
    chip=st.sampled_from(["trainium1", "trainium2"]),
)
def test_any_shape_layout_and_dtype(m, n, k, layouts, dtypes, chip):
    hbm, compute = dtypes
    spec = matmul_spec(
        m, n, k, a_k_major=layouts[0], b_k_major=layouts[1], hbm=hbm, compute_dtype=compute,
        limits=limits(chip),
    )  # fmt: skip
    out, expected, _ = run_matmul(spec, np.random.default_rng(m * n + k), chip=chip)
    assert relative_error(out, expected) < TOLERANCE


@settings(max_examples=20)
@given(
    m=st.integers(100, 1100),
    n=st.integers(100, 1700),
    k=st.integers(400, 1500),
    layouts=st.tuples(st.booleans(), st.booleans()),
    sbuf_kib=st.sampled_from([64, 80, 110]),
)
def test_blocks_when_sbuf_is_small(m, n, k, layouts, sbuf_kib):
    spec = matmul_spec(
        m, n, k, a_k_major=layouts[0], b_k_major=layouts[1],
        limits=limits(sbuf_bytes=sbuf_kib * 1024),
    )  # fmt: skip
    out, expected, run = run_matmul(spec, np.random.default_rng(m * n + k))
    assert relative_error(out, expected) < TOLERANCE
    assert run.trace.peak_bytes["sbuf"] <= sbuf_kib * 1024


def test_split_k_keeps_partial_sums(rng):
    spec = matmul_spec(256, 512, 2048, limits=limits(sbuf_bytes=60 * 1024))
    assert plan_matmul(spec).blocks.sums
    out, expected, _ = run_matmul(spec, rng)
    assert relative_error(out, expected) < TOLERANCE


@pytest.mark.parametrize("sizes", [(40, 70, 33), (256, 128, 256)])
def test_batched(rng, sizes):
    out, expected, _ = run_matmul(matmul_spec(*sizes, batch=3), rng)
    assert relative_error(out, expected) < TOLERANCE


def test_strided_views_of_hbm(rng):
    """An operand may be a transposed or interleaved view: the flags speak of the view."""
    spec = matmul_spec(130, 200, 96, a_k_major=True)
    writer = Lines()
    emit_matmul(spec, writer)
    a = rng.standard_normal((130, 2, 96)).astype(np.float32)
    b = rng.standard_normal((200, 96)).astype(np.float32)
    out = np.zeros((130, 200), np.float32)
    run_emitted(writer, spec.name, a[:, 1].T, b, out)
    assert relative_error(out, a[:, 1].astype(np.float64) @ b.T.astype(np.float64)) < TOLERANCE


@pytest.mark.parametrize("sizes", [(1024, 384, 128), (300, 700, 200), (7, 600, 129)])
@pytest.mark.parametrize("parts", ["bias", "relu", "residual", "bias relu residual"])
def test_epilogue(rng, sizes, parts):
    m, n, k = sizes
    epilogue = BiasActivationEpilogue(
        columns=n,
        bias="bias" if "bias" in parts else "",
        activation="relu" if "relu" in parts else "",
        residual="skip" if "residual" in parts else "",
    )
    spec = matmul_spec(m, n, k, epilogue=epilogue)
    bias = rng.standard_normal(n).astype(np.float32)
    skip = rng.standard_normal((m, n)).astype(np.float32)
    more = [bias] * ("bias" in parts) + [skip] * ("residual" in parts)
    out, expected, _ = run_matmul(spec, rng, *more)
    if "bias" in parts:
        expected = expected + bias
    if "relu" in parts:
        expected = np.maximum(expected, 0)
    if "residual" in parts:
        expected = expected + skip
    assert relative_error(out, expected) < TOLERANCE


def test_output_is_rounded_once(rng):
    spec = matmul_spec(64, 96, 128, hbm="bfloat16", compute_dtype="bfloat16", out_dtype="bfloat16")
    out, expected, _ = run_matmul(spec, rng)
    once = expected.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)
    same = np.mean(out.astype(np.float64) == once)
    assert same > 0.99


def test_few_large_instructions(rng):
    """GPT's fully connected layer: one instruction per 1024 result columns, not per tile."""
    spec = matmul_spec(1024, 512, 128, hbm="bfloat16", compute_dtype="bfloat16")
    _, _, run = run_matmul(spec, rng)
    assert run.trace.num_rows <= 20


@pytest.mark.parametrize(
    ("m", "n", "k", "k_major"),
    [
        (2048, 11008, 4096, (False, False)),
        (2048, 4096, 11008, (False, False)),
        (2048, 4096, 11008, (False, True)),
        (4096, 11008, 2048, (True, True)),
    ],
)
@pytest.mark.parametrize("weights", ["bfloat16", "float32"])
def test_llama_layer_fits(m, n, k, k_major, weights):
    """7B Llama sizes without data: within SBUF and PSUM, every multiplication counted."""
    spec = matmul_spec(
        m, n, k, a_k_major=k_major[0], b_k_major=k_major[1], hbm="bfloat16",
        compute_dtype="bfloat16",
    )  # fmt: skip
    spec = replace(spec, b=replace(spec.b, dtype=weights))
    writer = Lines()
    emit_matmul(spec, writer)
    arguments = [
        Shape((k, m) if k_major[0] else (m, k), "bfloat16"),
        Shape((k, n) if k_major[1] else (n, k), weights),
        Shape((m, n), "float32"),
    ]
    trace = run_emitted(writer, spec.name, *arguments, data="none").trace
    flops = [signature.flops for signature in trace.signatures]
    assert sum(flops[i] for i in trace.signature) == 2 * m * n * k
    assert trace.peak_bytes["sbuf"] <= limits().sbuf_bytes


@pytest.mark.parametrize("sizes", [(1024, 512, 128), (333, 1000, 517), (2048, 11008, 4096)])
def test_source_is_readable(sizes):
    writer = Lines()
    emit_matmul(matmul_spec(*sizes), writer)
    assert max(len(line) for line in writer.lines) <= 100
    assert "= x @ w.T, summed over" in writer.lines[1]


def test_sbuf_that_holds_nothing_is_an_error():
    with pytest.raises(InputError, match="SBUF per partition"):
        plan_matmul(matmul_spec(512, 512, 512, limits=limits(sbuf_bytes=30 * 1024)))
