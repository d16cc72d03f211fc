"""Print the instructions a kernel executes: engines, operands, addresses, patterns, source lines.

FILE.py:function calls one kernel with arguments made from --arg, FILE.py runs as a script,
TRACE.npz is what `rainshadow profile` has written. An operand reads name=tensor:memory[p first:end
b first:end RUNB xCOUNT@STRIDE] dtype[partitions x elements]: partitions, byte addresses, and where
the bytes have gaps the run and how it repeats; ~ stands before what an index decides at run time.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rainshadow.cli_options import Data, KernelArguments, KernelChip, ScriptArguments, Seed

if TYPE_CHECKING:
    from rainshadow.sim.trace import Trace


def command(
    kernel: Annotated[str, typer.Argument(help="FILE.py:function, FILE.py or TRACE.npz.")],
    arguments: ScriptArguments = None,
    arg: KernelArguments = None,
    chip: KernelChip = None,
    data: Data = "full",
    seed: Seed = 0,
    engine: Annotated[str | None, typer.Option(help="Only this engine's.")] = None,
    opcode: Annotated[str | None, typer.Option(help="Only this instruction.")] = None,
    line: Annotated[int | None, typer.Option(help="Only this line's of the source.")] = None,
    function: Annotated[str | None, typer.Option(help="Only what this function issued.")] = None,
    rows: Annotated[str | None, typer.Option(help="FIRST:END, rows of the trace.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Run or load, select, print."""
    from rainshadow.report.disasm import disassemble, select

    first, last = _rows(rows)
    _check_names(engine, opcode)
    for number, trace in enumerate(_traces(kernel, arg or [], arguments or [], chip, data, seed)):
        chosen = select(
            trace, engine=engine, opcode=opcode, line=line, function=function,
            first=first, last=last,
        )  # fmt: skip
        if not as_json:
            print(f"; {trace.kernel} on {trace.chip}, {trace.num_rows} instructions", end="")
            print(f", {len(chosen)} shown" if len(chosen) < trace.num_rows else "")
        for item in disassemble(trace, chosen):
            print(json.dumps({"trace": number, **item.to_json()}) if as_json else item)


def _traces(
    kernel: str, arg: list[str], arguments: list[str], chip: str | None, data: str, seed: int
) -> list[Trace]:
    from rainshadow.nki.program import LaunchOptions, launch, named_chip
    from rainshadow.sim.trace import Trace

    if kernel.endswith(".npz"):
        return [Trace.load(Path(kernel))]
    options = LaunchOptions(data=data, seed=seed)
    runs = launch(kernel, arg, arguments, named_chip(chip), options)
    return [trace for run in runs for trace in (run.trace, *run.other_traces)]


def _rows(text: str | None) -> tuple[int, int | None]:
    from rainshadow.errors import InputError

    if text is None:
        return 0, None
    first, colon, end = text.partition(":")
    if not colon or not all(part.isdecimal() or not part for part in (first, end)):
        raise InputError(f"--rows {text}", allowed="FIRST:END, for example 100:200, 100: or :50")
    return int(first or 0), int(end) if end else None


def _check_names(engine: str | None, opcode: str | None) -> None:
    from rainshadow.errors import UnknownNameError
    from rainshadow.isa.engine import TRACKED_ENGINES
    from rainshadow.isa.instruction import load_instructions

    engines = [item.name for item in TRACKED_ENGINES]
    if engine is not None and engine not in engines:
        raise UnknownNameError("engine", engine, engines)
    if opcode is not None and opcode not in load_instructions():
        raise UnknownNameError("instruction", opcode, load_instructions())
