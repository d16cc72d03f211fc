"""The strict check: what AWS's compiler would refuse is named at its line, and nothing else is."""

from __future__ import annotations

import textwrap

import pytest

from rainshadow.errors import InputError, UnknownNameError
from rainshadow.nki.subset import check_subset

HEAD = """\
import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np
from dataclasses import dataclass
from enum import Enum

"""
CLEAN = """\
class Mode(Enum):
    up = 1
    down = 2


@dataclass
class Config(nl.NKIObject):
    width: int = 4

    def half(self):
        return self.width // 2


def scale(dst, src):
    nisa.tensor_scalar(dst=dst, data=src, op0=nl.multiply, operand0=0.5)


def outside(x):
    return [np.sum(value) for value in x if value is True]


@nki.jit
def kernel(x, mode=Mode.up, shape=(1, 2)):
    config = Config(width=8)
    assert x.shape[0] <= 128, f"shape {x.shape}"
    tiles = []
    for index in nl.affine_range(config.half()):
        tile = nl.ndarray((128, 4), dtype=x.dtype, buffer=nl.sbuf)
        if index % 2 == 0 and mode == Mode.up:
            nisa.dma_copy(dst=tile, src=x[0:128, nl.ds(4 * index, 4)])
            scale(tile, tile)
        tiles.append(tile)
    table = {"a": 1}
    while table["a"] < 3:
        table["a"] += 1
    with nl.no_reorder():
        nisa.memset(dst=tiles[0], value=0.0)
    return tiles[0]
"""
#: (rule, severity, statement inside a kernel, a word of the line it is reported at)
REFUSED = [
    ("identity", "error", "if x is y: pass", "is y"),
    ("identity", "warning", "if x is not None: pass", "None"),
    ("try", "error", "try:\n    y = 1\nexcept ValueError:\n    y = 2", "try"),
    ("comprehension", "warning", "y = [i for i in range(3)]", "for i"),
    ("lambda", "warning", "y = lambda a: a", "lambda"),
    ("import", "error", "import math", "math"),
    ("outside-state", "error", "global COUNT", "COUNT"),
    ("generator", "error", "yield x", "yield"),
    ("value-type", "error", "y = {1, 2}", "{1, 2}"),
    ("value-type", "error", "y = 2 + 3j", "3j"),
    ("value-type", "error", "y = 4294967296", "4294967296"),
    ("dict-key", "error", "y = {1: 2}", "{1: 2}"),
    ("with", "error", "with open(x): pass", "open"),
    ("builtin", "error", "y = eval('1')", "eval"),
    ("foreign-call", "error", "y = np.zeros(4)", "np.zeros"),
    ("removed-name", "error", "y = nl.arange(4)", "arange"),
    ("removed-name", "error", "nl.load(x, mask=y)", "mask"),
    ("buffer-name", "error", "nl.ndarray((1, 1), dtype=x, buffer='sbuf')", "sbuf"),
    ("dynamic-range", "warning", "for i in nl.dynamic_range(3): pass", "dynamic_range"),
    ("dynamic-index", "error", "for i in nl.dynamic_range(3):\n    if i == 0: pass", "if i"),
    ("dynamic-index", "error", "for i in nl.dynamic_range(3):\n    i = 2", "i = 2"),
    (
        "no-reorder",
        "error",
        "with nl.no_reorder():\n    for i in nl.dynamic_range(3): pass",
        "dynamic_range",
    ),
    (
        "loop-body",
        "error",
        "if x:\n    def body(i):\n        return i\n    nl.fori_loop(0, 4, body)",
        "return i",
    ),
    ("loop-else", "warning", "for i in range(2):\n    pass\nelse:\n    pass", "for i"),
    ("class", "error", "class Inner(nl.NKIObject): pass", "Inner"),
    ("matmult", "error", "y = x @ y", "@"),
    ("del", "error", "del y", "del"),
    ("walrus", "warning", "print(z := 2)", ":="),
    ("raise", "warning", "raise ValueError", "raise"),
]


