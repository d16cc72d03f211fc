"""Put saved plans side by side: days, money, energy, where the step goes, what memory holds.

Each PLAN is the folder that `rainshadow plan` wrote, or its summary.json; `:2` names its second
plan.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from rainshadow.cli_options import Json


def command(
    plans: Annotated[list[str], typer.Argument(help="Two or more FOLDER[:NUMBER].")],
    as_json: Json = False,
) -> None:
    """Load and print."""
    from rainshadow.cost.plan_summary import saved_plan
    from rainshadow.errors import InputError
    from rainshadow.report.plans import compare_text

    if len(plans) < 2:
        raise InputError("one plan to compare", allowed="two or more")
    found = [saved_plan(word) for word in plans]
    print(json.dumps(found, indent=2) if as_json else "\n".join(compare_text(found)))
