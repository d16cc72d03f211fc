"""Makes the objects of kernels as AWS's compiler does, which is less strict than Python.

A class with annotations has a constructor that takes them, decorated as a dataclass or not; a field
without a value is None (NKI language guide, "Class Support"); any class attribute can be given, as
in AWS's kernel library (aws-neuron/nki-library).
"""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields, is_dataclass
from typing import Any


class _Lenient(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if is_dataclass(cls):
            return cls._dataclass(*args, **kwargs)
        if cls.__init__ is object.__init__:
            return cls._annotated(*args, **kwargs)
        return super().__call__(*args, **kwargs)

    def _dataclass(cls, *args: Any, **kwargs: Any) -> Any:
        names = list(inspect.signature(cls.__init__).parameters)[1:]
        given = {*names[: len(args)], *kwargs}
        for field in fields(cls):  # type: ignore[arg-type]
            needed = field.default is MISSING and field.default_factory is MISSING
            if needed and field.name in names and field.name not in given:
                kwargs[field.name] = None
        attributes = {key for key in kwargs if key not in names and hasattr(cls, key)}
        later = {key: kwargs.pop(key) for key in attributes}
        made = super().__call__(*args, **kwargs)
        for key, value in later.items():
            setattr(made, key, value)
        return made

    def _annotated(cls, *args: Any, **kwargs: Any) -> Any:
        names = [name for base in reversed(cls.__mro__) for name in inspect.get_annotations(base)]
        unknown = [key for key in kwargs if key not in names and not hasattr(cls, key)]
        if len(args) > len(names) or unknown:
            what = f"{len(args)} values" if len(args) > len(names) else ", ".join(unknown)
            raise TypeError(f"{cls.__name__}({', '.join(names)}) does not take {what}")
        made = super().__call__()
        missing = {name: None for name in names if not hasattr(cls, name)}
        for key, value in {**missing, **dict(zip(names, args, strict=False)), **kwargs}.items():
            setattr(made, key, value)
        if hasattr(made, "__post_init__"):
            made.__post_init__()
        return made


class NKIObject(metaclass=_Lenient):
    """Base of the objects that kernels make for themselves; plain Python here."""
