"""Knows how to replace attributes of live objects and to put every one of them back.

What is replaced, and by what, is for the callers to say.
"""

from __future__ import annotations

from typing import Any

_ABSENT = object()


class Patches:
    """Replaced attributes, restored last first by `restore`.

    An attribute that an object only inherits is set on the object and deleted again, so that a
    class never keeps a copy of what it inherited.
    """

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> Any:
        """Set `owner.name` to `value`; returns what `owner.name` gave before, or None."""
        own = vars(owner).get(name, _ABSENT)
        before = getattr(owner, name, None)
        self._undo.append((owner, name, own))
        setattr(owner, name, value)
        return before

    def restore(self) -> None:
        """Put back everything `set` replaced."""
        while self._undo:
            owner, name, own = self._undo.pop()
            if own is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, own)
