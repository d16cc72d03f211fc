"""Runs the integration tests of AWS's nki-library, in its simulation mode, on Rainshadow.

    python tools/nki_library.py CHECKOUT --ids tests/conformance/nki_library_bar.txt
    python tools/nki_library.py CHECKOUT -- -m fast
    python tools/nki_library.py CHECKOUT --part 1

What follows `--` goes to pytest. The checkout is left as it is: a copy is mended where the public
snapshot of April 2026 cannot be imported, and what its framework imports without need (cloud
clients, plots) is stood in for. A test counts as passed only if its kernel was simulated; the
comparison is the suite's own. Needs pytest, pytest-xdist, torch, scipy, allpairspy and filelock.
"""

from __future__ import annotations

import argparse
import ast
import enum
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import make_dataclass
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

HERE = Path(__file__).resolve()
LINUX = sys.platform == "linux"
SETTINGS = "NKI_LIBRARY_RUN"  # the plugin's options, as JSON
NOT_NEEDED = ("boto3", "botocore", "fabric2", "paramiko", "aws_embedded_metrics", "plotext")
NOT_NEEDED += ("pytest_html", "debugpy", "pandas")
#: Sizes in a test's name for which the suite skips it in simulation.
LARGE = re.compile("4096|5120|8192|16384|32768|36864")
#: The tests in an order that says nothing about them, and how many of them are a part.
SHUFFLED, PART = 20261128, 250


def part_of(ids: list[str], number: int) -> set[str]:
    """A part of the suite, counted from 1: tests of kernels, of sizes that it does not skip."""
    some = [name for name in ids if "test_tensor_view" not in name and not LARGE.search(name)]
    random.Random(SHUFFLED).shuffle(some)
    return set(some[(number - 1) * PART : number * PART])


def mend(root: Path) -> None:
    """Make a copy of the snapshot importable."""
    mlp = root / "src/nkilib_src/nkilib/core/mlp/mlp.py"
    try:
        ast.parse(mlp.read_text("utf-8"))
    except SyntaxError as error:  # the end of a docstring is there twice
        lines = mlp.read_text("utf-8").split("\n")
        quotes = [row for row, line in enumerate(lines) if line.strip() == '"""']
        first = max(row for row in quotes if row < error.lineno - 1) + 1
        last = min(row for row in quotes if row >= error.lineno - 1)
        mlp.write_text("\n".join(lines[:first] + lines[last + 1 :]), "utf-8")
    moved = root / "src/nkilib_src/nkilib/experimental/subkernels"
    if not moved.exists():  # a test still imports the old place
        moved.mkdir()
        (moved / "__init__.py").touch()
        for name in ("topk_reduce", "topk_reduce_torch"):
            (moved / f"{name}.py").write_text(f"from ..collectives.{name} import *\n")
    qkv = root / "test/integration/nkilib/core/qkv/test_qkv_tkg.py"
    text = qkv.read_text("utf-8")
    if not re.search(r"import[^)]*\bPlatforms\b", text):
        start = "from test.utils.common_dataclasses import"
        qkv.write_text(text.replace(start, f"{start} Platforms\n{start}", 1), "utf-8")
    masks = root / "test/integration/nkilib/core/attention/test_gen_mask_tkg.py"
    text = masks.read_text("utf-8")  # the input has another name by the time it is looked up
    name = '"mask_out_hbm.must_alias_input"'
    masks.write_text(text.replace('kernel_input["mask_out_hbm"]', f"kernel_input[{name}]"), "utf-8")
    kernel = root / "src/nkilib_src/nkilib/core/qkv/qkv_cte.py"
    text = kernel.read_text("utf-8")  # imports a module by the name of the function it calls
    name = "stream_shuffle_broadcast"
    right = f"from ..utils.{name} import {name}\n"
    kernel.write_text(text.replace(f"from ..utils import {name}\n", right), "utf-8")


