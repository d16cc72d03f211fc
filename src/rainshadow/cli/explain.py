"""Say why a plan takes the time it takes: where it goes, and which figures and sources decide.

PLAN is the folder that `rainshadow plan` wrote, or its summary.json; `:2` names its second plan.
Every figure is made a tenth better, alone, and the plan predicted again.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from rainshadow.cli_options import Json


def command(
    plan: Annotated[str, typer.Argument(help="FOLDER[:NUMBER] of `rainshadow plan`.")],
    top: Annotated[int, typer.Option(help="Figures to list.")] = 10,
    as_json: Json = False,
) -> None:
    """Load, predict again with every figure changed, print."""
    from rainshadow.cluster.model_files import load_model
    from rainshadow.cluster.planner.sweep import sized_system
    from rainshadow.cluster.software import load_software
    from rainshadow.cost.explain import step_influences
    from rainshadow.cost.plan_summary import layout_of_saved, saved_plan
    from rainshadow.machine import load_system
    from rainshadow.report.plans import explain_text

    found = saved_plan(plan)
    layout, workload = layout_of_saved(found)
    influences = step_influences(
        load_model(found["model"]),
        sized_system(load_system(found["system"]), found["chips"]),
        layout,
        workload,
        load_software(found["software"]) if found["software"] else None,
    )
    decisive: list[dict[str, Any]] = [
        {
            "what": entry.row.what,
            "value": entry.row.figure.text,
            "grade": entry.row.figure.grade,
            "source": entry.row.figure.source,
            "gain_fraction": entry.gain,
            "step_low_s": entry.low,
            "step_high_s": entry.high,
        }
        for entry in influences[:top]
    ]
    if as_json:
        print(json.dumps({"plan": found, "decisive": decisive}, indent=2))
    else:
        print("\n".join(explain_text(found, decisive)))
