"""Tables of published figures."""

from __future__ import annotations

import pytest

from rainshadow.errors import InputError
from rainshadow.validation.points import read_points


def table(tmp_path, *rows: str):
    path = tmp_path / "points.csv"
    path.write_text("\n".join(["id,shapes,metric,value,unit,source", *rows]), encoding="utf-8")
    return path


def test_values_are_in_si(tmp_path):
    points = read_points(
        table(
            tmp_path,
            "a,bs=2 d=64,latency,1.5,ms,s",
            "b,,share,12.5,%,s",
            "c,,rate,23,B/ns,s",
            "d,,speed,10,tokens/s/GPU,s",
        )
    )
    assert [(p.value, p.dimension) for p in points] == [
        (1.5e-3, "s"),
        (0.125, "count"),
        (23e9, "B/s"),
        (10, "tokens/s/GPU"),
    ]
    assert points[0].options == {"bs": "2", "d": "64"}
    assert points[0]["dtype"] == ""


def test_a_range_has_no_value(tmp_path):
    assert read_points(table(tmp_path, "a,,hop,1-2,us,s"))[0].value is None


def test_a_table_without_its_columns_is_refused(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("id,value\na,1\n", encoding="utf-8")
    with pytest.raises(InputError, match="no column metric, unit, source"):
        read_points(path)
    with pytest.raises(InputError, match="cannot read"):
        read_points(tmp_path / "missing.csv")
