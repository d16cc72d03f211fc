"""The side by side with two open planners runs, and ours is the closer on both tables."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def mean_errors(output: str) -> list[dict[str, float]]:
    """Planner -> mean error in percent, for each of the two tables."""
    tables: list[dict[str, float]] = []
    for line in output.splitlines():
        if line.endswith(("full", "selective")):
            tables.append({})
        found = re.match(r"  (\S.*?) +mean +([\d.]+) %", line)
        if found:
            tables[-1][found[1]] = float(found[2])
    return tables


def side_by_side() -> list[dict[str, float]]:
    command = [sys.executable, "benchmarks/planner_peers.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return mean_errors(done.stdout)


@pytest.mark.conformance("RAINSHADOW_CHECKOUT_CALCULON")
def test_calculon_is_no_closer_on_its_own_cases_nor_on_sc21(checkout):
    own, sc21 = side_by_side()
    assert own["Rainshadow"] <= own["Calculon"]
    assert sc21["Rainshadow"] < sc21["Calculon"]


@pytest.mark.conformance("RAINSHADOW_CHECKOUT_LLM_ANALYSIS")
def test_llm_analysis_is_no_closer_than_ours(checkout):
    for table in side_by_side():
        others = [error for name, error in table.items() if name.startswith("llm-analysis")]
        assert others and table["Rainshadow"] < min(others)
