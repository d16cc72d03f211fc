"""Whole scripts run on the simulated chip and agree with the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from rainshadow.porting.launch import ScriptRun
from rainshadow.porting.parity import compare
from rainshadow.porting.record import RunRecord

SCRIPTS = Path(__file__).parent / "scripts"
EXAMPLE = Path(__file__).parents[2] / "examples" / "train_gpt_cuda.py"
SMALL = ("--steps", "3", "--layers", "1", "--width", "32", "--heads", "2", "--context", "16")


def run(script: Path, folder: Path, target: str, precision: str, *arguments: str) -> RunRecord:
    order = {
        "script": str(script),
        "arguments": list(arguments),
        "target": target,
        "precision": precision,
        "folder": str(folder / f"{target}-{precision}"),
    }
    log = folder / "log"
    with log.open("w", encoding="utf-8") as output:
        record = ScriptRun(order, output=output).wait()
    assert not record.partial, log.read_text(encoding="utf-8")
    return record


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """The example, small, on the CPU."""
    return run(EXAMPLE, tmp_path_factory.mktemp("reference"), "cpu", "fp32", *SMALL)


def test_the_example_shows_no_trace_of_rainshadow() -> None:
    text = EXAMPLE.read_text(encoding="utf-8").lower()
    for word in ("rainshadow", "neuron", "trainium", "nki"):
        assert word not in text


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_example_trains_on_the_chip(
    tmp_path: Path, reference: RunRecord, precision: str
) -> None:
    chip = run(EXAMPLE, tmp_path, "rainshadow", precision, *SMALL)
    parity = compare(chip, reference)
    assert parity.agrees, parity.faults
    assert len(chip.loss_curve) == 3
    assert not chip.host_total, chip.host_total
    assert chip.recorded_step == 2
    assert {launch.phase for launch in chip.launches} >= {"forward", "backward", "optimizer"}
    assert len(chip.traces) == len({launch.trace for launch in chip.launches})
    assert chip.hbm_peak_bytes > 4 * chip.num_parameters
    kinds = {tie.kind for tie in chip.ties}
    assert kinds >= {"device placement", "mixed precision", "compiler", "fused optimizer"}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_example_trains_in_other_types(
    tmp_path: Path, reference: RunRecord, dtype: str
) -> None:
    chip = run(EXAMPLE, tmp_path, "rainshadow", "bf16", *SMALL, "--dtype", dtype, "--no-compile")
    assert compare(chip, reference).agrees


def test_uncommon_spellings(tmp_path: Path) -> None:
    script = SCRIPTS / "odd_cuda.py"
    reference = run(script, tmp_path, "cpu", "fp32", str(tmp_path / "a.pt"))
    assert len(reference.ties) > 15
    chip = run(script, tmp_path, "rainshadow", "fp32", str(tmp_path / "b.pt"))
    assert compare(chip, reference).agrees


def test_ddp_with_one_process(tmp_path: Path) -> None:
    script = SCRIPTS / "ddp_cuda.py"
    reference = run(script, tmp_path, "cpu", "fp32")
    chip = run(script, tmp_path, "rainshadow", "fp32")
    assert compare(chip, reference).agrees
    assert not chip.host_total, chip.host_total
    assert "distributed" in {tie.kind for tie in chip.ties}
