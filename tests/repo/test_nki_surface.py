"""Our NKI names, parameters and defaults equal AWS's, minus a list of known differences.

The tables are made by tools/extract_nki_surface.py from AWS's stubs: aws-neuron-sdk of August 2026,
and its tag v2.26.1 for the first generation.
"""

from __future__ import annotations

import csv
import importlib
import inspect
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rainshadow.errors import RainshadowError
from rainshadow.isa.operators import alu_operator
from rainshadow.nki import constants
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.nki.first_generation import isa as first_nisa
from rainshadow.nki.first_generation import language as first_nl
from rainshadow.nki.install import NAMES

ROWS = [
    row
    for table in ("nki_surface.csv", "nki_first_surface.csv")
    for row in csv.DictReader(Path(__file__).with_name(table).open(encoding="utf-8"))
]

#: Name -> why ours lacks it. Every entry must still be missing.
KNOWN_DIFFERENCES: dict[str, str] = {
    **{
        f"neuronxcc.nki.FrameworkKernel{method}": "writes calls for XLA, which nothing here reads"
        for method in (
            "",
            ".dump_config",
            ".is_framework_tensor",
            ".map_framework_tensor",
            ".translate_to_neuron_dtype",
        )
    },
    "neuronxcc.nki.isa.builtin_custom_op": "runs a library for GpSimdE's processors",
    "neuronxcc.nki.language.gemm_grid": "AWS does not say what it returns",
    "neuronxcc.nki.language.gemm_stationary_grid": "AWS does not say what it returns",
    "neuronxcc.nki.language.all_reduce": "over the programs of a grid; AWS gives no meaning for it",
}

#: What the defaults in a table are written in, by table.
FIRST, NEWER = (
    {**vars(language), **vars(isa), **vars(constants), "np": np, "bool": bool}
    for language, isa in ((first_nl, first_nisa), (nl, nisa))
)


def qualified(row: dict[str, str]) -> str:
    return f"{row['module']}.{row['name']}"


def ours(row: dict[str, str]) -> Any:
    """Our object for a row of the table."""
    name = row["name"].replace("_TileSize.", "tile_size.")
    value: Any = importlib.import_module(NAMES[row["module"]])
    for part in name.split("."):
        value = getattr(value, part)
    return value


def expected(row: dict[str, str]) -> Iterator[tuple[str, str | None]]:
    """(name, default as text or None) of AWS's parameters."""
    for shown in filter(None, row["parameters"].split(", ")):
        name, _, default = shown.partition("=")
        yield name, default or None


def same_default(got: Any, text: str, names: dict[str, Any]) -> bool:
    if text == "...":
        return got is not inspect.Parameter.empty
    wanted = eval(text, names)
    # A tuple is the list that nobody can change; a dtype may go by its name.
    if isinstance(got, str) and isinstance(wanted, type) and got == wanted.__name__:
        return True
    if got == wanted or (isinstance(got, tuple) and list(got) == wanted):
        return True
    try:
        return alu_operator(got) is alu_operator(wanted)
    except (RainshadowError, TypeError):
        return False


def listed(kind: str) -> list[Any]:
    return [pytest.param(row, id=qualified(row)) for row in ROWS if row["kind"] == kind]


@pytest.mark.parametrize("row", [pytest.param(row, id=qualified(row)) for row in ROWS])
def test_every_name_of_awss_stubs_exists(row):
    if qualified(row) in KNOWN_DIFFERENCES:
        with pytest.raises(AttributeError):
            ours(row)
    else:
        assert ours(row) is not None


@pytest.mark.parametrize("row", [*listed("function"), *listed("method")])
def test_parameters_and_defaults_are_awss(row):
    if qualified(row) in KNOWN_DIFFERENCES:
        return
    signature = inspect.signature(ours(row))
    got = list(signature.parameters.values())
    if row["kind"] == "method":
        got = got[1:]
    wanted, names = list(expected(row)), FIRST if row["module"].startswith("neuronxcc") else NEWER
    for (name, default), parameter in zip(wanted, got, strict=False):
        if name.startswith("*"):
            assert parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            break
        assert parameter.name == name
        if default is None:
            assert parameter.default is parameter.empty
        else:
            assert same_default(parameter.default, default, names), f"{name}={parameter.default!r}"
    for extra in got[len(wanted) :]:
        assert extra.default is not extra.empty or extra.kind in (
            extra.VAR_KEYWORD,
            extra.VAR_POSITIONAL,
        )
    assert len(got) >= len(wanted) or got[-1].kind is inspect.Parameter.VAR_POSITIONAL


@pytest.mark.parametrize("row", listed("member"))
def test_enumerations_have_awss_members_and_values(row):
    member = ours(row)
    assert isinstance(member, Enum)
    assert repr(member.value) == row["parameters"] or str(member.value) == row["parameters"]
