"""Points of known families with other shapes, dtypes and devices: computed, or a reason."""

from __future__ import annotations

import subprocess
import textwrap
from typing import Any

import pytest

from rainshadow.validation.checkouts import Checkouts
from rainshadow.validation.points import Point
from rainshadow.validation.validate import validate

TABLES = "aws-neuron/aws-neuron-sdk:about-neuron/benchmarks/trn1/latency_data_decoder.csv"
DECODER = "TP Degree=32 Batch Size={} Sequence Length=4096 Input Length={} Output Length=1024"


def point(name: str, metric: str, value: float, **columns: str) -> Point:
    row = {"source": TABLES, "value": str(value), "unit": "s", **columns}
    return Point(name, metric, value, "s", row)


def served(batch: int = 1, prompt: int = 128, metric: str = "TPOT Latency P50", **other: str):
    columns = {"kernel": "Llama-2-7b", "device": "trn1.32xlarge", "dtype": "FP16", **other}
    columns.setdefault("shapes", DECODER.format(batch, prompt))
    return point("row", metric, 1.0, source_of_kernel="model level", **columns)


def outcome(a_point: Point, **folders):
    (only,) = validate([a_point], Checkouts(folders))
    return only


def test_a_decoder_of_aws_tables_is_served():
    small, large = outcome(served()), outcome(served(batch=64))
    assert small.target.rule == "report"
    assert 0 < small.predicted < large.predicted
    first = outcome(served(prompt=1024, metric="TTFT Latency P50"))
    assert first.predicted > outcome(served(metric="TTFT Latency P50")).predicted
    rate = outcome(served(metric="Output Token Throughput"))
    assert rate.target.of_rate
    assert rate.predicted == pytest.approx(1 / small.predicted, rel=0.05)


def test_a_model_of_aws_tables_is_trained():
    shapes = "Sequence Length=8192 Nodes={} Topology=TP=32 DP=32 PP=1 ZeRO-1 Globalbatch=1024"
    columns = {"kernel": "Llama-3.1-8B pre-training", "dtype": "Autocast:BF16+FP32Optimizer"}
    columns["note"] = "Neuron 2.24.0"
    of_nodes = [
        outcome(served(metric="Performance [seq/sec]", shapes=shapes.format(nodes), **columns))
        for nodes in (32, 64)
    ]
    assert 0 < of_nodes[0].predicted < of_nodes[1].predicted


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"metric": "Latency P50"}, "an encoder served whole"),
        ({"shapes": "batch 1"}, "states no input and output length"),
        ({"device": "p5.48xlarge"}, "none of trn1, trn2"),
        ({"kernel": "Llama-9-1T"}, "unknown model"),
        ({"shapes": DECODER.format(1, "x")}, "invalid literal"),
    ],
)
def test_what_cannot_be_served_says_why(change, why):
    assert why in outcome(served(**change)).why


SAMPLE = """
    import neuronxcc.nki as nki
    import neuronxcc.nki.language as nl

    @nki.jit
    def adaptive_avg_pool2d_kernel(in_tensor, output_size):
        n, c, h, w = in_tensor.shape
        assert c <= 128
        out = nl.ndarray((n, c, h), dtype=in_tensor.dtype, buffer=nl.shared_hbm)
        for i in nl.affine_range(n):
            tile = nl.load(in_tensor[i])
            nl.store(out[i], nl.sum(tile, axis=2))
        return out
"""


@pytest.fixture
def samples(tmp_path):
    """A checkout with one kernel, in a package without __init__.py, as nki-samples is."""
    folder = tmp_path / "src" / "nki_samples" / "reference"
    folder.mkdir(parents=True)
    (folder / "vision.py").write_text(textwrap.dedent(SAMPLE), encoding="utf-8")
    return tmp_path


def pooled(shapes: str, dtype: str = "fp32", device: str = "trn1/trn2 CI (unstated)") -> Point:
    name = "adaptive_avg_pool2d_kernel"
    source = f"aws-neuron/nki-samples@abc:contributed {name}"
    columns = {"kernel": name, "shapes": shapes, "dtype": dtype, "device": device}
    return point("sample", "nc_latency upper bound", 1e-3, source_of_kernel=source, **columns)


