"""README and docs are true: code runs, commands and options exist, links and paths resolve."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rainshadow.cli import command_names

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)#]+)[^)]*\)")
CODE = re.compile(r"`([^`\n]+)`")


def blocks(kind: str) -> list[tuple[str, str]]:
    return [
        (page.name, text)
        for page in PAGES
        for found, text in BLOCK.findall(page.read_text("utf-8"))
        if found == kind
    ]


def commands() -> list[list[str]]:
    lines = [line for _, text in blocks("sh") for line in text.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("rainshadow ")]


def rainshadow(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rainshadow", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_python_blocks_run(page, text, tmp_path):
    script = tmp_path / "block.py"
    script.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_and_their_options_exist(words):
    name = words[1]
    assert name in command_names()
    text = rainshadow(name, "--help").stdout
    own = words[: words.index("--")] if "--" in words else words
    for option in (word for word in own if word.startswith("--")):
        assert option in text, f"{name} has no {option}"


PLACEHOLDERS = {
    "SCRIPT.py",
    "POINTS.csv",
    "train.py",
    "KERNEL.py",
    "KERNEL.py:FUNCTION",
    "TRACE.npz",
    "OLD",
    "FOLDER:1",
}
RUNNABLE = [words for words in commands() if not PLACEHOLDERS & set(words)]


@pytest.mark.parametrize("words", RUNNABLE, ids=" ".join)
def test_commands_without_placeholders_run(words, tmp_path):
    extra = ["--out", str(tmp_path / "out")] if words[1] == "profile" else []
    done = rainshadow(*words[1:], *extra)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_resolve(page):
    text = page.read_text("utf-8")
    for target in LINK.findall(text):
        if "://" not in target:
            assert (page.parent / target).exists(), target
    paths = [
        code for code in CODE.findall(text) if re.fullmatch(r"(src|examples|tests|docs)/\S+", code)
    ]
    for path in paths:
        assert list(ROOT.glob(path.rstrip("/"))) or "NAME" in path, path


def test_every_page_is_linked_from_the_readme():
    text = (ROOT / "README.md").read_text("utf-8")
    for page in PAGES[1:]:
        assert f"(docs/{page.name})" in text


def test_the_toml_of_the_docs_is_a_chip(tmp_path):
    for number, (_, text) in enumerate(blocks("toml")):
        path = tmp_path / f"chip_{number}.toml"
        path.write_text(text, encoding="utf-8")
        done = rainshadow("machines", str(path))
        assert done.returncode == 0, done.stderr


def test_the_readme_names_the_two_commands_of_the_makefile():
    text = (ROOT / "README.md").read_text("utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in text
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert "exec make test" in (ROOT / ".ci" / "run").read_text("utf-8")
