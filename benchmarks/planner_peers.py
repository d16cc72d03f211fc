"""Side by side with two open planners on the same published runs: errors, and strategies a second.

    python benchmarks/planner_peers.py

RAINSHADOW_CHECKOUT_CALCULON and RAINSHADOW_CHECKOUT_LLM_ANALYSIS name checkouts of them
(calculon-ai/calculon, cli99/llm-analysis; they need psutil and fire); what is not set is left out.
The runs: the eight of Korthikanti et al. 2022, table 5, which Calculon validates itself on, and
eight of Narayanan et al. 2021 (SC21), tables 1 and 2, whose seconds are their FLOP formula over
their published rates. llm-analysis asks for the efficiency that it then predicts with: it is given
0.6, and then the one that suits each table best in hindsight.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rainshadow.cluster.layout import Workload, layout_of
from rainshadow.cluster.model_files import load_model
from rainshadow.cluster.planner.search import fastest_member
from rainshadow.cluster.planner.space import Space
from rainshadow.cluster.predict import machine_of, predict_training
from rainshadow.cluster.sizing import sized
from rainshadow.cluster.software import load_software
from rainshadow.machine import load_system

SEQUENCE, VOCAB = 2048, 51200
#: Ours -> Calculon's.
MODELS = {
    "gpt_22b": "megatron-22B",
    "gpt3_175b": "gpt3-175B",
    "gpt_529_6b": "turing-530B",
    "gpt_1t": "megatron-1T",
}
EFFICIENCIES = (0.6, *np.linspace(0.3, 0.9, 25))


@dataclass(frozen=True)
class Run:
    """A published run; tensor parallelism is 8 everywhere."""

    model: str
    chips: int
    pipeline: int
    virtual: int
    micro_batch: int
    batch: int
    recompute: str
    seconds: float
    software: str

    @property
    def data(self) -> int:
        return self.chips // 8 // self.pipeline

    @property
    def name(self) -> str:
        return f"{self.model} x {self.chips} {self.recompute}"


def korthikanti() -> list[Run]:
    """Table 5: (model, chips, pipeline, virtual, micro-batch, seconds full, seconds selective)."""
    table = [
        ("gpt_22b", 8, 1, 1, 4, 1.42, 1.10),
        ("gpt3_175b", 64, 8, 3, 1, 18.13, 13.75),
        ("gpt_529_6b", 280, 35, 3, 1, 49.05, 37.83),
        ("gpt_1t", 512, 64, 1, 1, 94.42, 71.49),
    ]
    return [
        Run(
            model,
            chips,
            pipe,
            virtual,
            size,
            chips if chips > 8 else 4,
            mode,
            seconds,
            "megatron_2022",
        )
        for model, chips, pipe, virtual, size, *both in table
        for mode, seconds in zip(("full", "selective"), both, strict=True)
    ]


def sc21() -> list[Run]:
    """Tables 1 and 2: (model, chips, pipeline, batch, TFLOP/s a chip with recomputation)."""
    table = [
        ("gpt3_175b", 384, 12, 1536, 153),
        ("gpt3_175b", 768, 12, 1536, 149),
        ("gpt3_175b", 1536, 12, 1536, 141),
        ("gpt_529_6b", 560, 35, 2240, 171),
        ("gpt_529_6b", 1120, 35, 2240, 167),
        ("gpt_529_6b", 2240, 35, 2240, 159),
        ("gpt_529_6b", 2520, 35, 2520, 163),
        ("gpt_1t", 3072, 64, 3072, 163),
    ]
    runs = []
    for name, chips, pipe, batch, rate in table:
        model = load_model(name)
        layers, hidden = model.layers, model.hidden
        flops = 96 * batch * SEQUENCE * layers * hidden**2
        flops *= 1 + SEQUENCE / (6 * hidden) + VOCAB / (16 * layers * hidden)
        seconds = flops / (rate * 1e12 * chips)
        runs.append(Run(name, chips, pipe, 1, 1, batch, "full", seconds, "megatron_2021"))
    return runs


def ours(run: Run) -> float:
    layout = layout_of(
        tensor_parallel=8,
        pipeline_parallel=run.pipeline,
        virtual_stages=run.virtual,
        data_parallel=run.data,
        micro_batch=run.micro_batch,
        recompute=run.recompute,
        sequence_parallel=run.recompute != "full",
        zero=0,
        overlap_tensor=False,
        overlap_data=False,
        overlap_pipeline=False,
    )
    system = sized(load_system("dgx_a100"), run.chips)
    work = Workload(sequence=SEQUENCE, global_batch=run.batch)
    answer = predict_training(
        load_model(run.model), system, layout, work, load_software(run.software)
    )
    return float(answer.step_s)


def calculon_of(checkout: Path) -> tuple[Callable[[Run], float], Callable[[], float]]:
    """(its seconds of a run, its strategies a second)."""
    sys.path.insert(0, str(checkout))
    import calculon
    from calculon.llm import Llm, System

    logger = logging.getLogger("calculon")

    def read(path: Path) -> Any:
        return calculon.io.read_json_file(str(path))

    system = System(read(checkout / "systems/a100_80g.json"))

    def seconds(run: Run) -> float:
        mode = "full" if run.recompute == "full" else "seqsel"
        name = MODELS[run.model]
        choices = read(checkout / f"validation/seqsel/tab5/{name}_{mode}.json")
        choices |= {
            "num_procs": run.chips,
            "pipeline_par": run.pipeline,
            "data_par": run.data,
            "batch_size": run.batch,
            "microbatch_size": run.micro_batch,
            "pipeline_interleaving": run.virtual,
        }
        model = Llm(Llm.Application(read(checkout / f"models/{name}.json")), logger)
        model.compile(system, Llm.Execution.from_json(choices))
        model.run(system)
        return float(model.get_stats_json(False)["total_time"])

    def rate() -> float:
        runs = korthikanti() * 8
        start = time.process_time()
        for run in runs:
            seconds(run)
        return len(runs) / (time.process_time() - start)

    return seconds, rate


def llm_analysis_of(checkout: Path) -> tuple[Callable[[Run, float], float], Callable[[], float]]:
    """(its seconds of a run at an efficiency, its strategies a second)."""
    sys.path.insert(0, str(checkout))
    from llm_analysis.analysis import train

    folder = Path(tempfile.mkdtemp())

    def seconds(run: Run, efficiency: float) -> float:
        model = load_model(run.model)
        path = folder / f"{run.model}.json"
        path.write_text(
            json.dumps(
                {
                    "name": run.model,
                    "max_seq_len": SEQUENCE,
                    "num_layers": model.layers,
                    "n_head": model.heads,
                    "hidden_dim": model.hidden,
                    "vocab_size": VOCAB,
                    "ffn_embed_dim": model.ffn,
                }
            )
        )
        answer = train(
            model_name=str(path),
            gpu_name="a100-sxm-80gb",
            batch_size_per_gpu=run.micro_batch,
            global_batch_size=run.batch,
            seq_len=SEQUENCE,
            total_num_tokens=1e9,
            activation_recomputation=4 if run.recompute == "full" else 1,
            tp_size=8,
            pp_size=run.pipeline,
            dp_size=1,  # not sharded: Megatron replicates
            total_num_gpus=run.chips,
            flops_efficiency=efficiency,
            flash_attn=False,
            log_level="CRITICAL",
        )
        return float(answer["latency_per_iter"])

    def rate() -> float:
        runs = korthikanti() * 20
        start = time.process_time()
        for run in runs:
            seconds(run, 0.6)
        return len(runs) / (time.process_time() - start)

    return seconds, rate


def our_rate() -> tuple[float, int]:
    """(strategies a CPU-second, how many) over a part of GPT-3 175B's space on 1,024 A100."""
    model = load_model("gpt3_175b")
    system = sized(load_system("dgx_a100"), 1024)
    space = Space(model, system, Workload(sequence=SEQUENCE, global_batch=2048))
    machine = machine_of(system, load_software("megatron_2021"))
    families = space.families[::8]
    start = time.process_time()
    for family in families:
        fastest_member(space, machine, family)
    count = sum(space.size(family) for family in families)
    return count / (time.process_time() - start), count