def test_a_sample_is_a_bound_on_any_chip_shape_and_dtype(samples):
    first, more, other = (
        outcome(a_point, **{"nki-samples": samples})
        for a_point in (
            pooled("1,64,56,56->7"),
            pooled("4,64,56,56->7", "bf16"),
            pooled("1,64,56,56->7", device="trn2"),
        )
    )
    assert first.target.rule == "upper"
    assert 0 < first.predicted < more.predicted
    assert first.predicted != other.predicted


@pytest.mark.parametrize(
    ("sample", "why"),
    [
        (pooled("1,64"), "not N, C, H, W"),
        (pooled("1,64,56,56->7", "int3"), "dtype 'int3' is not known"),
        (pooled("1,64,56,56->7", device="gpu"), "unknown chip 'gpu'"),
        (pooled("1,200,56,56->7"), "AssertionError:  (vision.py:8)"),
    ],
)
def test_a_sample_that_cannot_run_says_why(samples, sample, why):
    assert why in outcome(sample, **{"nki-samples": samples}).why


def test_a_kernel_that_was_removed_is_taken_from_the_checkout_s_history(samples):
    def git(*arguments: str) -> None:
        name = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        subprocess.run(("git", *name, *arguments), cwd=samples, check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "kernels")
    git("tag", "v1.0")
    git("rm", "-rq", "src")
    git("commit", "-qm", "no kernels")

    def found(commit: str) -> Any:
        row = pooled("1,64,56,56->7").row
        source = row["source_of_kernel"].replace("abc", commit)
        changed = Point("sample", "nc_latency", 1e-3, "s", {**row, "source_of_kernel": source})
        return outcome(changed, **{"nki-samples": samples})

    assert found("v1.0").predicted == found("HEAD^").predicted > 0
    assert "nor had it at 0badc0de" in found("0badc0de").why
    assert "nor had it at HEAD" in found("HEAD").why


BENCH_KERNEL = """
    import numpy as np
    import neuronxcc.nki as nki

    @nki.jit
    def kernel(v1):
        import neuronxcc.nki.language as nl
        out = nl.ndarray(v1.shape, dtype=np.float32, buffer=nl.shared_hbm)
        tile = nl.load(v1)
        nl.store(out, value=nl.add(tile, tile))
        return out
"""
BENCH_REFERENCE = """
    import numpy as np

    def get_inputs():
        return [np.zeros(4096, dtype=np.float32)]

    def transform_to_nki_inputs(inputs):
        return [np.reshape(inputs[0], (128, 32))]
"""


@pytest.fixture
def bench(tmp_path):
    for folder, name, text in (
        ("kernels", "double_N32_M128_0.py", BENCH_KERNEL),
        ("reference", "double_N32_M128_numpy_2.py", BENCH_REFERENCE),
    ):
        place = tmp_path / "NKIBench" / folder
        place.mkdir(parents=True)
        (place / name).write_text(textwrap.dedent(text), encoding="utf-8")
    return tmp_path


def benched(metric: str, kernel: str = "double_M128_N32", file: str = "double_N32_M128_0.py"):
    source = f"zhang677/AccelOpt:NKIBench/kernels/{file}"
    columns = {"kernel": kernel, "device": "trn1", "dtype": "fp32", "shapes": kernel}
    return point("bench", metric, 1.0, source_of_kernel=source, **columns)


def test_a_kernel_of_nkibench_is_found_by_its_file_or_its_problem(bench):
    folders = {"accelopt": bench}
    by_file = outcome(benched("latency"), **folders)
    by_name = outcome(benched("profiled latency (p50)", file="..."), **folders)
    assert by_file.predicted == by_name.predicted > 0
    assert outcome(benched("hbm_read_bytes"), **folders).predicted == 4096 * 4
    assert outcome(benched("spill_save_bytes"), **folders).predicted == 0
    share = outcome(benched("vector_engine_active_time_percent"), **folders).predicted
    assert 0 < share < 1
    assert "no rule" in outcome(benched("rel_diffs"), **folders).why
    assert "0 kernels for 'triple'" in outcome(benched("latency", "triple", ""), **folders).why
    assert "no kernels/x.py" in outcome(benched("latency", file="x.py"), **folders).why
    assert "needs --checkout accelopt" in outcome(benched("latency")).why


def test_a_kernel_may_raise_anything(bench):
    file = bench / "NKIBench" / "kernels" / "double_N32_M128_0.py"
    file.write_text(file.read_text("utf-8").replace("tile = ", "import no_such_module; tile = "))
    why = outcome(benched("latency"), accelopt=bench).why
    assert "ModuleNotFoundError: No module named 'no_such_module'" in why
