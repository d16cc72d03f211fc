"""Find the best training plan: layout, chips, time, memory, money, energy, and how sure it is.

MODEL is a shipped model, a .toml or a Hugging Face config.json; several with commas. --on names
systems or chips, --chips a number, a list 64,96, a doubling range 64..16384 or steps 64..1024/64.
The search is exact: no layout of the space is faster than the answer. Ctrl-C ends it with what was
found. --out gets report.html, summary.json (for `rainshadow explain` and `compare`) and, per
program, the arguments that carry the best plan out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rainshadow.cli_options import (
    Prices,
    Region,
    SiteName,
    SummaryJson,
    Systems,
    Top,
    default_folder,
)

if TYPE_CHECKING:
    from rainshadow.cluster.planner.sweep import Outcome, Task
    from rainshadow.cost.plans import Limits

#: More members than this are announced before the search starts.
_HUGE = 50_000_000


_Model = Annotated[str, typer.Argument(help="A model, or several with commas.")]
_Chips = Annotated[str, typer.Option(help="How many: 512, 64,96 or 64..16384.")]
_Tokens = Annotated[str, typer.Option(help="To train on: 15T.")]
_Objective = Annotated[str, typer.Option(help="time, cost or energy.")]
_Sequence = Annotated[int, typer.Option(help="Tokens of a sequence.")]
_Batch = Annotated[int, typer.Option(help="Sequences of a step, all chips.")]
_Precision = Annotated[str, typer.Option(help="fp32, bf16, fp8, mxfp8 or nvfp4 (fp4).")]
_Space = Annotated[str, typer.Option(help="mainstream (what frameworks can be told) or complete.")]
_Software = Annotated[str | None, typer.Option(help="A training stack [the newest].")]
_MaxChips = Annotated[int | None, typer.Option(help="No plan with more chips.")]
_Budget = Annotated[str | None, typer.Option(help="USD at most: 5M.")]
_Deadline = Annotated[str | None, typer.Option(help="Time at most: 30d.")]
_Engine = Annotated[str, typer.Option(help="process, ray or ray://host:port.")]
_Resume = Annotated[
    Path | None, typer.Option(help="Keep each search's result here; take up what is there.")
]
_Out = Annotated[Path | None, typer.Option(help="Folder [rainshadow-out/plan-<model>].")]


def command(
    model: _Model,
    on: Systems = "trn2-ultraserver",
    chips: _Chips = "64",
    tokens: _Tokens = "1T",
    objective: _Objective = "time",
    sequence: _Sequence = 8192,
    batch: _Batch = 2048,
    precision: _Precision = "bfloat16",
    space: _Space = "mainstream",
    software: _Software = None,
    max_chips: _MaxChips = None,
    budget: _Budget = None,
    deadline: _Deadline = None,
    region: Region = None,
    price: Prices = None,
    site: SiteName = "aws_fleet",
    top: Top = 5,
    engine: _Engine = "process",
    resume: _Resume = None,
    out: _Out = None,
    as_json: SummaryJson = False,
) -> None:
    """Search, rank, write, print."""
    from rainshadow.cluster.planner import targets
    from rainshadow.cost.plan_summary import summarize_plans
    from rainshadow.cost.plans import OBJECTIVES, rank
    from rainshadow.cost.price import parse_prices
    from rainshadow.machine import load_site
    from rainshadow.porting.output import check_output
    from rainshadow.report.plans import plans_text

    goal = targets.chosen("objective", objective, OBJECTIVES)
    limits = _limits(max_chips, budget, deadline, region)
    models = [word.strip() for word in model.split(",") if word.strip()]
    prices, where, amount = (
        parse_prices(price or []),
        load_site(site),
        targets.quantity(tokens, "--tokens"),
    )
    folder = out or default_folder("plan", models[0] if models else "")
    check_output(folder)
    tasks = _tasks(
        models, targets.system_names(on), targets.chip_counts(chips), limits,
        sequence=sequence, batch=batch, precision=precision, space=space, software=software,
        top=top,
    )  # fmt: skip
    outcomes = _search(tasks, engine, resume)
    table = rank(
        outcomes, tokens=amount, objective=goal, limits=limits, site=where, prices=prices, top=top
    )
    summary = summarize_plans(
        table, models=models, tokens=amount, limits=limits, site=site, prices=prices,
        command="rainshadow " + " ".join(sys.argv[1:]),
    )  # fmt: skip
    exported = _write(summary, folder)
    print(json.dumps(summary, indent=2) if as_json else "\n".join(plans_text(summary)))
    _say(f"written to {folder}/: report.html, summary.json, {', '.join(exported) or 'no exports'}")


def _limits(
    max_chips: int | None, budget: str | None, deadline: str | None, region: str | None
) -> Limits:
    """What a plan must keep to.

    Errors: `InputError` for what is no amount or time.
    """
    from rainshadow.cluster.planner.targets import quantity, span_s
    from rainshadow.cost.plans import Limits

    return Limits(
        max_chips=max_chips,
        budget_usd=quantity(budget, "--budget") if budget else None,
        deadline_s=span_s(deadline, "--deadline") if deadline else None,
        region=region,
    )


def _say(line: str) -> None:
    print(f"rainshadow: {line}", file=sys.stderr, flush=True)


def _tasks(
    models: list[str], systems: list[str], counts: list[int], limits: Limits, *,
    sequence: int, batch: int, precision: str, space: str, software: str | None, top: int,
) -> list[Task]:  # fmt: skip
    """One search for each model, system and size.

    Errors: `UnknownNameError` for a model, precision, space or stack that does not exist;
    `InputError` for a number out of range.
    """
    import dataclasses

    from rainshadow.cluster.layout import Workload, precision_code
    from rainshadow.cluster.model_files import load_model
    from rainshadow.cluster.planner.space import MAINSTREAM, Choices
    from rainshadow.cluster.planner.sweep import Task
    from rainshadow.cluster.planner.targets import chosen
    from rainshadow.cluster.software import load_software
    from rainshadow.errors import InputError

    if not models:
        raise InputError("no MODEL", fix="name one, for example llama_3_1_70b")
    for name, value in (("--sequence", sequence), ("--batch", batch), ("--top", top)):
        if value < 1:
            raise InputError(f"{name} {value}", allowed="1 or more")
    for name in models:
        load_model(name)
    if software is not None:
        load_software(software)
    spaces = {"mainstream": MAINSTREAM, "complete": Choices()}
    choices = dataclasses.replace(
        spaces[chosen("space", space, spaces)],
        precision=precision_code(precision),
    )
    within = [count for count in counts if limits.max_chips is None or count <= limits.max_chips]
    return [
        Task(
            model=name, system=system, chips=count,
            workload=Workload(sequence=sequence, global_batch=batch), choices=choices,
            software=software, top=top,
        )
        for name in models
        for system in systems
        for count in within or counts[:1]
    ]  # fmt: skip


def _search(tasks: list[Task], engine: str, resume: Path | None) -> list[Outcome]:
    """Every search, with progress on stderr."""
    from rainshadow.cluster.planner.sweep import estimate, run
    from rainshadow.report.progress import Meter

    families, members = estimate(tasks)
    if members > _HUGE:
        _say(
            f"{len(tasks)} searches over {members:,} layouts in {families:,} families; Ctrl-C "
            "ends them with what was found"
        )
    meter = Meter()
    state = {"done": 0}

    def inside(done: int, count: int, best_s: float) -> None:
        found = f"best step {best_s:.4g} s" if best_s < float("inf") else "nothing fits yet"
        title = tasks[min(state["done"], len(tasks) - 1)].title
        meter.show((state["done"] + done / count) / len(tasks), f"{title}: {found}")

    def progress(done: int, count: int, title: str) -> None:
        state["done"] = done
        meter.show(done / count, title)

    outcomes = run(tasks, engine=engine, folder=resume, progress=progress, inside=inside)
    meter.close()
    return outcomes


def _write(summary: dict[str, Any], folder: Path) -> list[str]:
    """The folder's files; names of the exports."""
    from rainshadow.cluster.model_files import load_model
    from rainshadow.porting.output import staged
    from rainshadow.report.exports import export_all
    from rainshadow.report.plan_page import training_page

    best = summary["plans"][0]
    exports, refused = export_all(best, load_model(best["model"]))
    with staged(folder) as scratch:
        (scratch / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
        (scratch / "report.html").write_text(training_page(summary), encoding="utf-8")
        for name, text in exports.items():
            (scratch / name).write_text(text, encoding="utf-8")
    for reason in refused:
        _say(f"not exported: {reason}")
    return list(exports)
