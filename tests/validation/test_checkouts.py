"""Kernels from checkouts, as they are."""

from __future__ import annotations

import os
import sys
import textwrap

import pytest

from rainshadow.errors import InputError
from rainshadow.validation.checkouts import (
    Checkouts,
    code_blocks,
    module_from,
    without_repeated_docstring,
)
from rainshadow.validation.launch import CannotRun

DOCUMENT = '''
Text.

.. code-block:: python

    import nki.language as nl
    import os
    os.environ["NEURON_PLATFORM_TARGET_OVERRIDE"] = "trn2"

    def double(x):
        """One tile."""
        return x

More text.

.. code-block:: python

   def double(x):
       """Many tiles."""
       return x, x
'''

PASTED_TWICE = '''
def f():
    """First.

    It supports:
    - one
    - two
    """

    It supports:
    - one
    - two
    """
    return 1
'''


@pytest.fixture
def document(tmp_path):
    (tmp_path / "page.rst").write_text(DOCUMENT, encoding="utf-8")
    return Checkouts({"sdk": tmp_path})


def test_code_blocks_know_their_lines():
    assert [line for line, _ in code_blocks(DOCUMENT)] == [4, 16]


def test_the_block_with_the_words_is_taken_and_the_environment_left_alone(document, monkeypatch):
    monkeypatch.delenv("NEURON_PLATFORM_TARGET_OVERRIDE", raising=False)
    one = document.kernel_of_block("sdk", "page.rst", "double", ["One tile"])
    many = document.kernel_of_block("sdk", "page.rst", "double", ["Many tiles"])
    assert (one(3), many(3)) == (3, (3, 3))
    assert "NEURON_PLATFORM_TARGET_OVERRIDE" not in os.environ


@pytest.mark.parametrize("words", [[], ["neither"]])
def test_no_block_is_guessed(document, words):
    with pytest.raises(CannotRun, match="code blocks that define double"):
        document.kernel_of_block("sdk", "page.rst", "double", words)


def test_a_missing_checkout_says_which(tmp_path):
    with pytest.raises(CannotRun, match="--checkout nki-library=PATH"):
        Checkouts({}).folder("nki-library")
    with pytest.raises(CannotRun, match="has no file"):
        Checkouts({"sdk": tmp_path}).file("sdk", "a.py")
    with pytest.raises(InputError, match="no folder"):
        Checkouts.of([f"sdk={tmp_path / 'missing'}"])
    with pytest.raises(InputError, match="NAME=PATH"):
        Checkouts.of(["sdk"])


def test_checkouts_are_also_named_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("RAINSHADOW_CHECKOUT_NKI_LIBRARY", str(tmp_path))
    assert Checkouts.of([]).folder("nki-library") == tmp_path


def test_a_docstring_pasted_twice_is_read_once():
    mended = without_repeated_docstring(PASTED_TWICE, 12)
    assert mended is not None
    assert mended.count("It supports") == 1
    assert mended.split("\n").index("    return 1") == PASTED_TWICE.split("\n").index(
        "    return 1"
    )
    assert without_repeated_docstring("def f(:\n    pass\n", 1) is None


def test_modules_of_a_checkout_are_imported_mended_and_not_written_to(tmp_path):
    package = tmp_path / "mended_example"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "broken.py").write_text(PASTED_TWICE, encoding="utf-8")
    (package / "user.py").write_text(
        textwrap.dedent(
            """
            import nki.language as nl
            from .broken import f
            """
        ),
        encoding="utf-8",
    )
    try:
        assert module_from(tmp_path, "mended_example.user").f() == 1
    finally:
        for name in [name for name in sys.modules if name.startswith("mended_example")]:
            del sys.modules[name]
    assert not list(tmp_path.rglob("__pycache__"))