def write(tmp_path, text, name="kernels.py"):
    path = tmp_path / name
    path.write_text(HEAD + textwrap.dedent(text))
    return path


def test_what_the_language_guide_has_is_not_reported(tmp_path):
    assert check_subset(write(tmp_path, CLEAN)) == []


@pytest.mark.parametrize(("rule", "severity", "statement", "word"), REFUSED)
def test_what_is_no_nki_is_named_at_its_line(tmp_path, rule, severity, statement, word):
    body = textwrap.indent(statement, "    ")
    path = write(tmp_path, f"@nki.jit\ndef kernel(x, y):\n{body}\n")
    found = [finding for finding in check_subset(path) if finding.rule == rule]
    assert found, f"{rule} is not reported"
    assert found[0].severity == severity and word in found[0].text and found[0].fix
    assert path.read_text().splitlines()[found[0].line - 1].strip() == found[0].text


@pytest.mark.parametrize(
    ("signature", "rule"),
    [
        ("x, *, flag=True", "keyword-only"),
        ("x, stride=[1, 1]", "list-argument"),
        ("x, stride: list[int] = None", "list-argument"),
        ("x, *rest", "variable-arguments"),
    ],
)
def test_a_kernels_signature_is_checked_and_that_of_what_it_calls_is_not(tmp_path, signature, rule):
    text = (
        f"def inner({signature}):\n    pass\n\n@nki.jit\ndef kernel({signature}):\n    inner(x)\n"
    )
    found = [item for item in check_subset(write(tmp_path, text)) if item.rule == rule]
    assert [item.text for item in found] == [f"def kernel({signature}):"]


def test_only_code_that_a_kernel_reaches_is_checked(tmp_path):
    text = """
    def used(x):
        try:
            return x
        finally:
            pass

    def unused(x):
        yield x

    class Plain:
        pass

    @nki.jit
    def kernel(x):
        Plain()
        return used(x)
    """
    assert {item.rule for item in check_subset(write(tmp_path, text))} == {"try", "class-base"}


def test_calls_are_followed_into_files_beside_the_kernels(tmp_path):
    write(tmp_path, "def deep(x):\n    del x\n", "deeper.py")
    (tmp_path / "parts.py").write_text("from deeper import deep\n")
    path = tmp_path / "kernels.py"
    path.write_text("import nki\nfrom parts import deep\n\n@nki.jit\ndef kernel(x):\n    deep(x)\n")
    (found,) = check_subset(path)
    assert (found.rule, found.file) == ("del", str(tmp_path / "deeper.py"))


def test_recursion_is_named(tmp_path):
    text = "def a(x):\n    b(x)\n\ndef b(x):\n    a(x)\n\n@nki.jit\ndef kernel(x):\n    a(x)\n"
    found = check_subset(write(tmp_path, text))
    assert [(item.rule, item.severity) for item in found] == [("recursion", "warning")] * 2


def test_the_older_generation_is_named(tmp_path):
    path = tmp_path / "old.py"
    path.write_text(
        "from neuronxcc import nki\nimport neuronxcc.nki.language as nl\n\n"
        "@nki.jit\ndef kernel(x):\n    return nl.load(x)\n"
    )
    assert [item.rule for item in check_subset(path)] == ["old-namespace"]


def test_bad_input_is_one_clear_error(tmp_path):
    plain = write(tmp_path, "def kernel(x):\n    pass\n")
    with pytest.raises(InputError, match=r"no function decorated with @nki\.jit"):
        check_subset(plain)
    assert check_subset(plain, "kernel") == []
    with pytest.raises(UnknownNameError, match="kernel"):
        check_subset(plain, "kernle")
    with pytest.raises(InputError, match="is no Python"):
        check_subset(write(tmp_path, "def kernel(:\n", "broken.py"))
    with pytest.raises(InputError):
        check_subset(tmp_path / "missing.py")
