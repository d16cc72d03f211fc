"""Knows how `import nki` finds Rainshadow's modules while a user's kernel runs.

No package called `nki` is ever installed: an import finder maps the names, and steps aside when
AWS's own package can be imported, unless forced.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

#: The public name and the module that answers to it.
NAMES = {
    "nki": "rainshadow.nki",
    "nki.language": "rainshadow.nki.language",
    "nki.isa": "rainshadow.nki.isa",
    "nki.typing": "rainshadow.nki.typing",
    "nki.collectives": "rainshadow.nki.collectives",
    # Not in AWS's reference, but imported by AWS's kernel library and its tests.
    "nki.isa.constants": "rainshadow.nki.constants",
    "nki.language.dtypes": "rainshadow.nki.language",
    "nki.dtype": "rainshadow.nki.language",
    "nki.tensor": "rainshadow.nki.typing",
    "nki.compiler": "rainshadow.nki.compiler",
    "nki.builtin": "rainshadow.nki.compiler",
    # The first generation.
    "neuronxcc": "rainshadow.nki.first_generation.package",
    "neuronxcc.nki": "rainshadow.nki.first_generation",
    "neuronxcc.nki.language": "rainshadow.nki.first_generation.language",
    "neuronxcc.nki.isa": "rainshadow.nki.first_generation.isa",
    "neuronxcc.nki.isa.constants": "rainshadow.nki.constants",
    "neuronxcc.nki.compiler": "rainshadow.nki.first_generation.compiler",
    "neuronxcc.nki.typing": "rainshadow.nki.first_generation.typing",
}
#: The packages that AWS installs.
_PACKAGES = ("nki", "neuronxcc")


class NkiFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the names of NAMES; each is the very module object of Rainshadow."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in NAMES:
            return None
        return importlib.machinery.ModuleSpec(
            fullname, self, is_package=_is_package(fullname), origin=NAMES[fullname]
        )

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        # Returned as it is, the module would have its name and spec overwritten by the import
        # system; a stand-in that shares the namespace keeps both intact.
        actual = importlib.import_module(NAMES[spec.name])
        stand_in = ModuleType(spec.name, actual.__doc__)
        stand_in.__dict__.update(
            {k: v for k, v in actual.__dict__.items() if not k.startswith("__")}
        )
        if _is_package(spec.name):
            stand_in.__dict__["__getattr__"] = _submodule_of(spec.name)
        return stand_in

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to execute: the namespace is complete."""


def _submodule_of(package: str) -> Callable[[str], ModuleType]:
    """`nki.dtype` works without being imported first."""

    def find(name: str) -> ModuleType:
        if f"{package}.{name}" not in NAMES:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return importlib.import_module(f"{package}.{name}")

    return find


def _is_package(name: str) -> bool:
    return any(known.startswith(f"{name}.") for known in NAMES)


def _aws_nki_is_importable() -> bool:
    finders = [finder for finder in sys.meta_path if not isinstance(finder, NkiFinder)]
    return any(finder.find_spec(name, None) for finder in finders for name in _PACKAGES)


def install(*, force: bool = False) -> bool:
    """Make `import nki` mean Rainshadow. Returns False where AWS's own package takes precedence.

    force: map the names even if AWS's package is importable.
    """
    if installed():
        return True
    if not force and _aws_nki_is_importable():
        return False
    for name in NAMES:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, NkiFinder())
    return True


def installed() -> bool:
    """True while the finder is active."""
    return any(isinstance(finder, NkiFinder) for finder in sys.meta_path)


def uninstall() -> None:
    """Take the finder out again and forget the mapped modules."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, NkiFinder)]
    for name in NAMES:
        sys.modules.pop(name, None)


@contextmanager
def nki_names() -> Iterator[None]:
    """`import nki` means Rainshadow inside this block, whatever else is installed."""
    before = installed()
    install(force=True)
    try:
        yield
    finally:
        if not before:
            uninstall()
