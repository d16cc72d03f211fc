"""What a page shows under `<!-- printed by: COMMAND -->` is what the command prints."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = re.compile(r"<!-- printed by: ([^\n]+) -->\n+```\n(.*?)^```", re.MULTILINE | re.DOTALL)
OUTPUTS = [
    (page, command, text)
    for page in PAGES
    for command, text in SHOWN.findall(page.read_text("utf-8"))
]
LEFT_OUT = "..."


def lines(text: str) -> list[str]:
    """The lines with single spaces. Rounding differences depend on the processor and its threads:
    on lines of parity every number is masked."""
    plain = [" ".join(line.split()) for line in text.splitlines()]
    return [re.sub(r"\d\S*", "N", line) if "difference" in line else line for line in plain]


@pytest.mark.parametrize(
    ("page", "command", "shown"), OUTPUTS, ids=[f"{p.name}: {c}" for p, c, _ in OUTPUTS]
)
def test_a_page_shows_what_the_command_prints(page, command, shown, tmp_path):
    words = shlex.split(command)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    printed = iter(lines(done.stdout))
    for line in lines(shown):
        if line != LEFT_OUT:
            assert line in printed, f"{page.name} shows a line that is not printed (there): {line}"


def test_the_readme_shows_outputs():
    assert {page.name for page, _, _ in OUTPUTS} >= {"README.md"}
