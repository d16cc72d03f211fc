"""How long a token budget takes on chips that fail: checkpoints, restarts, spares, goodput.

MODEL is a name, a TOML or a config.json; --on a system, with --chips of it. The layout is the
fastest that fits. Three ways to go on after a stop are compared: the whole job restarts from
storage; a spare takes the failed place and its state from a peer's memory; the other replicas go
on meanwhile.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from rainshadow.cli_options import Json


def command(
    model: Annotated[str, typer.Argument(help="A model: name, TOML or config.json.")],
    on: Annotated[str, typer.Option(help="A system.")],
    tokens: Annotated[str, typer.Option(help="The budget, as 15T or 300B.")],
    chips: Annotated[int, typer.Option(help="Chips in use; 0 for all of the system.")] = 0,
    sequence: Annotated[int, typer.Option(help="Tokens of a sequence.")] = 8192,
    global_batch: Annotated[int, typer.Option(help="Sequences a step; 0 to choose one.")] = 0,
    precision: Annotated[str, typer.Option(help="bfloat16, float8, mxfp8, nvfp4.")] = "bfloat16",
    spares: Annotated[int, typer.Option(help="Chips held ready; -1 for what 99 % need.")] = -1,
    reliability: Annotated[str, typer.Option(help="A name or a TOML.")] = "llama3_h100",
    as_json: Json = False,
) -> None:
    """Search a layout, then answer."""
    from rainshadow.cluster.job import job_of
    from rainshadow.cluster.long_run import long_runs
    from rainshadow.cluster.model_files import load_model
    from rainshadow.cluster.planner.targets import quantity, system_for
    from rainshadow.cluster.reliability import load_reliability
    from rainshadow.cluster.sizing import sized
    from rainshadow.report.long_run import as_dictionary, as_text

    system = system_for(on)
    part = sized(system, chips) if chips else system
    found = job_of(
        load_model(model),
        part,
        quantity(tokens, "--tokens"),
        sequence=sequence,
        global_batch=global_batch,
        precision=precision,
        progress=_tell,
    )
    runs, ledger = long_runs(
        found.job, load_reliability(reliability), spares=None if spares < 0 else spares
    )
    if as_json:
        print(json.dumps(as_dictionary(found, runs, ledger), indent=2))
    else:
        print("\n".join(as_text(found, runs, ledger)))


def _tell(done: int, total: int, best_s: float) -> None:
    if sys.stderr.isatty():
        print(
            f"\rrainshadow: {done}/{total} families, best {best_s:.3f} s", end="", file=sys.stderr
        )