class Stub:
    """Answers every attribute and call with itself, for what is imported and not needed."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Exception if name.endswith(("Error", "Exception")) else self

    def __call__(self, *arguments: object, **named: object) -> Stub:
        return self

    def __getitem__(self, key: object) -> Stub:
        return self

    def __or__(self, other: object) -> Stub:
        return self

    __ror__ = __or__

    def __mro_entries__(self, bases: object) -> tuple[type, ...]:
        return (object,)


class StubModule(ModuleType):
    """A module whose every name is a Stub."""

    def __getattr__(self, name: str) -> Any:
        return getattr(Stub(), name)


class Finder:
    """Finds modules below some names: stubs, or other names of modules that exist."""

    def __init__(self, top: str, instead: str | None = None) -> None:
        self.top, self.instead = top, instead

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if name == self.top or name.startswith(f"{self.top}."):
            return ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        if self.instead:
            return importlib.import_module(self.instead + spec.name[len(self.top) :])
        module = StubModule(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to be done."""


def module(name: str, **names: object) -> None:
    """Put a module made here among the imported ones, unless it can be found."""
    try:
        importlib.import_module(name)
    except ImportError:
        made = ModuleType(name)
        made.__path__ = []
        vars(made).update(names)
        sys.modules[name] = made


def stand_in() -> None:
    """What must exist before the suite's conftest is imported."""
    import ml_dtypes
    import numpy as np

    import rainshadow.dtypes
    import rainshadow.nki
    from rainshadow.isa import mx

    rainshadow.nki.install()
    import nki

    for name in NOT_NEEDED:
        if importlib.util.find_spec(name) is None:
            sys.meta_path.append(Finder(name))  # type: ignore[arg-type]
    module("nki_cpu_simulator", nki=nki)
    sys.meta_path.insert(0, Finder("nki_cpu_simulator.nki", "nki"))  # type: ignore[arg-type]
    cast = {"static_cast": static_cast}
    module(
        "neuron_dtypes",
        **cast,
        bfloat16=ml_dtypes.bfloat16,
        finfo=ml_dtypes.finfo,
        **{name: rainshadow.dtypes.given_dtype(name) for name in mx.FORMATS},
        sizeinbytes=lambda dtype: np.dtype(dtype).itemsize,
        is_float_type=lambda dtype: np.dtype(dtype).kind in "fV",
    )
    for parent in ("neuronxcc.starfish", "neuronxcc.starfish.support"):
        module(parent)
    module("neuronxcc.starfish.support.dtype", **cast)
    module("test.utils.perf_analysis_private", analyze_trace=lambda *_, **__: None)
    module("test.utils.scripts")
    states = "ERROR FLOCK_TIMEOUT ALLOCATED DRAINED DRAINING NO_CORES RELEASED UNDRAINED"
    module(
        "test.utils.scripts.remote_lock_scripts",
        LockStatus=enum.Enum("LockStatus", states),
        LockResult=make_dataclass("LockResult", ["status"]),
    )


def static_cast(values: Any, dtype: Any) -> Any:
    """Of the private package that the suite casts with: rounds, packs and unpacks MX elements."""
    import numpy as np

    from rainshadow.dtypes import canonical, given_dtype
    from rainshadow.isa import mx

    array, name = np.asarray(values), canonical(dtype)
    packed = array.dtype.names
    if packed:
        array = mx.unpack(np.ascontiguousarray(array[packed[0]]), packed[0])
        array = array.reshape(*array.shape[:-2], -1)
    if name in mx.FORMATS:
        return mx.pack(array, name).view(given_dtype(name))
    return array.astype(dtype)


