"""Lists what could not be planned: a line a reason, however many cases share it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_LISTED = 3


def rejection_lines(rejected: Sequence[Mapping[str, Any]]) -> list[str]:
    """rejected: what, why and fix of each case, as summaries have them."""
    cases: dict[tuple[str, str | None], list[str]] = {}
    for entry in rejected:
        cases.setdefault((entry["why"], entry["fix"]), []).append(entry["what"])
    lines = []
    for (why, fix), names in cases.items():
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        mend = f"; to mend it: {fix}" if fix else ""
        lines.append(f"  nothing for {', '.join(names[:_LISTED])}{more}: {why}{mend}")
    return lines
