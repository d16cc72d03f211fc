"""Compute published figures again and print how far Rainshadow is from each.

--points names tables of figures (CSV: id, metric, value, unit, source, and what was measured);
--checkout the public repositories whose kernels they are about. Points that can't be computed say
why. Exit code 3 where a group misses its target.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer


def command(
    points: Annotated[list[Path], typer.Option(help="A CSV table of published figures.")],
    checkout: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PATH of a repository [RAINSHADOW_CHECKOUT_NAME]."),
    ] = None,
    only: Annotated[
        str, typer.Option(help="Only points whose id contains one of these, with commas.")
    ] = "",
    traces: Annotated[
        Path | None, typer.Option(help="Keep recordings here, and time those kept again.")
    ] = None,
    leave_out: Annotated[
        bool,
        typer.Option(help="Training runs by constants fitted without their source; minutes."),
    ] = False,
    markdown: Annotated[bool, typer.Option(help="Print a document.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Read, run, judge, print."""
    from rainshadow import __version__
    from rainshadow.errors import CheckFailed
    from rainshadow.report.validation import as_dictionary, as_markdown, as_text
    from rainshadow.validation.checkouts import Checkouts
    from rainshadow.validation.judge import beating_bounds, judge, judge_pools
    from rainshadow.validation.leave_out import validate_left_out
    from rainshadow.validation.points import read_points
    from rainshadow.validation.validate import validate

    wanted = [part for part in only.split(",") if part]
    chosen = [
        point
        for path in points
        for point in read_points(path)
        if not wanted or any(part in point.id for part in wanted)
    ]
    if traces is not None:
        traces.mkdir(parents=True, exist_ok=True)
    if leave_out:
        outcomes = validate_left_out(chosen)
    else:
        outcomes = validate(chosen, Checkouts.of(checkout or []), traces=traces, tell=_tell)
    verdicts, pools = judge(outcomes), judge_pools(outcomes)
    if as_json:
        print(json.dumps(as_dictionary(outcomes, verdicts, pools), indent=2))
    elif markdown:
        made = f"version {__version__}, on {datetime.now(UTC):%Y-%m-%d}"
        print(as_markdown(outcomes, verdicts, pools, made=made))
    else:
        print("\n".join(as_text(outcomes, verdicts, pools)))
    missed = [verdict.target.group for verdict in verdicts if verdict.holds is False]
    missed += [verdict.pool.name for verdict in pools if not verdict.holds]
    if beating_bounds(outcomes):
        missed.append("runs faster than their work at peak rates")
    if missed:
        raise CheckFailed(f"{len(missed)} groups miss their target: {', '.join(missed)}")


def _tell(done: int, total: int, what: str) -> None:
    print(f"rainshadow: {done + 1}/{total} {what}", file=sys.stderr)
