"""The main job, from the command line: files, numbers, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from rainshadow.machine import load_chip
from rainshadow.porting.port import ChipStep, StepLaunch, concatenate
from rainshadow.porting.summary import summarize_step
from rainshadow.sim.timing import time_trace
from rainshadow.sim.trace import Trace

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_gpt_cuda.py"
SMALL = ("--steps", "3", "--layers", "1", "--width", "32", "--heads", "2", "--context", "16")

#: A gradient that is wrong by 5 % on the device only, with the loss untouched at step 1.
WRONG = """
    import torch
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 8).cuda()
    model.bias.register_hook(lambda g: g if g.device.type == "cpu" else g * 1.05)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    for _ in range(2):
        model(torch.ones(4, 8, device="cuda")).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
"""


def port(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rainshadow", "port", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def ported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The example, small, ported from an empty folder; its output folder and its text."""
    folder = tmp_path_factory.mktemp("work")
    done = port(folder, str(EXAMPLE), "--", *SMALL)
    assert done.returncode == 0, done.stderr
    return folder / "rainshadow-out" / "train_gpt_cuda", done.stdout


def test_the_folder_is_complete(ported: tuple[Path, str]) -> None:
    folder, text = ported
    assert {path.name for path in folder.iterdir()} >= {"summary.json", "trace.npz", "kernels"}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    sources = [path.read_text(encoding="utf-8") for path in (folder / "kernels").glob("*.py")]
    assert sources and all("nki" in source for source in sources)
    for heading in ("Ties to CUDA", "Parity", "one NeuronCore"):
        assert heading in text


def test_the_numbers_agree_with_each_other(ported: tuple[Path, str]) -> None:
    folder, _ = ported
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    step = summary["step"]
    assert not summary["partial"]
    assert [p["verdict"] for p in summary["parity"].values()] == ["agrees", "agrees"]
    assert step["host_operations"] == []
    assert step["tokens"] == 8 * 16
    assert sum(step["phase_s"].values()) == pytest.approx(step["step_s"])
    assert 0 < step["mfu_fraction"] <= step["hfu_fraction"] < 1
    assert step["launch_s"] < step["step_s"]
    assert max(step["engine_busy_s"].values()) < step["step_s"]
    assert Trace.load(folder / "trace.npz").num_rows == step["instructions"]


def test_the_concatenated_trace_is_the_traces(ported: tuple[Path, str]) -> None:
    folder, _ = ported
    whole = Trace.load(folder / "trace.npz")
    twice = concatenate([whole, whole])
    rows = whole.num_rows
    assert twice.num_rows == 2 * rows
    assert twice.flops == 2 * whole.flops
    assert np.array_equal(twice.access_end[:rows], whole.access_end)
    chip = load_chip("trainium2")
    assert time_trace(twice, chip).duration_ps >= time_trace(whole, chip).duration_ps
    opcodes = [whole.signatures[i].opcode for i in whole.signature]
    assert [twice.signatures[i].opcode for i in twice.signature] == 2 * opcodes


def test_the_times_of_the_functions_add_up_to_the_launches(ported: tuple[Path, str]) -> None:
    folder, _ = ported
    chip = load_chip("trainium2")
    timeline = time_trace(Trace.load(folder / "trace.npz"), chip)
    step = ChipStep(
        chip=chip,
        index=1,
        launches=(StepLaunch(kernel="step", phase="other", timeline=timeline),),
        host_operations=(),
        transfers={},
        hbm_peak_bytes=1,
        model_flops=1,
        targets=1,
        num_parameters=1,
    )
    rows = summarize_step(step)["top_kernels"]
    total_s = sum(row["time_s"] for row in rows)
    assert total_s <= timeline.duration_ps / 1e12 * (1 + 1e-9)
    assert rows == sorted(rows, key=lambda row: -row["time_s"])


def test_a_wrong_gradient_on_the_chip_is_exit_code_3(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(textwrap.dedent(WRONG), encoding="utf-8")
    done = port(tmp_path, "wrong.py", "--json")
    assert done.returncode == 3, done.stderr
    assert "bias" in done.stderr and "fp32" in done.stderr
    gradients = json.loads(done.stdout)["parity"]["fp32"]["gradients"]
    assert gradients[0]["name"] == "bias"
    assert gradients[0]["norm_error"] == pytest.approx(0.05, rel=1e-3)
    assert gradients[1]["norm_error"] < 1e-6


def test_a_failing_script_is_exit_code_1_and_partial(tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text("import torch\nraise OSError('no data')\n", encoding="utf-8")
    done = port(tmp_path, "fails.py")
    assert done.returncode == 1
    assert done.stderr.count("OSError: no data") >= 2, "its traceback and our line"
    assert "fails.py raised after 0 optimizer steps" in done.stderr
    folder = tmp_path / "rainshadow-out" / "fails"
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["partial"]


GENERATE = """
import torch

model = torch.nn.Linear(8, 8).cuda().eval()
with torch.no_grad():
    print(model(torch.ones(2, 8, device="cuda")).softmax(-1).sum().item())
"""


def test_a_script_that_only_infers_is_timed_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "infer.py").write_text(GENERATE, encoding="utf-8")
    done = port(tmp_path, "infer.py")
    assert done.returncode == 0, done.stderr
    assert "not compared" in done.stdout
    assert "3. All launches on one NeuronCore" in done.stdout
    folder = tmp_path / "rainshadow-out" / "infer"
    step = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["step"]
    assert step["launches"] >= 3 and step["step_s"] > 0
    assert step["model_flops"] == 2 * 2 * 8 * 8 <= step["executed_flops"]
    assert "not compared" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_script_that_never_uses_cuda_says_so(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text("print('hello')\n", encoding="utf-8")
    done = port(tmp_path, "plain.py")
    assert done.returncode == 0, done.stderr
    assert "Nothing ran on the chip" in done.stdout


def test_a_script_whose_operators_all_run_on_the_host_names_them(tmp_path: Path) -> None:
    text = "import torch\na = torch.ones(4, device='cuda')\n"
    text += "torch.add(a, a, out=torch.empty(2, device='cuda'))\n"
    (tmp_path / "resizes.py").write_text(text, encoding="utf-8")
    done = port(tmp_path, "resizes.py")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "rainshadow-out" / "resizes" / "report.html").read_text(encoding="utf-8")
    for shown in (done.stdout, page):
        assert "all its operators ran on the host" in shown
        assert "aten.add.out x1 at " in shown and "resizes.py:3" in shown


def test_a_missing_script_lists_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("", encoding="utf-8")
    done = port(tmp_path, "trian.py")
    assert done.returncode == 1
    assert "train.py" in done.stderr
    assert not (tmp_path / "rainshadow-out").exists()


def test_a_script_that_is_killed_leaves_a_partial_report(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, signal, torch\n"
        "if torch.cuda.is_available():\n"
        "    os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    done = port(tmp_path, str(script))
    assert done.returncode == 1
    assert "SIGSEGV" in done.stderr
    assert "Traceback" not in done.stderr
    folder = tmp_path / "rainshadow-out" / "killed"
    assert "(partial)" in (folder / "report.html").read_text(encoding="utf-8")
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["partial"]
