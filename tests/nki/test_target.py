"""Which chip a launch simulates, that it is said, and `import nki` under NKI_SIMULATOR=1."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rainshadow.errors import InputError
from rainshadow.nki.program import named_chip

SOURCE = Path(__file__).resolve().parents[2] / "src"
SCRIPT = """
import numpy as np
import nki, nki.isa as nisa, nki.language as nl
@nki.jit
def double(x):
    tile, out = nl.ndarray(x.shape, x.dtype), nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
    nisa.dma_copy(tile, x)
    nisa.tensor_scalar(tile, tile, nl.multiply, 2.0)
    nisa.dma_copy(out, tile)
    return out
x = np.ones((4, 8), np.float32)
print(double(x).sum(), double(x).sum(), nisa.get_nc_version().name)
"""


@pytest.mark.parametrize(
    ("target", "chip", "generation"),
    [("", "trainium2", "gen3"), ("trn1", "trainium1", "gen2"), ("gen4", "trainium3", "gen4")],
)
def test_under_nki_simulator_a_plain_script_runs_and_the_chip_is_said_once(
    target, chip, generation
):
    enable = f"import site; site.addsitedir({str(SOURCE)!r})"  # as an installed .pth file does
    done = subprocess.run(
        [sys.executable, "-c", enable + SCRIPT],
        capture_output=True, text=True, check=True,
        env={**os.environ, "NKI_SIMULATOR": "1", "PYTHONPATH": str(SOURCE),
             "NEURON_PLATFORM_TARGET_OVERRIDE": target},
    )  # fmt: skip
    assert done.stdout == f"64.0 64.0 {generation}\n"
    assert done.stderr.count(f"simulating {chip}") == 1


def test_without_nki_simulator_no_name_is_mapped():
    enable = f"import site; site.addsitedir({str(SOURCE)!r})\nimport sys\n"
    code = enable + "print(any('Nki' in type(f).__name__ for f in sys.meta_path))"
    env = {k: v for k, v in os.environ.items() if k != "NKI_SIMULATOR"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    assert done.stdout == "False\n"


def test_chips_go_by_awss_names_too(monkeypatch):
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn3")
    assert named_chip(None).name == "trainium3"
    assert named_chip("GEN2").name == named_chip("trainium1").name == "trainium1"
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn9")
    with pytest.raises(InputError, match="trn9"):
        named_chip(None)
