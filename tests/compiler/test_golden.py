"""The NKI that the compiler writes, held against kept text.

`pytest tests/compiler/test_golden.py --update-golden` writes the text anew; review the diff.
"""

from __future__ import annotations

import ast
import difflib
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from golden_cases import CASES, emitted

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("name", CASES)
def test_the_emitted_nki_is_the_kept_text(name, request):
    text = emitted(name).rstrip() + "\n"
    path = GOLDEN / f"{name}.py.txt"
    if request.config.getoption("--update-golden"):
        path.write_text(text, encoding="utf-8")
    kept = path.read_text("utf-8") if path.exists() else ""
    difference = "\n".join(
        difflib.unified_diff(kept.split("\n"), text.split("\n"), path.name, "emitted", lineterm="")
    )
    assert not difference, f"{difference}\n\nif this is meant: pytest --update-golden"


@pytest.mark.parametrize("name", CASES)
def test_kept_text_is_nki_and_nothing_else(name):
    text = (GOLDEN / f"{name}.py.txt").read_text("utf-8")
    for part in text.split("# kernel ")[1:]:
        tree = ast.parse("# " + part)
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        assert {alias.name for node in imports for alias in node.names} == {
            "nki", "nki.isa", "nki.language",
        }  # fmt: skip
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        assert all(ast.get_docstring(function) for function in functions)
        assert [ast.unparse(d) for d in functions[-1].decorator_list] == ["nki.jit"]
        assert len({function.name for function in functions}) == len(functions)


def test_kernels_say_which_line_of_the_users_they_come_from():
    text = (GOLDEN / "elementwise_chain.py.txt").read_text("utf-8")
    assert "torch.sigmoid(x * 2.0 + 1.0) * torch.tanh(x)" in text


def test_the_text_does_not_depend_on_the_hash_seed():
    texts = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("golden_cases.py")), "cross_entropy"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        texts.add(done.stdout)
    assert len(texts) == 1
