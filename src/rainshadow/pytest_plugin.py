"""pytest --rainshadow: tests that call NKI kernels run without a chip, on a simulated NeuronCore.

The fixture `nki_launches` has the launches of a test: their Traces and Timelines. Without the flag
nothing is imported and nothing changes; a test that asks for the fixture is skipped.
With --rainshadow-check a test also fails where one of its launches has a hazard, as
`rainshadow check` finds them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rainshadow.findings import Finding
    from rainshadow.machine import Chip
    from rainshadow.nki import Run
    from rainshadow.sim.timeline import Timeline
    from rainshadow.sim.trace import Trace


class Launches:
    """The kernel launches of one test, in order, on `chip`."""

    def __init__(self, chip: Chip) -> None:
        self.chip = chip
        self.runs: list[Run] = []

    @property
    def traces(self) -> list[Trace]:
        """Of every launch and core."""
        return [trace for run in self.runs for trace in (run.trace, *run.other_traces)]

    @property
    def timelines(self) -> list[Timeline]:
        """The traces, timed; the cores of a launch together."""
        return [timeline for run in self.runs for timeline in self._timed(run)]

    @property
    def trace(self) -> Trace:
        """The trace of the last launch.

        Errors: `InputError` where there was none.
        """
        return self._last().trace

    @property
    def timeline(self) -> Timeline:
        """The last launch, timed: its first core.

        Errors: `InputError` where there was none.
        """
        return self._timed(self._last())[0]

    def _timed(self, run: Run) -> tuple[Timeline, ...]:
        from rainshadow.sim.launch_timing import time_launch
        from rainshadow.sim.timing import TimingOptions

        traces = (run.trace, *run.other_traces)
        return time_launch(traces, self.chip, TimingOptions(lnc=run.lnc))

    def _last(self) -> Run:
        from rainshadow.errors import InputError

        if not self.runs:
            raise InputError(
                "the test has launched no kernel", fix="call a kernel before asking for its trace"
            )
        return self.runs[-1]


class _Session:
    """What the flag switches on, until the end of the run."""

    def __init__(self, chip_name: str | None) -> None:
        from rainshadow.machine import load_neuron_chip
        from rainshadow.nki.install import nki_names
        from rainshadow.nki.kernel import Kernel, observe, target_chip

        self.num_launches = 0
        self.findings: list[Finding] = []
        self.kernel_class = Kernel
        self.chip = load_neuron_chip(chip_name) if chip_name else target_chip()
        self.stack = ExitStack()
        self.stack.enter_context(nki_names())
        self.stack.enter_context(observe(self._count, self.chip))

    def _count(self, run: Run) -> None:
        self.num_launches += 1


_SESSION = pytest.StashKey[_Session]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The flag and its chip."""
    group = parser.getgroup("rainshadow")
    group.addoption(
        "--rainshadow",
        action="store_true",
        help="run NKI kernels on a simulated NeuronCore instead of a chip",
    )
    group.addoption(
        "--rainshadow-check",
        action="store_true",
        help="with --rainshadow: a test fails where one of its launches has a hazard",
    )
    group.addoption(
        "--rainshadow-chip",
        metavar="CHIP",
        help="the simulated chip; else what NEURON_PLATFORM_TARGET_OVERRIDE says, or trainium2",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before any conftest: it may import nki."""
    _begin(early_config, early_config.known_args_namespace)


def pytest_configure(config: pytest.Config) -> None:
    """Where the plugin came by -p after the conftests."""
    _begin(config, config.option)


def _begin(config: pytest.Config, options: Any) -> None:
    if not getattr(options, "rainshadow", False) or _SESSION in config.stash:
        return
    from rainshadow.errors import RainshadowError

    try:
        config.stash[_SESSION] = _Session(options.rainshadow_chip)
    except RainshadowError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take the names and the observer away again."""
    session = config.stash.get(_SESSION, None)
    if session is not None:
        session.stack.close()


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, obj: object) -> list[Any] | None:
    """A kernel is no test, whatever its name."""
    session = collector.config.stash.get(_SESSION, None)
    return [] if session is not None and isinstance(obj, session.kernel_class) else None


def pytest_report_header(config: pytest.Config) -> str | None:
    """Which chip is simulated."""
    session = config.stash.get(_SESSION, None)
    return (
        None
        if session is None
        else f"rainshadow: NKI kernels run on a simulated {session.chip.name}"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """With --rainshadow-check, the launches of a test are checked as well."""
    session = item.config.stash.get(_SESSION, None)
    if session is None or not item.config.option.rainshadow_check:
        return (yield)
    from rainshadow.findings import in_order
    from rainshadow.nki.check import watch_launches

    found: list[Finding] = []
    with watch_launches(session.chip, found):
        result = yield
    session.findings += found
    errors = [finding for finding in in_order(found) if finding.severity == "error"]
    if errors:
        pytest.fail("\n".join(map(str, errors)), pytrace=False)
    return result


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """How many launches there were, so that a run without any is seen; and their hazards."""
    session = config.stash.get(_SESSION, None)
    # Under pytest-xdist the launches are the workers'.
    if session is None or getattr(config.option, "numprocesses", None):
        return
    terminalreporter.write_line(
        f"rainshadow: {session.num_launches} kernel launches on a simulated {session.chip.name}"
    )
    if config.option.rainshadow_check:
        from rainshadow.findings import in_order

        found = in_order(session.findings)
        for finding in found:
            terminalreporter.write_line(str(finding))
        terminalreporter.write_line(f"rainshadow: findings in these launches: {len(found)}")


@pytest.fixture
def nki_launches(request: pytest.FixtureRequest) -> Iterator[Launches]:
    """The NKI kernel launches of this test: traces, timelines."""
    session = request.config.stash.get(_SESSION, None)
    if session is None:
        pytest.skip("needs pytest --rainshadow")
    from rainshadow.nki.kernel import observe

    launches = Launches(session.chip)
    with observe(launches.runs.append):
        yield launches