def errors(runs: Sequence[Run], predict: Callable[[Run], float]) -> list[float]:
    return [predict(run) / run.seconds - 1 for run in runs]


def show(name: str, found: Sequence[float]) -> None:
    sizes = np.abs(found)
    each = " ".join(f"{100 * error:+.1f}" for error in found)
    print(
        f"  {name:<34} mean {100 * sizes.mean():5.2f} %  worst {100 * sizes.max():5.2f} %  [{each}]"
    )


def checkout(name: str) -> Path | None:
    """The folder of another planner, if the environment names one."""
    folder = os.environ.get(f"RAINSHADOW_CHECKOUT_{name}")
    if not folder:
        print(f"NOT MEASURED: set RAINSHADOW_CHECKOUT_{name} to a checkout")
    return Path(folder).resolve() if folder else None


def main() -> None:
    folders = [checkout(name) for name in ("CALCULON", "LLM_ANALYSIS")]
    calculon = calculon_of(folders[0]) if folders[0] else None
    analysis = llm_analysis_of(folders[1]) if folders[1] else None
    for title, runs in (("Korthikanti table 5", korthikanti()), ("SC21 tables", sc21())):
        print(f"{title}: {', '.join(run.name for run in runs)}")
        show("Rainshadow", errors(runs, ours))
        if calculon:
            show("Calculon", errors(runs, calculon[0]))
        if analysis:
            tries = {e: errors(runs, partial(analysis[0], efficiency=e)) for e in EFFICIENCIES}
            show("llm-analysis, told 0.6", tries[0.6])
            best = min(tries, key=lambda e: float(np.abs(tries[e]).mean()))
            show(f"llm-analysis, told {best:.3f} in hindsight", tries[best])
    mine, count = our_rate()
    rates = [f"Rainshadow {mine:,.0f} (of {count:,} evaluated)"]
    rates += [f"Calculon {calculon[1]():,.0f}"] if calculon else []
    rates += [f"llm-analysis {analysis[1]():,.0f}"] if analysis else []
    print(f"strategies a CPU-second: {', '.join(rates)}")


if __name__ == "__main__":
    main()
