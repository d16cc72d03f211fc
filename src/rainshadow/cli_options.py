"""The arguments and options that several commands share: one meaning and one help text for each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CudaScript = Annotated[Path, typer.Argument(help="A Python script written for CUDA.")]
ScriptArguments = Annotated[
    list[str] | None, typer.Argument(help="The script's arguments, after --.")
]
KernelArguments = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=VALUE of the function: 128x512:bfloat16 (random), @FILE.npy, or a literal."
    ),
]
ChipName = Annotated[str, typer.Option(help="The chip: see `rainshadow machines`.")]
KernelChip = Annotated[
    str | None,
    typer.Option(
        help="The chip, or trn1, trn2, trn3, gen2, gen3, gen4. Default: what "
        "NEURON_PLATFORM_TARGET_OVERRIDE names, else trainium2."
    ),
]
Cores = Annotated[int | None, typer.Option(help="Cores that the function runs on.")]
Data = Annotated[str, typer.Option(help="full, or none: shapes only, much faster.")]
Spill = Annotated[
    str,
    typer.Option(
        envvar="RAINSHADOW_SPILL",
        help="Tiles that do not fit: reject, or model a compiler that moves some away and back.",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of the random arguments.")]
OptimizerSteps = Annotated[int | None, typer.Option(help="End after so many optimizer steps.")]
NoHost = Annotated[bool, typer.Option("--no-host", help="Refuse operators without a kernel.")]
Systems = Annotated[str, typer.Option(help="Systems or chips, with commas.")]
Region = Annotated[str | None, typer.Option(help="Only prices of this region.")]
Prices = Annotated[
    list[str] | None,
    typer.Option(help="NAME=USD/h: a chip (per chip-hour) or an instance (its hour); may repeat."),
]
SiteName = Annotated[str, typer.Option(help="Where the machines stand.")]
Top = Annotated[int, typer.Option(help="Plans to list.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SummaryJson = Annotated[bool, typer.Option("--json", help="Print summary.json.")]


def default_folder(command: str, model: str) -> Path:
    """Where a command writes what it found of a model: a name, or a path to its description.

    A config.json is named by its folder, as the model hubs lay them out.
    """
    path = Path(model)
    if path.suffix not in (".json", ".toml"):
        name = path.name.replace(".py:", ".")  # "FILE.py:FUNCTION"
    elif path.stem == "config" and path.parent.name:
        name = path.parent.name
    else:
        name = path.stem
    return Path("rainshadow-out") / f"{command}-{name or 'none'}"
