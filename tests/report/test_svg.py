"""Charts are well-formed, and user text in them is escaped."""

from __future__ import annotations

from xml.etree import ElementTree

from rainshadow.report.svg import bar_chart, line_chart, strip

AWKWARD = '<b>"&'


def test_charts_are_well_formed_xml():
    charts = [
        line_chart({AWKWARD: [3.0, 2.0, 1.0], "b": [3.0]}, "step", "loss"),
        line_chart({"flat": [1.0]}, "step", "loss"),
        bar_chart({AWKWARD: 1.0, "none": 0.0}, {AWKWARD: AWKWARD, "none": "0"}),
        strip([(AWKWARD, "forward", 1e-3), ("b", "backward", 0.0)]),
        strip([]),
    ]
    for chart in charts:
        ElementTree.fromstring(chart)


def test_nothing_to_draw_is_no_line_chart():
    assert line_chart({"a": []}, "step", "loss") == ""


def test_bars_are_as_long_as_their_values():
    root = ElementTree.fromstring(bar_chart({"a": 2.0, "b": 1.0}, {"a": "2", "b": "1"}))
    widths = [float(rect.get("width", 0)) for rect in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths[0] == 2 * widths[1]
