"""The `nki.typing` names: annotations of kernel arguments."""

from __future__ import annotations

from rainshadow.isa.access import AccessPattern

#: A kernel argument that is a tensor.
tensor = AccessPattern
