"""Random calls of `nki.isa` functions: mostly of the right types, legal now and then, some absurd.

Parameters are filled in by their names, so that a new function is covered without an entry here;
a new name of a tensor operand is recognised by its annotation.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import ml_dtypes
import numpy as np

from rainshadow import dtypes
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.engine import Engine
from rainshadow.isa.memory import Space
from rainshadow.isa.operators import ACTIVATION_FUNCTIONS, ALU_OPERATORS
from rainshadow.nki import constants
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl

#: Between two cores only: a call on one core would wait for the other.
_BETWEEN_CORES = {"sendrecv", "core_barrier"}

FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: function
    for name, function in vars(nisa).items()
    if inspect.isfunction(function)
    and not name.startswith("_")
    and function.__module__.startswith("rainshadow.nki.isa._")
    and name not in _BETWEEN_CORES
}

_FLOATS = ("float32", "bfloat16", "float16")
_DTYPES = (*_FLOATS, "float8_e4m3", "float8_e5m2", "int32", "uint32", "int16", "uint16", "int8",
           "uint8", "bool_")  # fmt: skip
_SPACES = (*[Space.sbuf] * 6, Space.psum, Space.shared_hbm)
_NUMBERS = (0.0, 1.0, -1.5, 3, 1e-3, 1e30, -np.inf, np.nan, np.float32(2.0), True)
ABSURD = (None, "text", "", b"x", -1, 10**12, -10**30, 1.5, np.nan, 1 + 2j, np.complex64(1 + 2j),
          np.float16(3), np.int64(-5), np.ones(3), np.zeros((2, 2)), Decimal(1), True, int, nl,
          object(), [], [None], {}, {1, 2}, (1,), (1, 2), (1.5, 2.5), (-1, -1), [10**30], [1, "a"],
          [[1, 2]], ((), ()), range(3), slice(1), ...)  # fmt: skip


class Caller:
    """Makes random calls in the running kernel, with a generator of its own."""

    def __init__(self, rng: np.random.Generator, *, absurd: float) -> None:
        self.rng = rng
        #: How likely an argument is of a wrong type or beyond all limits.
        self.absurd = absurd
        self.partitions = int(rng.choice([1, 2, 8, 16, 32, 64, 128]))
        self.columns = int(rng.choice([1, 2, 8, 16, 33, 64, 512]))
        self.dtype = str(rng.choice(_FLOATS))
        self.tiles = [self.tile() for _ in range(4)]

    def pick(self, values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    # -- operands ----------------------------------------------------------------------------

    def tile(self) -> AccessPattern:
        """A new tile of random values, mostly of this caller's usual shape and dtype."""
        rows = self.partitions if self.chance(0.93) else int(self.rng.integers(1, 129))
        free = (self.columns,) if self.chance(0.9) else self._free_axes()
        dtype = self.dtype if self.chance(0.6) else self.pick(_DTYPES)
        tensor = nl.ndarray((rows, *free), dtype, self.pick(_SPACES))
        if tensor.buffer_.storage is not None:
            self._fill(tensor)
        return tensor

    def _free_axes(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.rng.integers(1, 9, int(self.rng.integers(1, 4))))

    def _fill(self, tensor: AccessPattern) -> None:
        kind = dtypes.numpy_dtype(tensor.dtype)
        is_integer = kind.kind in "iub"
        values = self.rng.uniform(
            0 if is_integer else -3, 2 if kind.kind == "b" else 3, tensor.shape
        )
        tensor.array[...] = (
            values.astype(np.int64).astype(kind) if is_integer else values.astype(kind)
        )

    def view(self) -> Any:
        """One of the tiles, or a window, a stride, an explicit pattern or another type of one."""
        tensor = self.tile() if self.chance(0.3) else self.pick(self.tiles)
        way = self.rng.random()
        if way < 0.8:
            return tensor
        if way < 0.85:
            return tensor[: max(1, tensor.shape[0] // 2)]
        if way < 0.9:
            return tensor[..., :: int(self.rng.integers(1, 4))]
        if way < 0.95:
            return tensor.reshape((tensor.shape[0], math.prod(tensor.shape[1:])))
        pattern = [[int(n) for n in self.rng.integers(-1, 20, 2)] for _ in tensor.shape]
        return tensor.ap(pattern, offset=int(self.rng.integers(-1, 10)))

    # -- arguments ---------------------------------------------------------------------------

    def argument(self, function: str, name: str, annotation: str) -> Any:
        """A value for a parameter, by what its name means."""
        if self.chance(self.absurd):
            return self.pick(ABSURD)
        for matches, make in self._makers():
            if matches(function, name, annotation):
                return make()
        return self.pick(_NUMBERS)

    def _makers(self) -> Iterator[tuple[Callable[[str, str, str], bool], Callable[[], Any]]]:
        operators, functions = list(ALU_OPERATORS), list(ACTIVATION_FUNCTIONS)
        yield (lambda f, n, a: n in ("reduce_res", "bound0", "bound1")), self._float_column
        yield (
            (lambda f, n, a: n == "srcs"),
            lambda: [self.view() for _ in range(self.pick((1, 2, 3)))],
        )
        yield (lambda f, n, a: a.startswith("NkiTensor")), self.view
        yield (
            (lambda f, n, a: n in ("bias", "operand0", "src", "initial")),
            self._column,
        )
        yield (
            (lambda f, n, a: n == "op" and f.startswith("activation")),
            lambda: self.pick(functions),
        )
        yield (
            (lambda f, n, a: "op" in n.split("_") or n in ("op0", "op1")),
            lambda: self.pick(operators),
        )
        yield (lambda f, n, a: a == "bool" or a == "bool | None"), lambda: self.chance(0.5)
        yield (lambda f, n, a: n == "engine"), lambda: self.pick(list(Engine))
        yield (lambda f, n, a: n == "pattern"), self._pattern
        yield (lambda f, n, a: n == "shuffle_mask"), lambda: self.rng.permutation(32).tolist()
        yield (
            (lambda f, n, a: n in ("axis", "axes")),
            lambda: self.pick((1, (1,), (1, 0), (1, 2), 0)),
        )
        yield (lambda f, n, a: n.startswith("tile_")), lambda: self.pick(((), (0, 0), (32, 32)))
        yield (lambda f, n, a: n in ("name", "priority", "scales")), lambda: None
        yield (lambda f, n, a: a.startswith("int")), lambda: int(self.rng.integers(-2, 9))

    def _column(self) -> Any:
        if self.chance(0.4):
            return self.pick(_NUMBERS)
        view = self.view()
        return view[:, :1] if self.chance(0.7) and view.ndim == 2 else view

    def _float_column(self) -> AccessPattern:
        tensor = nl.ndarray((self.partitions, 1), "float32", Space.sbuf)
        if tensor.buffer_.storage is not None:
            self._fill(tensor)
        return tensor

    def _pattern(self) -> list[list[int]]:
        if self.chance(0.7):
            return [[int(self.rng.integers(-3, 4)), self.columns]]
        axes = int(self.rng.integers(1, 4))
        return [[int(self.rng.integers(-3, 4)), int(self.rng.integers(1, 9))] for _ in range(axes)]

    def call(self) -> tuple[str, dict[str, Any]]:
        """A function's name and arguments; defaults are often left as they are."""
        name = self.pick(list(FUNCTIONS))
        arguments: dict[str, Any] = {}
        for parameter in inspect.signature(FUNCTIONS[name]).parameters.values():
            if parameter.default is not parameter.empty and self.chance(0.6):
                continue
            annotation = str(parameter.annotation)
            choices: Any = getattr(constants, annotation, None)
            if choices is not None and not self.chance(self.absurd):
                arguments[parameter.name] = self.pick(list(choices))
            else:
                arguments[parameter.name] = self.argument(name, parameter.name, annotation)
        return name, arguments


def is_close(got: AccessPattern, expected: np.ndarray[Any, Any], tolerance: float) -> bool:
    """Equal to within a rounding of the dtype, NaN where NaN is."""
    a, b = got.array.astype(np.float32), expected.astype(np.float32)
    step = {"float32": 0.0, "bfloat16": 2**-7, "float16": 2**-10}.get(got.dtype, 0.0)
    with np.errstate(all="ignore"):
        return bool(np.allclose(a, b, rtol=tolerance + step, atol=tolerance, equal_nan=True))


assert ml_dtypes.bfloat16, "registers the narrow dtypes with NumPy"
