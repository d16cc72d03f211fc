"""The `neuronxcc.nki.typing` names: annotations, which say nothing that Rainshadow would need."""

from __future__ import annotations

from typing import Any


class _Annotation:
    """nt.tensor, or nt.tensor[128, 512]."""

    def __getitem__(self, shape: Any) -> _Annotation:
        return self


tensor = _Annotation()
mutable_tensor = _Annotation()
scalar = _Annotation()


def mutable(annotation: Any) -> Any:
    """A tensor that the kernel writes, as any kernel may."""
    return annotation
