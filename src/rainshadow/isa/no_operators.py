"""Knows that tensors have no Python operators, and says what there is instead."""

from __future__ import annotations

from typing import Any

from rainshadow.errors import NkiValidationError


class NoOperators:
    """Refuses arithmetic and comparisons by order; == and `in` stay Python's, of identity."""

    __slots__ = ()

    def _no_operator(self, other: Any = None) -> Any:
        raise NkiValidationError(
            f"a Python operator on {self!r}",
            allowed="instructions, and functions of nki.language",
            fix="use nl.add(a, b) and the like, or nisa.tensor_tensor",
        )

    __add__ = __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = _no_operator
    __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __matmul__ = __neg__ = _no_operator
    __and__ = __or__ = __xor__ = __invert__ = __lt__ = __le__ = __gt__ = __ge__ = _no_operator
    __float__ = _no_operator