def simulate_ranks(orchestrator: Any, kernel: Any) -> str:
    """Simulate a kernel with collectives; the folder with each rank's outputs.

    The suite's own simulation mode knows one rank and fails with more, so this stands in for it:
    inputs and outputs are those that the suite would hand to, and expect of, a cluster.
    """
    import numpy as np
    from test.utils import common_dataclasses, test_orchestrator
    from test.utils.exceptions import InferenceException

    from rainshadow.nki import PerRank, simulate

    count, given = kernel.inference_args.collective_ranks, kernel.kernel_input
    shared = isinstance(given, dict)
    inputs = [given if shared else given.for_rank(rank) for rank in range(count)]
    arguments = {
        name.removesuffix(".must_alias_input"): PerRank([own[name] for own in inputs])
        for name in inputs[0]
    }
    os.environ["NKI_NC_VERSION"] = kernel.compiler_input.platform_target.get_nc_gen()
    lnc = kernel.compiler_input.logical_nc_config
    try:
        results = simulate(kernel.kernel_func[lnc], ranks=count)(**arguments)
    except Exception as error:
        raise InferenceException(str(error)) from error
    base = Path(orchestrator.fs_config.artifacts_output_directory_path)
    folder = base / test_orchestrator.INF_ARTIFACT_DIR_NAME
    golden_output = kernel.validation_args.golden_output
    for rank, result in enumerate(results):
        golden = common_dataclasses.normalize_golden_output(golden_output, rank)
        outputs = result if isinstance(result, list | tuple) else (result,)
        named = {
            name: np.asarray(output, dtype=expected.dtype)
            for (name, expected), output in zip(golden.items(), outputs, strict=True)
        }
        place = folder / f"output_worker_{rank}"
        orchestrator.__dump_tensors__(str(place), named, lambda name: name)
    return str(folder)


class OverTimeError(Exception):
    """A test took longer than its limit."""


def forget_peak() -> None:
    """From here on, the peak of this process's memory is counted anew (proc(5), clear_refs)."""
    if LINUX:
        Path("/proc/self/clear_refs").write_text("5")


def peak_gib() -> float | None:
    """The most memory this process has held since `forget_peak`; only Linux tells."""
    if not LINUX:
        return None
    status = Path("/proc/self/status").read_text("utf-8")
    return round(int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0]) / 2**20, 2)


