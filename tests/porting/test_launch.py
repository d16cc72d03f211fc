"""Scripts run in a process of their own, and every ending leaves a record."""

from __future__ import annotations

import io
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from rainshadow.errors import InputError, ScriptError
from rainshadow.porting.child import Ending, Order, execute
from rainshadow.porting.cuda_namespace import DeviceFacts
from rainshadow.porting.launch import ScriptRun, check_script, require_complete
from rainshadow.porting.mixed_precision import PrecisionPolicy
from rainshadow.porting.record import RunRecord, save_record
from rainshadow.porting.redirect import Redirection
from rainshadow.porting.ties import TieLog
from rainshadow.porting.watch import TrainingWatch

TRAIN = """
    import sys
    import torch
    import neighbour                     # the script's folder is on sys.path
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 2).cuda()
    scaler = torch.amp.GradScaler("cuda", init_scale=256.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(int(sys.argv[1])):
        for part in range(2):
            x = torch.ones(3, 4, device="cuda")
            loss = torch.nn.functional.cross_entropy(model(x), torch.zeros(3).long().cuda())
            scaler.scale(loss / 2).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        {each_step}
    print("done", __name__)
    {end}
"""


def order(tmp_path: Path, body: str, *arguments: str, **more: Any) -> dict[str, Any]:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(body), encoding="utf-8")
    (tmp_path / "neighbour.py").write_text("", encoding="utf-8")
    return {
        "script": str(script),
        "arguments": list(arguments),
        "target": "cpu",
        "precision": "fp32",
        "folder": str(tmp_path / "record"),
        **more,
    }


def run(order: dict[str, Any], tmp_path: Path) -> tuple[RunRecord, str]:
    with (tmp_path / "log").open("w+") as output:
        record = ScriptRun(order, output=output).wait()
        output.seek(0)
        return record, output.read()


def train(each_step: str = "", end: str = "") -> str:
    return TRAIN.format(each_step=each_step, end=end)


def test_a_training_script_leaves_its_losses_and_gradients(tmp_path: Path) -> None:
    record, output = run(order(tmp_path, train(), "3"), tmp_path)
    assert (record.status, record.exit_code, record.partial) == ("finished", 0, False)
    assert "done __main__" in output
    assert record.loss_step == [0, 0, 1, 1, 2, 2]
    assert record.targets_per_step == [6, 6, 6]
    assert len(record.loss_curve) == 3
    assert 0 < record.loss_curve[2] < record.loss_curve[0] < 2, "loss scaling is undone"
    assert list(record.gradients) == ["weight", "bias"]
    bias = record.gradients["bias"]
    assert bias.sum() == pytest.approx(0, abs=1e-6)
    assert 0 < np.abs(bias).max() < 1, "gradient scaling is undone, both parts are in it"
    assert record.num_parameters == 10
    assert {tie.api for tie in record.ties} >= {"Module.cuda", "device argument", "GradScaler"}
    assert all(tie.where.file.endswith("script.py") for tie in record.ties)
    assert not list(tmp_path.glob(".*")), "nothing is left beside the record"


def ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, *arguments: str, **more: Any
) -> tuple[Ending, TrainingWatch]:
    """How a script ends when it is run inside this process, as child.py does."""
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    made = Order(**{**order(tmp_path, body, *arguments), "arguments": arguments, **more})
    watch = TrainingWatch(step_limit=made.step_limit)
    redirection = Redirection(
        "cpu",
        facts=DeviceFacts(name="test device", memory_bytes=1),
        policy=PrecisionPolicy(autocast=False),
        backend=None,
        log=TieLog(),
    )
    with redirection, watch:
        return execute(made), watch


def test_the_step_limit_ends_a_long_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end, watch = ending(tmp_path, monkeypatch, train(), "1000000", step_limit=2)
    assert (end.status, end.exit_code) == ("stopped at the step limit", 0)
    assert len(watch.step_wall_s) == 2


def test_a_script_that_raises_shows_its_own_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    end, watch = ending(tmp_path, monkeypatch, train("1 / 0"), "3")
    output = capfd.readouterr().err
    assert (end.status, end.exit_code) == ("raised", 1)
    assert "ZeroDivisionError" in end.error
    assert "1 / 0" in output
    assert "rainshadow/" not in output and "runpy" not in output
    assert len(watch.losses) == 2, "what was recorded before the error is kept"


@pytest.mark.parametrize(
    ("last_line", "status", "exit_code"),
    [
        ("sys.exit(0)", "finished", 0),
        ("sys.exit()", "finished", 0),
        ("sys.exit(3)", "exited", 1),
        ("sys.exit('no data')", "exited", 1),
        ("input('name? ')", "raised", 1),
        ("raise KeyboardInterrupt", "interrupted", 1),
        ("torch.cuda.CUDAGraph()", "raised", 2),
        ("not python", "raised", 1),
    ],
)
def test_endings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last_line: str, status: str, exit_code: int
) -> None:
    end, _ = ending(tmp_path, monkeypatch, f"import sys, torch\n{last_line}\n")
    assert (end.status, end.exit_code) == (status, exit_code)
    if "input" in last_line:
        assert "standard input" in end.error
    if "sys.exit(3)" in last_line:
        assert "script.py:2" in end.error


@pytest.mark.parametrize("status", ["raised", "exited", "interrupted", "killed"])
def test_an_incomplete_record_is_an_error_with_context(status: str) -> None:
    broken = RunRecord(
        script="a/b.py", target="cpu", precision="fp32", status=status, error="because", exit_code=1
    )
    with pytest.raises(ScriptError, match=rf"b.py {status} after 0 optimizer steps.*because"):
        require_complete(broken)
    require_complete(replace(broken, status="finished"))


def test_a_killed_script_has_a_record_that_says_so(tmp_path: Path) -> None:
    body = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    record, _ = run(order(tmp_path, body), tmp_path)
    assert (record.status, record.exit_code, record.partial) == ("killed", 1, True)
    assert "SIGKILL" in record.error


def test_an_interrupted_script_keeps_what_it_has(tmp_path: Path) -> None:
    wait = "print('step', flush=True); import time; time.sleep(30)"
    with (tmp_path / "log").open("w+") as output:
        running = ScriptRun(order(tmp_path, train(wait), "3"), output=output)
        for _ in range(600):
            if "step" in (tmp_path / "log").read_text(encoding="utf-8"):
                break
            time.sleep(0.1)
        record = running.stop()
    assert (record.status, record.exit_code, record.num_steps) == ("interrupted", 1, 1)


@pytest.mark.parametrize("name", ["missing.py", "folder.py", "notes.txt"])
def test_what_is_no_script_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    (tmp_path / "real.py").write_text("x", encoding="utf-8")
    with pytest.raises(InputError):
        check_script(tmp_path / name)


def test_a_record_never_replaces_something_else(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="no run record"):
        save_record(RunRecord(script="s.py", target="cpu", precision="fp32"), precious)
    assert (precious / "thesis.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]


def test_a_script_that_seeds_nothing_draws_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    body = """
        import random
        import numpy, torch
        print(torch.rand(1).item(), numpy.random.rand(), random.random())
    """
    drawn = []
    for seed in (0, 0, 1):
        ending(tmp_path, monkeypatch, body, seed=seed)
        drawn.append(capfd.readouterr().out)
    assert drawn[0] == drawn[1] != drawn[2]
