"""Knows the folder that a port writes: complete under its name, or not there at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rainshadow.errors import InputError

#: The file by which a folder of ours is known.
_OURS = "summary.json"


def check_output(folder: Path) -> None:
    """Errors: `InputError` if `folder` holds something that a port did not write."""
    for parent in folder.parents:
        if parent.exists() and not parent.is_dir():
            raise InputError(
                f"{folder}: {parent} is a file", allowed="a folder", fix="choose another --out"
            )
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file", allowed="a folder", fix="choose another --out")
    if any(folder.iterdir()) and not (folder / _OURS).exists():
        raise InputError(
            f"{folder} holds files that are not a port's",
            allowed="an empty or missing folder, or one that an earlier port wrote",
            fix="choose another --out",
        )


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A scratch folder that takes the place of `folder` when the block ends without an error.

    Errors: as `check_output`, before anything is written.
    """
    check_output(folder)
    made = [parent for parent in folder.parents if not parent.exists()]  # innermost first
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        yield scratch
        if folder.exists():
            shutil.rmtree(folder)
        scratch.chmod(0o755)
        scratch.rename(folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        with contextlib.suppress(OSError):  # another run has written there meanwhile
            for parent in made:
                parent.rmdir()
        raise
