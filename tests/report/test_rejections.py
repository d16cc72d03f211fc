"""What could not be planned, in few lines."""

from __future__ import annotations

from rainshadow.report.rejections import rejection_lines


def test_cases_with_one_reason_share_a_line():
    sizes = [{"what": f"m on {n}", "why": "interrupted", "fix": None} for n in range(5)]
    full = {"what": "m on 1", "why": "too much", "fix": "take more chips"}
    assert rejection_lines([*sizes, full]) == [
        "  nothing for m on 0, m on 1, m on 2 and 2 more: interrupted",
        "  nothing for m on 1: too much; to mend it: take more chips",
    ]
