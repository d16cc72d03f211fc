"""The NKI API that user kernels import, over Rainshadow's recorder.

`install()` makes `import nki`, `import nki.language as nl`, `import nki.isa as nisa` find these
modules; nothing here is AWS's code. `simulate(kernel)(*arrays)` runs a kernel; `record` also
returns its Trace.
"""

from __future__ import annotations

from rainshadow.nki.install import install, installed, uninstall
from rainshadow.nki.kernel import (
    Kernel,
    PerRank,
    Run,
    Shape,
    cpu_simulate,
    jit,
    keep,
    record,
    simulate,
)

__all__ = [
    "Kernel",
    "PerRank",
    "Run",
    "Shape",
    "cpu_simulate",
    "install",
    "installed",
    "jit",
    "keep",
    "record",
    "simulate",
    "uninstall",
]
