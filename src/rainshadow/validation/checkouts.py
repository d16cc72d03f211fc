"""Knows where public repositories are checked out, and imports kernels from them as they are.

Nothing of a checkout is changed or copied. Two things are done in memory: a file that does not
parse because a block of its docstring stands in it twice is read without the second one, and a
code block of a document is taken as a module.
"""

from __future__ import annotations

import ast
import atexit
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import linecache
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from rainshadow.errors import InputError
from rainshadow.nki.install import nki_names
from rainshadow.validation.launch import CannotRun
from rainshadow.validation.points import Point

_VARIABLE = "RAINSHADOW_CHECKOUT_"
_COMMIT = re.compile(r"@(\w[\w.-]*[\^~\d]*)")
_FENCE = '"""'
_BLOCK = re.compile(r"^([ \t]*)\.\. code-block:: python\s*$")


@dataclass(frozen=True, slots=True)
class Checkouts:
    """Folders of repositories by name, for example "nki-library"."""

    folders: Mapping[str, Path] = field(default_factory=dict)

    @staticmethod
    def of(given: Sequence[str]) -> Checkouts:
        """From texts NAME=PATH; names that are not given are looked up in the environment.

        RAINSHADOW_CHECKOUT_NKI_LIBRARY is the folder of nki-library, and so on.
        Errors: `InputError` for a text of another form, or a folder that does not exist.
        """
        folders = {
            name.removeprefix(_VARIABLE).lower().replace("_", "-"): Path(path)
            for name, path in os.environ.items()
            if name.startswith(_VARIABLE) and path
        }
        for text in given:
            name, equals, path = text.partition("=")
            if not equals or not name:
                raise InputError(
                    f"--checkout {text}",
                    allowed="NAME=PATH, for example nki-library=../nki-library",
                )
            folders[name.lower()] = Path(path)
        for name, folder in folders.items():
            if not folder.is_dir():
                raise InputError(f"checkout {name}: no folder {folder}")
        return Checkouts(folders)

    def folder(self, name: str) -> Path:
        """The folder of a repository.

        Errors: `CannotRun` where it was not given.
        """
        if name not in self.folders:
            raise CannotRun(f"needs --checkout {name}=PATH")
        return self.folders[name]

    def file(self, name: str, path: str) -> Path:
        """A file of a repository.

        Errors: `CannotRun` where there is none.
        """
        found = self.folder(name) / path
        if not found.is_file():
            raise CannotRun(f"{name} has no file {path} at the commit of this checkout")
        return found

    def state_with(self, name: str, path: str, point: Point) -> Path:
        """A folder of a repository that has a file: as it stands, or as it was at the commit that
        the point's column `source_of_kernel` names after an "@".

        Errors: `CannotRun` where neither has it.
        """
        folder = self.folder(name)
        if (folder / path).is_file():
            return folder
        found = _COMMIT.search(point["source_of_kernel"])
        commit = found[1] if found else ""
        if commit and (state := state_at(folder, commit)) and (state / path).is_file():
            return state
        at = f", nor had it at {commit}" if commit else " at the commit of this checkout"
        raise CannotRun(f"{name} has no file {path}{at}")

    def kernel_of_block(self, name: str, path: str, function: str, words: Sequence[str]) -> Any:
        """The function of the code block of a document that defines it and contains all words.

        Errors: `CannotRun` where no block, or more than one, does.
        """
        document = self.file(name, path)
        blocks = [
            (line, source)
            for line, source in code_blocks(document.read_text("utf-8"))
            if re.search(rf"^def {function}\b", source, re.MULTILINE)
            and all(word in source for word in words)
        ]
        if len(blocks) != 1:
            wanted = f"{function} with {', '.join(words)}"
            raise CannotRun(f"{path} has {len(blocks)} code blocks that define {wanted}")
        line, source = blocks[0]
        module = _module_of(f"{document.stem}_{line}", f"{document}:{line}", source)
        return getattr(module, function)


