"""Runs many searches, each a task of its own: here, or on a Ray cluster; resumable.

A task is plain data and its result plain JSON, so that where it ran can't change the answer. With
a folder every result is stored under the hash of its task, the program's version and its data;
a sweep that is started again reads what is there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from rainshadow import __version__
from rainshadow.cluster.feasibility import precision_known, usable_bytes
from rainshadow.cluster.layout import PRECISIONS, Layout, Workload
from rainshadow.cluster.model_files import load_model
from rainshadow.cluster.planner.search import Found, Proof, SearchResult, least_memory, search
from rainshadow.cluster.planner.space import MAINSTREAM, Choices, Space
from rainshadow.cluster.sizing import sized
from rainshadow.cluster.software import Software, list_software, load_software
from rainshadow.errors import InputError, NotModelled, RainshadowError
from rainshadow.machine import System, load_system

#: told (tasks done, tasks in all, what was just done)
Progress = Callable[[int, int, str], None]
#: told (families done, families in all, best seconds so far) of the search that runs
Inside = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One search: a model on so many chips of a system, by the names that load them."""

    model: str
    system: str
    chips: int
    workload: Workload
    choices: Choices = MAINSTREAM
    software: str | None = None
    top: int = 5

    @property
    def title(self) -> str:
        return f"{self.model} on {self.chips:,} {self.system}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a task found. rejected: why it found nothing, in one sentence; fix: what to change.

    exit_code: of the reason, 1 bad input or 2 not modelled.
    """

    task: Task
    result: SearchResult | None
    rejected: str | None = None
    fix: str | None = None
    exit_code: int = 0


def sized_system(system: System, chips: int) -> System:
    """`sizing.sized`, and an error where the chips lie in domains that nothing joins.

    Errors: `InputError`; `NotModelled` naming the file to fill.
    """
    cut = sized(system, chips)
    if cut.domains > 1 and cut.network is None:
        raise NotModelled(
            f"{chips:,} chips of {system.name}: domains of {cut.chips_per_domain} without a "
            "scale-out network",
            fix=f"add [network] to data/systems/{system.name}.toml with its source",
        )
    return cut


def run_task(task: Task, inside: Inside | None = None) -> dict[str, Any]:
    """One search as JSON: `found`, `proof`, or `rejected`. inside: told how the search gets on."""
    try:
        software = load_software(task.software) if task.software else None
        system = sized_system(load_system(task.system), task.chips)
        space = Space(load_model(task.model), system, task.workload, task.choices)
        _check_precision(system, task.choices.precision)
        if software is not None:
            _check_software(system, software)
        result = search(space, software=software, top=task.top, progress=inside)
        if result.found:
            return _to_json(result)
        return _why_nothing(space, system, result, software)
    except RainshadowError as error:
        allowed = f"; allowed: {error.allowed}" if error.allowed else ""
        return {
            "rejected": f"{error.what}{allowed}",
            "fix": error.fix,
            "exit_code": error.exit_code,
        }


def _check_precision(system: System, code: int) -> None:
    """Errors: `NotModelled` where the chip has no peak for a precision."""
    if not precision_known(system, Layout(precision=code)):
        raise NotModelled(
            f"{system.chip.name} has no peak for {PRECISIONS[code]}",
            allowed=", ".join(
                name
                for number, name in enumerate(PRECISIONS)
                if precision_known(system, Layout(precision=number))
            ),
            fix=f"take another --precision, or add peak_flops to data/machines/"
            f"{system.chip.name}.toml with its source",
        )


def _check_software(system: System, software: Software) -> None:
    """Errors: `InputError` for a stack of other chips."""
    family = system.chip.family
    if software.families and family not in software.families:
        own = [name for name in list_software() if family in load_software(name).families]
        raise InputError(
            f"--software {software.name} runs on {', '.join(software.families)} chips, "
            f"{system.chip.name} is of the family {family}",
            allowed=", ".join(own),
            fix="name one of these, or leave --software out for the newest",
        )


def _why_nothing(
    space: Space, system: System, result: SearchResult, software: Software | None
) -> dict[str, Any]:
    if not result.proof.complete:
        return {"rejected": "interrupted", "fix": None, "exit_code": 1}
    lean = least_memory(space, software)
    if lean is None:
        return {
            "rejected": f"no degrees divide a batch of {space.workload.global_batch}, "
            f"{space.model.heads} heads and {space.model.layers} layers over "
            f"{system.num_chips:,} chips",
            "fix": "change --batch or --chips",
            "exit_code": 1,
        }
    usable = usable_bytes(system)
    return {
        "rejected": f"the leanest layout needs {lean[0] / 2**30:.1f} GiB of the "
        f"{usable / 2**30:.1f} GiB that a plan may fill of a chip: {lean[0] / usable:.2f} times "
        "too much",
        "fix": "take more chips, a shorter --sequence, or --space complete (with offload)",
        "exit_code": 1,
    }


def _to_json(result: SearchResult) -> dict[str, Any]:
    return {
        "found": [
            {"step_s": entry.step_s, "layout": entry.layout.columns()} for entry in result.found
        ],
        "proof": {
            **dataclasses.asdict(result.proof),
            "next_bound_s": result.proof.next_bound_s if result.proof.ruled_out else None,
        },
    }


def _from_json(task: Task, raw: Mapping[str, Any]) -> Outcome:
    if "found" not in raw:
        return Outcome(
            task=task, result=None, rejected=raw["rejected"], fix=raw["fix"],
            exit_code=raw["exit_code"],
        )  # fmt: skip
    proof = dict(raw["proof"])
    if proof["next_bound_s"] is None:
        proof["next_bound_s"] = float("inf")
    found = tuple(Found(entry["step_s"], Layout(**entry["layout"])) for entry in raw["found"])
    return Outcome(task=task, result=SearchResult(found, Proof(**proof)))


def estimate(tasks: Sequence[Task]) -> tuple[int, int]:
    """(families, members) of all tasks without searching; a task that cannot run counts 0."""
    families = members = 0
    for task in tasks:
        try:
            system = sized_system(load_system(task.system), task.chips)
            space = Space(load_model(task.model), system, task.workload, task.choices)
        except RainshadowError:
            continue
        families += len(space.families)
        members += sum(space.size(family) for family in space.families)
    return families, members


@dataclass(slots=True)
class Store:
    """Results on disk, one file per task. folder None: nothing is kept."""

    folder: Path | None
    reused: int = field(default=0)

    def load(self, task: Task) -> dict[str, Any] | None:
        path = self._path(task)
        if path is None or not path.is_file():
            return None
        try:
            raw = json.loads(path.read_text("utf-8"))
        except json.JSONDecodeError:
            return None
        self.reused += 1
        return dict(raw["result"])

    def save(self, task: Task, result: Mapping[str, Any]) -> None:
        path = self._path(task)
        if path is None or result.get("rejected") == "interrupted":
            return
        proof = result.get("proof")
        if proof is not None and not proof["complete"]:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".part")
        scratch.write_text(json.dumps({"task": _plain(task), "result": result}), "utf-8")
        scratch.replace(path)

    def _path(self, task: Task) -> Path | None:
        if self.folder is None:
            return None
        text = json.dumps([_plain(task), __version__, data_hash()], sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def _plain(task: Task) -> dict[str, Any]:
    return {**dataclasses.asdict(task), "model_hash": _file_hash(task.model)} | {
        "system_hash": _file_hash(task.system)
    }


def _file_hash(name: str) -> str | None:
    """Of a user's own file; the shipped ones are in `data_hash`."""
    path = Path(name)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


