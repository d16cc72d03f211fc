"""Check a kernel for what a chip or AWS's compiler would refuse, or do differently.

FILE.py:function is called with arguments made from --arg, FILE.py runs as a script, words after --
being its own. Named are hardware rules that it breaks, memory read before it is written or after
another tensor took it, and races between cores. --strict reads the source instead: every @nki.jit
function of FILE.py, or the one named, for Python outside NKI's subset; with --arg it does both.
Exit code 3 where an error is found; warnings are what AWS's documents do not say works.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from rainshadow.cli_options import (
    Cores,
    Data,
    KernelArguments,
    KernelChip,
    ScriptArguments,
    Seed,
    Spill,
)


def command(
    kernel: Annotated[str, typer.Argument(help="FILE.py:function, or FILE.py.")],
    arguments: ScriptArguments = None,
    arg: KernelArguments = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Name Python that AWS's compiler would refuse.")
    ] = False,
    chip: KernelChip = None,
    lnc: Cores = None,
    data: Data = "full",
    seed: Seed = 0,
    spill: Spill = "reject",
    output: Annotated[str, typer.Option("--format", help="text, json, sarif or github.")] = "text",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Check, print, and fail where there is an error."""
    from rainshadow.errors import CheckFailed, InputError
    from rainshadow.findings import has_errors, in_order
    from rainshadow.nki.check import check_launches
    from rainshadow.nki.program import LaunchOptions, launch, named_chip, split_target
    from rainshadow.nki.subset import check_subset
    from rainshadow.report.findings import FORMATS

    form = "json" if as_json else output
    if form not in FORMATS:
        raise InputError(f"--format {output}", allowed=" or ".join(FORMATS))
    path, name = split_target(kernel)
    found = check_subset(path, name) if strict else []
    where = ""
    if arg or not strict:
        machine = named_chip(chip)
        options = LaunchOptions(data=data, seed=seed, spill=spill, lnc=lnc)
        given, words = arg or [], arguments or []
        found += check_launches(
            lambda: launch(kernel, given, words, machine, options), machine, path
        )
        where = f" on {machine.name}"
    findings = in_order(found)
    text = FORMATS[form](findings)
    if text:
        print(text)
    errors = sum(finding.severity == "error" for finding in findings)
    summary = f"{_count(errors, 'error')}, {_count(len(findings) - errors, 'warning')}"
    print(f"rainshadow: {summary} in {kernel}{where}", file=sys.stderr)
    if has_errors(findings):
        raise CheckFailed(f"{kernel}: {_count(errors, 'error')}", fix="see the findings above")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
