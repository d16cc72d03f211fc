"""Findings as text, JSON, SARIF and annotations: the same places in each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rainshadow.findings import Finding, Place
from rainshadow.report.findings import as_github, as_json, as_sarif, as_text

FINDING = Finding(
    "overwritten",
    "100% of left, over",
    "move it",
    str(Path.cwd() / "kernels" / "mine.py"),
    12,
    "error",
    "nisa.tensor_copy(dst=a, src=b)",
    (Place("written over", "/elsewhere/library.py", 3, "nisa.memset(dst=b, value=0)"),),
)


def test_text_names_both_places():
    text = as_text([FINDING])
    assert "mine.py:12: nisa.tensor_copy" in text
    assert "written over at /elsewhere/library.py:3: nisa.memset" in text
    assert as_text([]) == ""


def test_json_has_every_field():
    (entry,) = json.loads(as_json([FINDING]))["findings"]
    assert entry["others"] == [
        {
            "what": "written over",
            "file": "/elsewhere/library.py",
            "line": 3,
            "text": "nisa.memset(dst=b, value=0)",
        }
    ]


def test_sarif_has_what_code_scanning_needs():
    log = json.loads(as_sarif([FINDING]))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    (result,) = run["results"]
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "kernels/mine.py"
    assert place["region"]["startLine"] == 12
    (related,) = result["relatedLocations"]
    assert related["message"]["text"] == "written over"
    assert related["physicalLocation"]["artifactLocation"]["uri"] == "file:///elsewhere/library.py"


def test_an_annotation_is_one_line_beside_its_line():
    (line,) = as_github([FINDING]).split("\n")
    assert line.startswith("::error file=kernels/mine.py,line=12,title=overwritten::100%25 of left")
    assert "%0Awritten over at" in line


@pytest.mark.conformance("RAINSHADOW_CHECKOUT_SARIF_SPEC")
def test_sarif_is_valid_by_the_standards_own_schema(checkout):
    """checkout: of oasis-tcs/sarif-spec."""
    jsonschema = pytest.importorskip("jsonschema")
    path = Path(checkout) / "sarif-2.1" / "schema" / "sarif-schema-2.1.0.json"
    schema = json.loads(path.read_text("utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)
    for findings in ([], [FINDING], [FINDING, replace(FINDING, line=0, text="", others=())]):
        assert list(validator.iter_errors(json.loads(as_sarif(findings)))) == []
