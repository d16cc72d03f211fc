"""Write docs/planner.md: what the planner's numbers rest on, and how far off they are.

    python tools/planner_doc.py TRAINING_POINTS.csv INFERENCE_POINTS.csv

Nothing in the document is written by hand but the words between the tables. It also runs
benchmarks/planner_peers.py, which needs checkouts of two other planners. Takes a few minutes.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rainshadow.cluster.assumptions import assumptions
from rainshadow.cluster.rates import calibration, spreads
from rainshadow.cluster.software import list_software, load_software
from rainshadow.report.validation import group_rows
from rainshadow.validation.checkouts import Checkouts
from rainshadow.validation.families import training_runs
from rainshadow.validation.judge import judge, spearman
from rainshadow.validation.leave_out import fit_to, validate_left_out
from rainshadow.validation.points import Point, read_points
from rainshadow.validation.training_fit import leave_one_chip_out
from rainshadow.validation.validate import Outcome, validate

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "src/rainshadow/data/calibration"
#: Runs of one model on one chip from which a ranking is worth printing.
LEAST_RANKED = 6
HEAD = """\
# The planner: what it rests on, how far off it is

Made by `python tools/planner_doc.py`, with two tables of published runs and checkouts of two other
planners.

A training step is m micro-batches of forward, backward and recomputed passes on the fullest
pipeline stage, the bubble, the collectives that nothing hides, the optimizer, a fixed start; times
what the slowest of n chips adds. Work and bytes are counted exactly from the model and the layout;
rates come from the chip's description and from the constants below. Decoding and prefill are
counted the same way, with constants per serving stack (`data/serving`). `rainshadow plan` searches
layouts, `rainshadow longrun` adds failures, `rainshadow validate` computes published runs again.