@cache
def state_at(folder: Path, commit: str) -> Path | None:
    """The Python files of a git repository as they were at a commit, until this process ends."""
    git = ("git", "-C", str(folder), "archive", "--format=zip", commit, "--", "*.py")
    try:
        archive = subprocess.run(git, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    state = Path(tempfile.mkdtemp(prefix="rainshadow-checkout-"))
    atexit.register(shutil.rmtree, state, ignore_errors=True)
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        files.extractall(state)
    return state


def code_blocks(text: str) -> Iterator[tuple[int, str]]:
    """Line number and source of the Python blocks of an .rst document."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        match = _BLOCK.match(line)
        if match is None:
            continue
        body = []
        for following in lines[number + 1 :]:
            if following.strip() and len(following) - len(following.lstrip()) <= len(match[1]):
                break
            body.append(following)
        yield number + 1, textwrap.dedent("\n".join(body))


def _module_of(name: str, file: str, source: str) -> ModuleType:
    """A block executed as a module that is not the main one, and leaves the environment alone."""
    module = ModuleType(name)
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    with unchanged_environment(), nki_names():
        exec(compile(source, file, "exec"), module.__dict__)
    return module


@contextmanager
def unchanged_environment() -> Iterator[None]:
    """What kernels set in os.environ when they are imported is undone: it selects the target."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def imports_from(folder: Path, package: str) -> Iterator[None]:
    """Inside, `import package` finds the one in `folder`, whose files may need mending."""
    finder = _CheckoutFinder(folder, package)
    with unchanged_environment(), nki_names():
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)


def module_from(folder: Path, name: str) -> Any:
    """A module of a package in `folder`, by its full name."""
    package = name.partition(".")[0]
    known = sys.modules.get(package)
    if known is not None and str(folder / package) not in map(str, known.__path__):
        for loaded in [m for m in sys.modules if m == package or m.startswith(f"{package}.")]:
            del sys.modules[loaded]
    with imports_from(folder, package):
        return importlib.import_module(name)


class _CheckoutFinder(importlib.abc.MetaPathFinder):
    """Finds a package and everything in it in one folder."""

    def __init__(self, folder: Path, package: str) -> None:
        self.folder = folder
        self.package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.package and not fullname.startswith(f"{self.package}."):
            return None
        place = self.folder.joinpath(*fullname.split("."))
        initial = place / "__init__.py"
        if initial.is_file():
            loader = _MendingLoader(fullname, str(initial))
            return importlib.util.spec_from_file_location(
                fullname, initial, loader=loader, submodule_search_locations=[str(place)]
            )
        file = place.with_suffix(".py")
        if file.is_file():
            loader = _MendingLoader(fullname, str(file))
            return importlib.util.spec_from_file_location(fullname, file, loader=loader)
        if place.is_dir():
            without_code = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
            without_code.submodule_search_locations = [str(place)]
            return without_code
        return None


class _MendingLoader(importlib.machinery.SourceFileLoader):
    """Loads a file; one that does not parse is read without a block pasted twice."""

    def source_to_code(self, data: Any, path: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().source_to_code(data, path, *args, **kwargs)
        except SyntaxError as error:
            text = bytes(data).decode() if not isinstance(data, str) else data
            mended = without_repeated_docstring(text, error.lineno or 0)
            if mended is None:
                raise
            return super().source_to_code(mended.encode(), path, *args, **kwargs)

    def set_data(self, *_: Any, **__: Any) -> None:
        """No byte code is written into a checkout."""


def without_repeated_docstring(source: str, error_line: int) -> str | None:
    """The source without the tail of a docstring that stands in it a second time.

    Lines keep their numbers. None if that does not make it parse.
    """
    lines = source.split("\n")
    fences = [number for number, line in enumerate(lines) if line.strip().endswith(_FENCE)]
    for end in (number for number in fences if number >= error_line - 1):
        for start in (number for number in reversed(fences) if number < end):
            size = end - start
            if lines[start + 1 : end + 1] != lines[start + 1 - size : start + 1]:
                continue
            mended = "\n".join([*lines[: start + 1], *[""] * size, *lines[end + 1 :]])
            try:
                ast.parse(mended)
            except SyntaxError:
                continue
            return mended
    return None
