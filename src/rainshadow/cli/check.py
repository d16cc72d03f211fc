"""Check a kernel for what a chip or AWS's compiler would refuse, without running it.

FILE.py checks every function with @nki.jit, FILE.py:function that one. --strict names Python
outside NKI's meta-programming subset. Exit code 3 where an error is found; warnings are what AWS's
documents do not say works.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

_FORMATS = ("text", "json")


def command(
    kernel: Annotated[str, typer.Argument(help="FILE.py, or FILE.py:function.")],
    strict: Annotated[
        bool, typer.Option("--strict", help="Name Python that AWS's compiler would refuse.")
    ] = False,
    output: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Check, print, and fail where there is an error."""
    from rainshadow.errors import CheckFailed, InputError
    from rainshadow.findings import has_errors, in_order
    from rainshadow.nki.program import split_target
    from rainshadow.nki.subset import check_subset

    form = "json" if as_json else output
    if form not in _FORMATS:
        raise InputError(f"--format {output}", allowed=" or ".join(_FORMATS))
    if not strict:
        raise InputError(f"nothing to check in {kernel}", allowed="--strict")
    path, name = split_target(kernel)
    findings = in_order(check_subset(path, name))
    if form == "json":
        print(json.dumps({"findings": [finding.to_json() for finding in findings]}, indent=2))
    else:
        for finding in findings:
            print(finding)
    errors = sum(finding.severity == "error" for finding in findings)
    print(
        f"rainshadow: {errors} errors, {len(findings) - errors} warnings in {kernel}",
        file=sys.stderr,
    )
    if has_errors(findings):
        raise CheckFailed(f"{kernel}: {errors} errors", fix="see the findings above")
