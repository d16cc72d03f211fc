"""Shared set-up of the tests: hypothesis profiles and the summary of conformance runs."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# The same examples in every run, so that a change is judged by what it changed; `nightly` looks
# for new ones.
settings.register_profile("fast", max_examples=25, deadline=None, derandomize=True)
settings.register_profile(
    "nightly", max_examples=5000, deadline=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

#: Environment variable of each checkout that conformance tests need.
_NOT_RUN: set[str] = set()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes the kept texts of tests/golden anew."""
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden")


@pytest.fixture
def checkout(request: pytest.FixtureRequest) -> str:
    """The folder that the environment variable named by the `conformance` marker points to."""
    marker = request.node.get_closest_marker("conformance")
    variable = marker.args[0]
    folder = os.environ.get(variable)
    if not folder:
        _NOT_RUN.add(variable)
        pytest.skip(f"CONFORMANCE NOT RUN: set {variable} to a checkout")
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly which conformance tests did not run."""
    reports = terminalreporter.stats.get("skipped", [])
    variables = sorted(
        {
            str(report.longrepr[2]).split("set ")[1].split(" ")[0]
            for report in reports
            if isinstance(report.longrepr, tuple) and "CONFORMANCE NOT RUN" in report.longrepr[2]
        }
    )
    for variable in variables:
        terminalreporter.write_line(f"CONFORMANCE NOT RUN: set {variable} to a checkout")


@pytest.fixture
def rng():
    """A seeded NumPy generator."""
    import numpy as np

    return np.random.default_rng(0)
