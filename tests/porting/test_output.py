"""A port's folder is complete or absent, and never takes the place of something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from rainshadow.errors import InputError
from rainshadow.porting.output import staged


def write(folder: Path, text: str) -> None:
    with staged(folder) as scratch:
        (scratch / "summary.json").write_text(text, encoding="utf-8")


def test_a_later_port_replaces_an_earlier_one(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    write(out, "1")
    write(out, "2")
    assert (out / "summary.json").read_text(encoding="utf-8") == "2"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    out = tmp_path / "out"
    write(out, "1")
    with pytest.raises(error), staged(out) as scratch:
        (scratch / "half.json").write_text("x", encoding="utf-8")
        raise error
    assert (out / "summary.json").read_text(encoding="utf-8") == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_other_peoples_files_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="--out"):
        write(tmp_path, "1")
    with pytest.raises(InputError, match="--out"):
        write(tmp_path / "thesis.txt", "1")
    assert (tmp_path / "thesis.txt").exists()
