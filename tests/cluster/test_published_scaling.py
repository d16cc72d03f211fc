"""What the planner promises of published A100 tables and of MLPerf's largest jobs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from rainshadow.validation.training_cases import case_of
from rainshadow.validation.training_model import case_seconds

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "planner_peers", ROOT / "benchmarks/planner_peers.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_calculons_own_eight_cases_are_within_its_mean_error(peers):
    errors = peers.errors(peers.korthikanti(), peers.ours)
    assert np.abs(errors).mean() <= 0.0365


def test_the_sc21_tables_are_close_and_not_all_on_one_side(peers):
    errors = np.array(peers.errors(peers.sc21(), peers.ours))
    assert np.abs(errors).mean() < 0.104
    assert np.any(errors > 0) and np.any(errors < 0)


#: NVIDIA, MLPerf Training v5.0, Llama 3.1 405B: chips, global batch, seconds of a step.
MLPERF_405B = ((512, 1152, 55.143), (2432, 1216, 12.7118), (8192, 1536, 5.1807))


def predicted_s(chips: int, batch: int, seconds: float) -> float:
    row = {"id": str(chips), "source": "mlcommons/training_results_v5.0:NVIDIA/results/eos"}
    row |= {"model": "Llama-3.1-405B", "chip": "H100", "n_chips": str(chips), "seq": "8192"}
    row |= {"tp": "8", "pp": "8", "vp": "8", "cp": "2", "micro_batch": "1", "precision": "FP8"}
    row |= {"global_batch": str(batch), "metric": "step_time_s", "value": str(seconds)}
    return case_seconds(case_of(row))


@pytest.mark.parametrize("larger", MLPERF_405B[1:])
def test_405b_scales_over_h100_as_mlperf_measured(larger):
    """Sequences a second and chip, over those on 512 chips."""
    scaling = [
        (large_batch / large / large_s) / (small_batch / small / small_s)
        for (small, small_batch, small_s), (large, large_batch, large_s) in (
            (MLPERF_405B[0], larger),
            (
                (*MLPERF_405B[0][:2], predicted_s(*MLPERF_405B[0])),
                (*larger[:2], predicted_s(*larger)),
            ),
        )
    ]
    published, predicted = scaling
    assert predicted == pytest.approx(published, rel=0.08)