@cache
def data_hash() -> str:
    """Of everything in data/: answers depend on it."""
    digest = hashlib.sha256()

    def add(folder: Traversable) -> None:
        for entry in sorted(folder.iterdir(), key=lambda item: item.name):
            if entry.is_dir():
                add(entry)
            elif entry.name.endswith((".toml", ".csv")):
                digest.update(entry.name.encode() + entry.read_bytes())

    add(resources.files("rainshadow") / "data")
    return digest.hexdigest()[:16]


def run(
    tasks: Sequence[Task],
    *,
    engine: str = "process",
    folder: Path | None = None,
    progress: Progress | None = None,
    inside: Inside | None = None,
) -> list[Outcome]:
    """All tasks, in order. engine: "process", "ray", or "ray://host:port".

    Ctrl-C ends the sweep; the tasks not done are rejected as interrupted.
    Errors: `InputError` for an unknown engine or where Ray is not installed.
    """
    store = Store(folder)
    results: dict[int, dict[str, Any]] = {}
    waiting: list[tuple[int, Task]] = []
    for number, task in enumerate(tasks):
        known = store.load(task)
        if known is None:
            waiting.append((number, task))
        else:
            results[number] = known
    source = _engine(engine, inside)(waiting)
    try:
        for number, result in source:
            results[number] = result
            store.save(tasks[number], result)
            if progress is not None:
                progress(len(results), len(tasks), tasks[number].title)
    except KeyboardInterrupt:
        pass
    nothing = {"rejected": "interrupted", "fix": None, "exit_code": 1}
    return [_from_json(task, results.get(n, nothing)) for n, task in enumerate(tasks)]


Engine = Callable[[Sequence[tuple[int, Task]]], Iterator[tuple[int, dict[str, Any]]]]


def _engine(name: str, inside: Inside | None) -> Engine:
    if name == "process":
        return lambda tasks: _here(tasks, inside)
    if name == "ray" or name.startswith("ray://"):
        return lambda tasks: _on_ray(tasks, name)
    raise InputError(f"--engine {name}", allowed="process, ray or ray://host:port")


def _here(
    tasks: Sequence[tuple[int, Task]], inside: Inside | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """One after another in this process; an interrupted search still gives what it found."""
    for number, task in tasks:
        result = run_task(task, inside)
        yield number, result
        proof = result.get("proof")
        if result.get("rejected") == "interrupted" or (proof and not proof["complete"]):
            raise KeyboardInterrupt


def _on_ray(tasks: Sequence[tuple[int, Task]], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        import ray
    except ImportError:
        raise InputError(
            f"--engine {name} needs Ray, which is not installed",
            fix="pip install 'rainshadow[cluster]'",
        ) from None
    started = not ray.is_initialized()
    if started:
        address = name if name.startswith("ray://") else None
        ray.init(address=address, logging_level="error", log_to_driver=False)
    try:
        remote = ray.remote(num_cpus=1)(run_task)
        running = {remote.remote(task): number for number, task in tasks}
        while running:
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            yield running.pop(done), ray.get(done)
    finally:
        if started:
            ray.shutdown()