**No training throughput of Trainium 2 or 3 is public** (Neuron documentation of August 2026): what
the planner says of them transfers from Trainium 1 and from other chips, and every answer says so.
"""


def constants(points: Sequence[Point]) -> list[str]:
    """The fitted numbers, and how many of them."""
    raw = tomllib.loads((DATA / "training.toml").read_text("utf-8"))
    fitted, values = list(spreads()), dataclasses.asdict(calibration())
    lines = [
        "## Fitted constants: training",
        "",
        f"Fitted by `python tools/fit_training.py` on {raw['fit']['points']} published runs of "
        f"{raw['fit']['sources']} sources (rows whose `split` is `open`), least squares of the",
        "logarithm of seconds, pulled towards the start by the spread.",
        "",
        "| constant | value | start | spread | meaning |",
        "|---|---|---|---|---|",
    ]
    for name in fitted:
        row = raw[name]
        lines.append(
            f"| {name} | {values[name]:.4g} | {row['start']} | {row['spread']} | {row['meaning']} |"
        )
    used = {training_runs.case(point).software.name for point in points}
    lines += [
        "",
        "One factor per software stack on its family's matmul rate, pulled towards 1, or towards",
        "the stack that it follows:",
        "",
        "| stack | factor | follows | what it is |",
        "|---|---|---|---|",
    ]
    for name in list_software():
        stack = load_software(name)
        if name in used:
            lines.append(
                f"| {name} | {stack.efficiency:.3f} | {stack.follows or '-'} | {stack.title} |"
            )
    lines += [
        "",
        f"Free parameters: {len(fitted)} constants and {len(used)} factors, "
        f"{len(fitted) + len(used)} in all, of {raw['fit']['sources']} sources.",
        *by_hand(len(fitted) + len(used), raw["fit"]["sources"]),
    ]
    return lines


def assumed() -> list[str]:
    """What the planner assumes where nothing is published."""
    lines = ["## Assumptions", "", "Not fitted: `data/calibration/assumptions.toml`.", ""]
    lines += ["| what | value | why |", "|---|---|---|"]
    for item in assumptions().values():
        lines.append(f"| {item.meaning} | {item.value:g} {item.unit}".rstrip() + f" | {item.why} |")
    return lines


#: What a stack's description may say beside its factor, and what it says by default.
BY_HAND = {
    "attention": 1.0,
    "experts": 1.0,
    "expert_casts": 1.0,
    "vector_traffic": 1.0,
    "selective_matmuls": 0.0,
    "launch": 1.0,
    "hidden_data": None,
}


def by_hand(fitted: int, sources: int) -> list[str]:
    """The numbers of stacks that no fit found, and how many parameters there are with them."""
    lines = [
        "",
        "Beside these, stacks are described by numbers that were set by hand, after what their",
        "sources say and with the open runs in view; they count like parameters:",
        "",
        "| stack | number | value |",
        "|---|---|---|",
    ]
    different = set()
    for name in list_software():
        stack = load_software(name)
        for key, usual in BY_HAND.items():
            value = getattr(stack, key)
            if value != usual and not (key == "launch" and value == 0):
                lines.append(f"| {name} | {key} | {value} |")
                before = load_software(stack.follows) if stack.follows else None
                if before is None or getattr(before, key) != value:
                    different.add((name, key))
    lines += [
        "",
        f"{len(different)} of them differ from the stack that theirs follows: "
        f"{fitted + len(different)} parameters in all, of {sources} sources.",
    ]
    return lines


def scored(points: Sequence[Point]) -> list[Point]:
    """Those that are training runs and open."""
    found = []
    for point in points:
        try:
            if training_runs.claims(point) and not training_runs.case(point).held_out:
                found.append(point)
        except Exception:
            continue
    return found


def left_out(outcomes: Sequence[Outcome]) -> list[str]:
    """The errors without the source."""
    seconds = [
        dataclasses.replace(
            outcome,
            target=dataclasses.replace(
                outcome.target, group="stated as seconds or tokens", rule="report", also=()
            ),
        )
        for outcome in outcomes
        if outcome.target is not None and outcome.point.metric != "tflops_per_chip"
    ]
    verdicts = [*judge(outcomes), *judge(seconds)]
    return [
        "## Training: every source predicted by a fit without it",
        "",
        "`rainshadow validate --points TRAINING_POINTS.csv --leave-out`. Errors of the time. The",
        "baseline is a constant FLOP/s per chip, precision and kind of model (`dense`, `MoE`,",
        "`LoRA`), its source left out as well; mean beside mean says which is better.",
        "",
        *group_rows(verdicts),
        "",
        *_not_run(outcomes),
    ]


def unseen_chips(points: Sequence[Point]) -> list[str]:
    """Errors of a fit without the chip: what predictions for a new chip are like."""
    table, fit = fit_to([training_runs.case(point) for point in points])
    errors = leave_one_chip_out(table, fit) / table.measured_s - 1
    chips = np.array([case.chip for case in table.cases])
    lines = [
        "## Training: every chip predicted by a fit that has seen no run of it",
        "",
        "What a prediction for a chip without public runs is like, as Trainium 2. Nine of ten",
        "runs of a family decide the range that is printed for its chips that no fit has seen.",
        "",
        "| chip | runs | median | mean | bias |",
        "|---|---|---|---|---|",
    ]
    for chip in ("all", *dict.fromkeys(chips.tolist())):
        found = errors if chip == "all" else errors[chips == chip]
        sizes = np.abs(found)
        lines.append(
            f"| {chip} | {len(found)} | {100 * np.median(sizes):.1f} % "
            f"| {100 * sizes.mean():.1f} % | {100 * found.mean():+.1f} % |"
        )
    return lines


def _not_run(outcomes: Sequence[Outcome]) -> list[str]:
    reasons: dict[str, int] = defaultdict(int)
    for outcome in outcomes:
        if outcome.predicted is None:
            reasons[outcome.why] += 1
    return ["Not scored:", "", *(f"- {number} x {why}" for why, number in reasons.items())]


def rankings(outcomes: Sequence[Outcome]) -> list[str]:
    """Rank correlation over the layouts of one model on one chip."""
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.error is not None:
            run = training_runs.case(outcome.point)
            groups[run.chip, run.model.title].append(outcome)
    lines = [
        "## Does it rank layouts?",
        "",
        "Runs of one model on one chip, by predicted and by published tokens a second and chip;",
        "sources left out. Many runs of one group are the same layout by other submitters, whose",
        "order no model knows.",
        "",
        "| chip | model | runs | layouts | rank correlation |",
        "|---|---|---|---|---|",
    ]
    for (chip, model), members in sorted(groups.items()):
        keys = {_setting(outcome.point) for outcome in members}
        if len(members) < LEAST_RANKED or len(keys) < LEAST_RANKED // 2:
            continue
        speeds = [_speed(outcome) for outcome in members]
        rank = spearman([ours for ours, _ in speeds], [theirs for _, theirs in speeds])
        shown = "-" if rank is None else f"{rank:.2f}"
        lines.append(f"| {chip} | {model} | {len(members)} | {len(keys)} | {shown} |")
    return lines


def _setting(point: Point) -> tuple[str, ...]:
    names = ("n_chips", "tp", "pp", "vp", "cp", "ep", "micro_batch", "global_batch", "seq")
    return tuple(point[name] for name in (*names, "precision", "recompute", "zero"))


def _speed(outcome: Outcome) -> tuple[float, float]:
    """(predicted, published) tokens a second and chip."""
    run = training_runs.case(outcome.point)
    published = run.workload.tokens / run.measured_s / run.system.num_chips
    assert outcome.error is not None
    return published / (1 + outcome.error), published


def scaling(outcomes: Sequence[Outcome]) -> list[str]:
    """MLPerf's Llama 3.1 405B from 512 to 8,192 H100."""
    runs = {}
    for outcome in outcomes:
        if outcome.error is None:
            continue
        run = training_runs.case(outcome.point)
        wanted = run.model.name == "llama_3_1_405b" and run.chip == "H100"
        if wanted and "mlcommons" in run.source and run.system.num_chips in (512, 8192):
            runs[run.system.num_chips] = _speed(outcome)
    if len(runs) < 2:
        return []
    ours, theirs = (runs[8192][i] / runs[512][i] for i in (0, 1))
    return [
        "## Scaling",
        "",
        "MLPerf Training v5.0, Llama 3.1 405B, 512 to 8,192 H100: tokens a second and chip fall to",
        f"{100 * theirs:.1f} % as published and {100 * ours:.1f} % as predicted, "
        f"{100 * (ours / theirs - 1):+.1f} %; the source left out. Asked for: within 8 %.",
    ]


