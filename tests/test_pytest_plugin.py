"""pytest --rainshadow, as a user's test run sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

KERNEL = """
import nki
import nki.isa as nisa
import nki.language as nl


@nki.jit
def test_is_no_test(x):
    pass


@nki.jit
def double(x):
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=tile, src=x)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
    nisa.dma_copy(dst=result, src=tile)
    return result
"""
TESTS = """
import numpy as np
from kernels import double, test_is_no_test


def test_numbers():
    assert (double(np.ones((4, 8), np.float32)) == 2).all()


def test_trace(nki_launches):
    double(np.ones((128, 8), np.float32))
    double(np.ones((4, 8), np.float32))
    assert [trace.num_rows for trace in nki_launches.traces] == [3, 3]
    assert nki_launches.trace.chip == nki_launches.chip.name
    assert nki_launches.timeline.duration_ps > 0 and len(nki_launches.timelines) == 2


def test_none(nki_launches):
    assert nki_launches.runs == []
    try:
        nki_launches.trace
    except Exception as error:
        assert "no kernel" in str(error)


def test_wrong():
    double(np.ones((256, 8), np.float32))
"""


def pytest_in(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    # The plugin is named, and no entry point read: it must load once, installed or from a checkout.
    command = [sys.executable, "-m", "pytest", "-p", "rainshadow.pytest_plugin", *arguments]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider"],
        cwd=folder,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def project(folder: Path, *, conftest: str = "") -> Path:
    (folder / "kernels.py").write_text(KERNEL)
    (folder / "test_kernels.py").write_text(TESTS)
    if conftest:
        (folder / "conftest.py").write_text(conftest)
    return folder


def test_kernels_run_and_their_traces_are_at_hand(tmp_path):
    done = pytest_in(project(tmp_path, conftest="import nki\n"), "--rainshadow")
    assert "3 passed" in done.stdout and "1 failed" in done.stdout, done.stdout
    assert "NKI kernels run on a simulated trainium2" in done.stdout
    assert "kernel launches on a simulated trainium2" in done.stdout
    assert "tensor of shape (256, 8) in sbuf: 256 partitions" in done.stdout


RACING = """
import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np


@nki.jit
def half(x):
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=tile[:2], src=x[:2])
    nisa.dma_copy(dst=result, src=tile)
    return result


def test_passes_without_a_look_at_hazards():
    assert half(np.ones((4, 8), np.float32))[0, 0] == 1
"""


def test_a_hazard_fails_the_test_that_launches_it(tmp_path):
    (tmp_path / "test_half.py").write_text(RACING)
    assert "1 passed" in pytest_in(tmp_path, "--rainshadow").stdout
    done = pytest_in(tmp_path, "--rainshadow", "--rainshadow-check")
    assert "1 failed" in done.stdout, done.stdout
    assert "test_half.py:13: nisa.dma_copy(dst=result, src=tile)" in done.stdout
    assert "error uninitialized-read" in done.stdout
    assert "findings in these launches: 1" in done.stdout


def test_another_chip(tmp_path):
    done = pytest_in(project(tmp_path), "--rainshadow", "--rainshadow-chip", "trn3", "-k", "trace")
    assert "1 passed" in done.stdout and "simulated trainium3" in done.stdout, done.stdout
    named = {"NEURON_PLATFORM_TARGET_OVERRIDE": "trn1"}
    done = pytest_in(project(tmp_path), "--rainshadow", "-k", "trace", **named)
    assert "1 passed" in done.stdout and "simulated trainium1" in done.stdout, done.stdout


def test_a_wrong_chip_is_a_usage_error(tmp_path):
    done = pytest_in(project(tmp_path), "--rainshadow", "--rainshadow-chip", "trn9")
    assert done.returncode == 4 and "trn9" in done.stderr and "Traceback" not in done.stderr


def test_without_the_flag_nothing_is_imported_and_the_fixture_skips(tmp_path):
    (tmp_path / "test_plain.py").write_text(
        "import sys\n\n"
        "def test_lean():\n"
        "    assert 'rainshadow.nki' not in sys.modules and 'numpy' not in sys.modules\n\n"
        "def test_skips(nki_launches):\n"
        "    raise AssertionError\n"
    )
    done = pytest_in(tmp_path)
    assert "1 passed, 1 skipped" in done.stdout, done.stdout
