"""The command line: help, exit codes, messages for wrong input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rainshadow.cli import command_names

KERNELS = Path(__file__).parents[1] / "report" / "kernels.py"


def run(*words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rainshadow", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_imports_no_numpy():
    code = (
        "import sys; sys.argv = ['rainshadow', '--help']\n"
        "from rainshadow.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('numpy', 'torch', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    assert all(name in done.stdout for name in command_names())


@pytest.mark.parametrize("name", command_names())
def test_every_command_has_help_and_json(name):
    done = run(name, "--help")
    assert done.returncode == 0
    assert "--json" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["prot"], 1, "did you mean port"),
        (["machines", "trainium9"], 1, "did you mean"),
        (["port", "nowhere.py"], 1, "nowhere.py"),
        (["port", str(KERNELS), "--price", "trn2=cheap"], 1, "cheap"),
        (["port", str(KERNELS), "--price", "trn9=1"], 1, "trn9"),
        (["port", str(KERNELS), "--site", "mars"], 1, "aws_fleet"),
        (["port", str(KERNELS), "--chip", "h100"], 1, "NeuronCore"),
        (["profile", "nowhere.py:x"], 1, "no file"),
        (["run", str(KERNELS), "--chip", "h100"], 1, "trainium2"),
        (["profile", f"{KERNELS}:scale", "--chip", "h100"], 1, "trainium2"),
        (["profile", f"{KERNELS}:scale", "--data", "some"], 1, "full or none"),
        (["profile", f"{KERNELS}:scale", "--arg", "x=256x4"], 1, "128 partitions"),
        (["profile", str(KERNELS), "--arg", "x=1"], 1, "FILE.py:function"),
        (["profile", f"{KERNELS}:scale", "--nonsense"], 1, "nonsense"),
        (["check", f"{KERNELS}:scale", "--arg", "x=128x4:float99"], 1, "unknown dtype 'float99'"),
        (["check", f"{KERNELS}:scale", "--arg", "x=0x4"], 1, "axes of 1 or more"),
        (["check", f"{KERNELS}:scale", "--data", "none", "--arg", "x=128x99999999"], 1, "of HBM"),
        (["check", f"{KERNELS}:Path", "--arg", "x=1"], 1, "unknown kernel"),
        (["check", str(KERNELS.parent)], 1, "is a folder"),
    ],
)
def test_wrong_input_is_one_message_and_leaves_nothing(tmp_path, words, code, message):
    done = run(*words, folder=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_kernel_error_shows_the_users_line(tmp_path):
    done = run("profile", f"{KERNELS}:scale", "--arg", "x=256x4", folder=tmp_path)
    lines = KERNELS.read_text("utf-8").splitlines()
    number = next(n for n, line in enumerate(lines, 1) if "tile = nl.ndarray" in line)
    assert f"kernels.py:{number}: tile = nl.ndarray" in done.stderr


def test_profile_writes_its_files_and_prints_json(tmp_path):
    done = run("profile", str(KERNELS), "--json", "--parquet", "--", "128", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    launches = json.loads(done.stdout)["launches"]
    assert [launch["kernel"] for launch in launches] == ["scale", "product"]
    folder = tmp_path / "rainshadow-out" / "kernels"
    assert {path.name for path in folder.iterdir()} == {
        "summary.json",
        "report.html",
        "timeline.perfetto.json.gz",
        "000-scale.npz",
        "000-scale.parquet",
        "000-scale-explorer",
        "001-product.npz",
        "001-product.parquet",
        "001-product-explorer",
    }


def test_profile_what_if_and_compare_show_two_profiles(tmp_path):
    words = ("profile", f"{KERNELS}:scale", "--arg", "x=128x512", "--data", "none")
    changes = "sbuf=48MiB,vector.clock=0.48GHz"
    done = run(*words, "--out", "a", "--what-if", changes, "--json", folder=tmp_path)
    (launch,) = json.loads(done.stdout)["launches"]
    other = launch["what_if"]["profile"]
    assert other["duration_s"] > launch["duration_s"]
    assert other["chip"] == f"trainium2 if {changes}"
    assert launch["what_if"]["speedup"] == launch["duration_s"] / other["duration_s"]
    assert run(*words, "--out", "b", "--chip", "trainium3", folder=tmp_path).returncode == 0
    done = run("profile", "--compare", "a", "b", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "scale on trainium2 (a) and scale on trainium3 (b)" in done.stdout
    trace = str(tmp_path / "a" / "000-scale.npz")
    again = run("profile", trace, "--json", "--out", "c", folder=tmp_path)
    (same,) = json.loads(again.stdout)["launches"]
    assert same["duration_s"] == launch["duration_s"]
    assert run("profile", "--compare", "a", "nowhere", folder=tmp_path).returncode == 1


def test_profile_without_data_has_the_same_times(tmp_path):
    words = ("profile", f"{KERNELS}:scale", "--arg", "x=128x512", "--json")
    full = json.loads(run(*words, folder=tmp_path).stdout)
    none = json.loads(run(*words, "--data", "none", folder=tmp_path).stdout)
    assert full == none


def test_check_strict_names_what_the_compiler_refuses(tmp_path):
    kernel = tmp_path / "kernel.py"
    kernel.write_text("import nki\n\n@nki.jit\ndef kernel(x):\n    assert {1}\n    return x\n")
    done = run("check", "--strict", str(kernel), "--json")
    assert done.returncode == 3
    (finding,) = json.loads(done.stdout)["findings"]
    assert (finding["rule"], finding["line"]) == ("value-type", 5)


def test_check_runs_a_kernel_and_names_its_hazards(tmp_path):
    kernel = tmp_path / "kernel.py"
    kernel.write_text(
        "import nki\nimport nki.isa as nisa\nimport nki.language as nl\n\n@nki.jit\n"
        "def kernel(x):\n"
        "    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)\n"
        "    print('loading')\n"
        "    nisa.dma_copy(dst=result[0:64], src=x[0:64])\n"
        "    return result\n"
    )
    words = ("check", f"{kernel}:kernel", "--arg", "x=128x512", "--format")
    done = run(*words, "json")
    assert done.returncode == 3, done.stderr
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding["rule"] == "uninitialized-result"
    assert json.loads(run(*words, "sarif").stdout)["version"] == "2.1.0"
    refused = run("check", f"{kernel}:kernel", "--arg", "x=32x512")
    assert refused.returncode == 3
    assert f"{kernel}:9: nisa.dma_copy" in refused.stdout
    assert run("check", str(KERNELS), "--", "128").returncode == 0
