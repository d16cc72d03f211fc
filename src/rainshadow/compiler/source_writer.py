"""Knows how emitted source is put together: indented lines and unique names."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from contextlib import contextmanager


class SourceWriter:
    """Lines of Python at a current depth."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._depth = 0

    def line(self, text: str = "") -> None:
        """Append one line at the current depth."""
        self.lines.append(("    " * self._depth + text).rstrip())

    @contextmanager
    def indent(self) -> Iterator[None]:
        """A deeper block."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


class Names:
    """Python identifiers, each given out once."""

    def __init__(self, taken: frozenset[str] = frozenset()) -> None:
        self._used: dict[str, int] = dict.fromkeys(taken, 1)

    def fresh(self, wanted: str) -> str:
        """`wanted` made an identifier, with a number where it is taken."""
        stem = re.sub(r"\W+", "_", wanted).strip("_") or "value"
        if stem[0].isdigit() or keyword.iskeyword(stem):
            stem = f"_{stem}"
        number = self._used.get(stem, 0)
        self._used[stem] = number + 1
        return stem if number == 0 else self.fresh(f"{stem}_{number + 1}")
