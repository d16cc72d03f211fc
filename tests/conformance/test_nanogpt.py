"""karpathy/nanoGPT's train.py runs unmodified, with its default device "cuda"."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from rainshadow.porting.launch import ScriptRun
from rainshadow.porting.parity import compare
from rainshadow.porting.record import RunRecord

VOCABULARY = 320
#: Its own command line: a model and a batch small enough to simulate.
SIZES = {
    "dataset": "random",
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 64,
    "block_size": 32,
    "batch_size": 4,
    "gradient_accumulation_steps": 2,
    "max_iters": 3,
    "warmup_iters": 2,
    "eval_iters": 1,
}


def prepare(checkout: str, folder: Path) -> None:
    """A copy of the scripts, and random tokens where the script looks for its data."""
    for source in Path(checkout).glob("*.py"):
        shutil.copy(source, folder / source.name)
    data = folder / "data" / "random"
    data.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        rng.integers(0, VOCABULARY, 4000, dtype=np.uint16).tofile(data / f"{split}.bin")
    (data / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": VOCABULARY}))


def train(folder: Path, target: str, precision: str) -> tuple[RunRecord, str]:
    log = folder / f"{target}-{precision}.log"
    order = {
        "script": "train.py",
        "arguments": [f"--{name}={value}" for name, value in SIZES.items()],
        "target": target,
        "precision": precision,
        "folder": str(folder / f"record-{target}-{precision}"),
    }
    with log.open("w", encoding="utf-8") as output:
        record = ScriptRun(order, output=output).wait()
    return record, log.read_text(encoding="utf-8")


@pytest.mark.conformance("RAINSHADOW_CHECKOUT_NANOGPT")
def test_nanogpt_trains_unmodified(
    checkout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(checkout, tmp_path)
    monkeypatch.chdir(tmp_path)
    reference, log = train(tmp_path, "cpu", "fp32")
    assert not reference.partial, log
    steps = SIZES["max_iters"] + 1
    assert reference.num_steps == steps
    assert len(reference.losses) == steps * SIZES["gradient_accumulation_steps"]
    assert reference.loss_curve[0] == pytest.approx(np.log(VOCABULARY), rel=0.05)
    for precision in ("bf16", "fp32"):
        chip, log = train(tmp_path, "rainshadow", precision)
        assert not chip.partial, log
        assert "using fused AdamW: True" in log, "the script believes that it has CUDA"
        parity = compare(chip, reference)
        assert parity.agrees, parity.faults
        assert not chip.host_operations, chip.host_operations
        assert {tie.kind for tie in chip.ties} >= {"device placement", "compiler", "memory"}