def reports_of_a_child(item: pytest.Item, figures: Path) -> list[pytest.TestReport]:
    """Run a test in a forked process: its memory is its own, and its death is one failure."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as file:
        child = os.fork()
        if child == 0:
            try:
                reports = runtestprotocol(item, log=False, nextitem=None)
                write = item.config.hook.pytest_report_to_serializable
                told = [write(config=item.config, report=report) for report in reports]
                Path(file.name).write_text(json.dumps(told, default=str), "utf-8")
                os._exit(0)
            finally:
                os._exit(1)  # whatever was raised: the other tests are the parent's
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        text = file.read()
    if status or not text:
        known = json.loads(figures.read_text("utf-8") or "{}")
        place = "after a simulation" if known else "in or before its simulation"
        why = f"its process ended with {status} {place} (-9: killed, mostly for memory)"
        report = pytest.TestReport(item.nodeid, item.location, {}, "failed", why, "call")
        report.user_properties.append(("figures", known))
        return [report]
    read = item.config.hook.pytest_report_from_serializable
    return [read(config=item.config, data=data) for data in json.loads(text)]


class Plugin:
    """Chooses the tests, limits each in time, and writes a line of JSON for each."""

    def __init__(self, ids: list[str], part: int, limit_s: int, log: str, apart: bool) -> None:
        self.ids, self.part, self.limit_s, self.log = set(ids), part, limit_s, log
        self.apart = apart
        self.figures_file = Path(f"figures_{os.getpid()}.json").resolve()
        self.figures: dict[str, float | None] = {}  # empty until it simulates

    def pytest_configure(self, config: pytest.Config) -> None:
        orchestrator = importlib.import_module("test.utils.test_orchestrator").Orchestrator
        if not hasattr(orchestrator, "_compiled_kernel"):
            orchestrator._compiled_kernel = None  # else simulation mode ends in AttributeError
        setup = importlib.import_module("test.utils.simulation_setup")
        simulate = setup.run_simulator_inference

        setup.run_simulator_inference = partial(self.measured, simulate)
        one_rank = orchestrator._run_simulator_inference

        def all_ranks(itself: Any, kernel: Any) -> str | None:
            if kernel.inference_args.collective_ranks == 1:
                return one_rank(itself, kernel)  # type: ignore[no-any-return]
            return self.measured(simulate_ranks, itself, kernel)  # type: ignore[no-any-return]

        orchestrator._run_simulator_inference = all_ranks

    def measured(self, simulate: Any, *given: object) -> Any:
        """Simulate, and note how long it took and its peak of memory, the inputs included."""
        forget_peak()
        start = time.perf_counter()
        try:
            return simulate(*given)
        finally:
            seconds = round(time.perf_counter() - start, 3)
            self.figures = {"simulated_s": seconds, "simulated_gib": peak_gib()}
            self.figures_file.write_text(json.dumps(self.figures))  # a killed test leaves them

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        # Tests of the tracer's inside need AWS's own compiler.
        items[:] = [
            item
            for item in items
            if not item.get_closest_marker("trace_only")
            and (not self.ids or item.nodeid in self.ids)
        ]
        if self.part:
            chosen = part_of([item.nodeid for item in items], self.part)
            items[:] = [item for item in items if item.nodeid in chosen]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if not self.apart:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        self.figures_file.write_text("")
        for report in reports_of_a_child(item, self.figures_file):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Any:
        def stop(*_: object) -> None:
            raise OverTimeError(f"over {self.limit_s} s")

        self.figures = {}
        signal.signal(signal.SIGALRM, stop)
        signal.alarm(self.limit_s)
        yield
        signal.alarm(0)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self) -> Any:
        report = (yield).get_result()
        report.user_properties.append(("figures", self.figures))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if os.environ.get("PYTEST_XDIST_WORKER"):
            return
        if report.when != "call" and report.outcome == "passed":
            return
        outcome = "xfailed" if hasattr(report, "wasxfail") else report.outcome
        figures = dict(report.user_properties).get("figures", {})
        if outcome == "passed" and not figures:
            outcome = "not simulated"
        crash = getattr(report.longrepr, "reprcrash", None)
        row = {"id": report.nodeid, "outcome": outcome, "seconds": round(report.duration, 3)}
        row |= figures
        row["why"] = (getattr(crash, "message", "") or str(report.longrepr or ""))[-600:]
        with Path(self.log).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if SETTINGS in os.environ:
    stand_in()  # pytest loads this file (`-p nki_library`) before the suite's conftest


def pytest_configure(config: pytest.Config) -> None:
    """Give pytest the plugin of this run."""
    if SETTINGS not in os.environ:
        return
    plugin = Plugin(**json.loads(os.environ[SETTINGS]))
    config.pluginmanager.register(plugin, "nki-library-run")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkout", type=Path, help="aws-neuron/nki-library at d2ad3a5")
    parser.add_argument("--ids", type=Path, help="a file of test ids: only those run")
    parser.add_argument("--paths", nargs="*", help="files and folders; all, or those of the ids")
    parser.add_argument("--part", type=int, default=0, help="this 250 of all that is collected")
    parser.add_argument("--apart", action="store_true", help="each test in its own process")
    parser.add_argument("--platform", default="trn2")
    parser.add_argument("--all-sizes", action="store_true", help="also what AWS calls too large")
    parser.add_argument("--spill", choices=("reject", "model"), default="reject")
    parser.add_argument("--uninitialized", choices=("nan", "zero"), default="nan")
    parser.add_argument("--workers", default="2")
    parser.add_argument("--test-limit", type=int, default=60, help="seconds a test may take")
    parser.add_argument("--limit", type=int, help="seconds the run may take")
    parser.add_argument("--seed", default="0", help="of the generated cases")
    parser.add_argument("--log", type=Path, default=Path("nki_library.jsonl"))
    parser.add_argument("--min-passed", type=int, default=0, help="fewer: exit 3")
    words = [*sys.argv[1:], "--"]
    ours = words.index("--")
    return parser.parse_args(words[:ours], argparse.Namespace(pytest=words[ours + 1 : -1]))


def run(asked: argparse.Namespace, root: Path) -> None:
    """The suite in `root`, a copy."""
    ids = asked.ids.read_text("utf-8").splitlines() if asked.ids else []
    paths = asked.paths or sorted({name.split("::")[0] for name in ids}) or ["test/integration"]
    asked.log.write_text("")
    settings = {
        "ids": ids,
        "part": asked.part,
        "limit_s": asked.test_limit,
        "apart": asked.apart,
        "log": str(asked.log.resolve()),
    }
    places = (HERE.parent, HERE.parent.parent / "src", root, root / "src")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([*map(str, places), os.environ.get("PYTHONPATH", "")]),
        "PYTHONHASHSEED": "0",
        "NEURON_PYTHONHASHSEED": asked.seed,
        "OMP_NUM_THREADS": "1",
        "RAINSHADOW_SPILL": asked.spill,
        "RAINSHADOW_UNINITIALIZED": asked.uninitialized,
        SETTINGS: json.dumps(settings),
    }
    if asked.all_sizes:
        environment["NKILIB_SIMULATION_RUN_ALL"] = "1"
    command = [
        *(sys.executable, "-m", "pytest", "-c", "test/pytest.ini", "--rootdir=.", "-q"),
        *("-p", "nki_library", "-p", "no:cacheprovider", "--tb=short", "--show-capture=no"),
        *("--test-mode", "simulation", "--platform-target", asked.platform),
        *("--coverage", "singles", "--force-local-cleanup", "--output-directory", "out"),
        *("-n", asked.workers, "--dist", "worksteal", *asked.pytest, *paths),
    ]
    try:
        subprocess.run(command, cwd=root, env=environment, timeout=asked.limit)
    except subprocess.TimeoutExpired:
        print(f"stopped after {asked.limit} s", file=sys.stderr)


def main() -> int:
    """Run on a mended copy; print outcomes by folder, and why tests failed."""
    asked = options()
    for name in ("src/nkilib_src", "test/integration"):
        if not (asked.checkout / name).is_dir():
            print(f"{asked.checkout} is no checkout of nki-library: no {name}", file=sys.stderr)
            return 2
    with tempfile.TemporaryDirectory(prefix="nki_library_") as folder:
        for name in ("src", "test"):
            shutil.copytree(asked.checkout / name, Path(folder) / name)
        mend(Path(folder))
        try:
            run(asked, Path(folder))
        except KeyboardInterrupt:
            print(f"interrupted; the tests that ended are in {asked.log}", file=sys.stderr)
            return 130
    rows = [json.loads(line) for line in asked.log.read_text("utf-8").splitlines()]
    if not rows:
        print(
            "no test ran: none of the --ids (those of generated tests exist only where all", end=" "
        )
        print("files are collected: --paths test/integration), or a --part past the last")
        return 2
    by_folder: dict[str, Counter[str]] = {}
    for row in rows:
        folder = "/".join(row["id"].split("::")[0].split("/")[3:-1])
        by_folder.setdefault(folder, Counter())[row["outcome"]] += 1
    for folder, counts in sorted(by_folder.items()):
        print(f"{folder:28}", ", ".join(f"{count} {name}" for name, count in counts.items()))
    total = Counter(row["outcome"] for row in rows)
    print("all:", ", ".join(f"{count} {name}" for name, count in total.items()))
    return 3 if total["passed"] < asked.min_passed else 0


if __name__ == "__main__":
    sys.exit(main())
