"""How fast layouts are searched: exactly, with the proof, and by pruning alone.

Aims: at least 2 million strategies a second when every member of the space is evaluated; GPT-3
175B on 1,024 GPUs, 11.7 million members or more, in under 10 s and 2 GiB; any plan of one model on
one system in under 5 s. Run: python benchmarks/planner_search.py

Brute force evaluates every member, so its answer must be the pruned search's. The peak of memory
is the process', so each case has a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

from rainshadow.cluster.layout import Workload
from rainshadow.cluster.model_files import load_model
from rainshadow.cluster.planner.search import search
from rainshadow.cluster.planner.space import MAINSTREAM, Choices, Space
from rainshadow.cluster.sizing import sized
from rainshadow.machine import load_system

SPACES = {"complete": Choices(), "mainstream": MAINSTREAM}
#: model, system, chips, sequence, batch, space: the case of the aim, then large and odd ones.
CASES = (
    ("gpt3_175b", "dgx_a100", 1024, 2048, 3072, "complete"),
    ("gpt3_175b", "dgx_a100", 1024, 2048, 3072, "mainstream"),
    ("llama_3_1_405b", "rainier", 16384, 8192, 2048, "mainstream"),
    ("llama_3_1_405b", "tpu_v5p_pod", 6144, 8192, 2048, "mainstream"),
    ("llama_3_1_70b", "trn2_ultraserver", 64, 8192, 1024, "complete"),
    ("deepseek_v3", "gb200_nvl72", 2304, 4096, 15360, "mainstream"),
    ("qwen3_235b_a22b", "p5_48xlarge", 1024, 4096, 3072, "mainstream"),
)


def measure(number: int, prune: bool) -> dict[str, float]:
    """One search in this process: seconds, members, members evaluated, MiB, the best step."""
    model, system, chips, sequence, batch, kind = CASES[number]
    job = Workload(sequence=sequence, global_batch=batch)
    before = time.perf_counter()
    space = Space(load_model(model), sized(load_system(system), chips), job, SPACES[kind])
    result = search(space, prune=prune)
    seconds = time.perf_counter() - before
    return {
        "seconds": seconds,
        "members": result.proof.members,
        "evaluated": result.proof.evaluated,
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "best_s": result.best.step_s if result.best else float("inf"),
        "next_bound_s": result.proof.next_bound_s,
    }


def in_a_process(number: int, prune: bool) -> dict[str, float]:
    command = [sys.executable, __file__, "--case", str(number), *([] if prune else ["--all"])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def show(name: str, found: dict[str, float]) -> None:
    print(
        f"  {name:12} {found['seconds']:6.2f} s  {found['mib']:6,.0f} MiB  "
        f"{found['evaluated']:>12,} of {found['members']:,} evaluated one by one  "
        f"{found['members'] / found['seconds'] / 1e6:,.1f} M members/s  "
        f"best step {found['best_s']:.4g} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", type=int)
    parser.add_argument("--all", action="store_true", help="evaluate every member")
    parser.add_argument("--brute", type=int, default=1, help="cases that are also searched whole")
    options = parser.parse_args()
    if options.case is not None:
        print(json.dumps(measure(options.case, prune=not options.all)))
        return
    for number, (model, system, chips, sequence, batch, kind) in enumerate(CASES):
        print(f"{model} on {chips:,} of {system}, {batch:,} x {sequence:,}, {kind} space")
        pruned = in_a_process(number, prune=True)
        show("pruned", pruned)
        if number < options.brute:
            whole = in_a_process(number, prune=False)
            show("brute force", whole)
            if whole["best_s"] != pruned["best_s"]:
                sys.exit("the pruned search and brute force disagree")


if __name__ == "__main__":
    main()