def serving(path: Path) -> list[str]:
    """Errors of serving predictions on the points they were fitted on."""
    verdicts = judge(validate(read_points(path), Checkouts.of([])))
    return [
        "## Serving",
        "",
        "`rainshadow validate --points INFERENCE_POINTS.csv`, with the shipped constants:",
        "",
        *group_rows(verdicts),
        "",
        "The constants of every stack, with the points they were fitted on, are in",
        "`src/rainshadow/data/serving`; `tools/fit_serving.py` writes them.",
    ]


def peers() -> list[str]:
    """The side by side."""
    command = [sys.executable, "benchmarks/planner_peers.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [
        "## Beside other planners",
        "",
        "`python benchmarks/planner_peers.py`: the same runs, one after the other on the same",
        "machine. About half of these runs are among those our constants were fitted on; Calculon",
        "was tuned on the first table. Asked for: at most Calculon's 3.65 % there; better than its",
        "10.4 % on the second, and not all on one side.",
        "",
        "```",
        *(line for line in done.stdout.splitlines() if "WARN" not in line),
        "```",
    ]


def searches() -> list[str]:
    """How fast the search is."""
    command = [sys.executable, "benchmarks/planner_search.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [
        "## How fast the search is",
        "",
        "`python benchmarks/planner_search.py`, each search in a process of its own, one thread,",
        "on two shared cores. Asked for: 2 million strategies a second; GPT-3 175B on 1,024 GPUs,",
        "11.7 million members, in 10 s and 2 GiB; any plan of one model on one system in 5 s. The",
        "first space has every schedule, offload and shard; brute force evaluates all of it and",
        "must give the same answer.",
        "",
        "```",
        *done.stdout.splitlines(),
        "```",
    ]


def shipped(points: Sequence[Point]) -> list[str]:
    """In-sample errors in one line a group."""
    outcomes = validate(points, Checkouts.of([]))
    wanted = [verdict for verdict in judge(outcomes) if verdict.target.rule != "report"]
    return [
        "## The same with the shipped constants, which have seen these runs",
        "",
        "`rainshadow validate --points TRAINING_POINTS.csv`; a table of other runs is judged the",
        "same way, as not seen.",
        "",
        *group_rows(wanted),
    ]


LONG_RUNS = """\
## Failures

`rainshadow longrun MODEL --on SYSTEM --tokens 15T` takes stops as random at a constant rate. The
formula for checkpoints and whole or partial restarts is exact for that (`cluster/goodput.py`;
`tests/laws/test_goodput.py` compares it with a simulation stop by stop). The rates are in
`data/reliability`: no failure rate of Trainium is public, and Meta's of 16,384 H100 stands in.
Restart, repair and pause times are assumptions with ranges, and decide most of the answer's range.
For all of Rainier:

```
{longrun}
```
"""


def longrun() -> str:
    command = [sys.executable, "-m", "rainshadow", "longrun", "llama_3_1_405b"]
    command += ["--on", "rainier_full", "--tokens", "15T"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return LONG_RUNS.format(longrun=done.stdout.rstrip())


OPEN_ROWS = """\
## What published rows leave open

What a row does not state is left to the planner: it takes the fastest layout that fits, as the
submitters did. Beyond that, these are assumed (`validation/training_cases.py`), some with the open
runs in view; they count neither as constants nor as parameters:

- MLPerf logs name no precision in v5.1: NVFP4 for Llama 3.1 on Blackwell, fp8 elsewhere.
- MLPerf runs shard the optimizer alone (ZeRO-1), not weights, unless their layout is given and does
  not fit otherwise. LoRA on H100 has tensor parallelism 4, as every configuration that they name;
  in v4.0 nothing hides LoRA's tensor-parallel collectives.
- MaxText recomputes whole layers, its default, unless the run says otherwise; the recipes for GPT-3
  on TPU v5p (int8, by its README) and for `fp8` on v6e multiply in 8 bits.
- Sequence and batch of MaxText's runs are those of its configuration files.
- Megatron-Bridge's vintage is its container's; runs in tables of Megatron-Bridge and MLPerf that
  leave out interleaving have 1, 2 or 4 virtual stages, or 8 where the pipeline is left out too.
- Experts are balanced, as Megatron-Bridge's tables force them to be.
"""


def main() -> None:
    training = read_points(Path(sys.argv[1]))
    open_runs = scored(training)
    outcomes = validate_left_out(training)
    parts = [
        [HEAD],
        left_out(outcomes),
        unseen_chips(open_runs),
        shipped(open_runs),
        [OPEN_ROWS],
        rankings(outcomes),
        scaling(outcomes),
        peers(),
        searches(),
        serving(Path(sys.argv[2])),
        [longrun()],
        constants(open_runs),
        assumed(),
    ]
    text = "\n\n".join("\n".join(part).strip() for part in parts if part)
    (ROOT / "docs/planner.md").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
