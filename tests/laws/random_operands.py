"""Random operands of an instruction: legal ones, and tensors and numbers that mostly are not."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np

from rainshadow import dtypes
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.memory import Space
from rainshadow.isa.operators import ALU_OPERATORS, SINCE_V4
from rainshadow.nki import language as nl

FLOATS = ("float32", "bfloat16", "float16")
FP8 = ("float8_e4m3", "float8_e5m2")
INTEGERS = ("int32", "uint32", "int16", "uint16", "int8", "uint8")
ARITHMETIC = tuple(
    name
    for name, op in ALU_OPERATORS.items()
    if op.kind != "bitvec" and name not in {"average", *SINCE_V4}
)
BINARY = tuple(name for name in ARITHMETIC if not ALU_OPERATORS[name].unary)
BITVEC = tuple(name for name, op in ALU_OPERATORS.items() if op.kind == "bitvec")
BINARY_BITVEC = tuple(name for name in BITVEC if not ALU_OPERATORS[name].unary)
COMPARE = tuple(name for name, op in ALU_OPERATORS.items() if op.kind == "compare")
RUNNING = ("add", "multiply", "maximum", "minimum")


class Operands:
    """Makes the operands of one call in the running kernel."""

    def __init__(self, seed: int, *, plain: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self._layout = np.random.default_rng(seed + 1)
        self._plain = plain
        self.written: list[AccessPattern] = []

    # -- choices -----------------------------------------------------------------------------

    def pick(self, values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def chance(self, probability: float = 0.5) -> bool:
        return bool(self.rng.random() < probability)

    def upto(self, most: int, fewest: int = 1) -> int:
        return int(self.rng.integers(fewest, most + 1))

    def number(self) -> Any:
        return self.pick((0.5, -1.25, 2, np.float32(1.5), True))

    def rows(self) -> int:
        return int(self.pick((1, 2, 17, 32, 64, 100, 128)))

    def _lies(self, probability: float) -> bool:
        return not self._plain and bool(self._layout.random() < probability)

    # -- tensors -----------------------------------------------------------------------------

    def values(self, shape: tuple[int, ...], dtype: str, low: float, high: float) -> Any:
        kind = dtypes.numpy_dtype(dtype)
        if kind.kind in "iu":
            return self.rng.integers(max(0, int(low)), int(high) + 1, shape).astype(kind)
        values = self.rng.uniform(low, high, shape)
        return (values > 0 if kind.kind == "b" else values).astype(kind)

    def tile(
        self, rows: int, *free: int, dtype: str = "float32", low: float = -3.0, high: float = 3.0,
        psum: bool = False, on_chip: bool = True, given: Any = None, quadrant: bool = True,
    ) -> AccessPattern:  # fmt: skip
        """A tensor of random values, or of those given, somewhere and somehow in memory.

        psum: it may lie in PSUM.  quadrant: it may start at a later partition.
        """
        shape = (rows, *free)
        space = Space.sbuf if on_chip else Space.shared_hbm
        if psum and self._lies(0.25) and math.prod(free) <= 256:
            space = Space.psum
        values = self.values(shape, dtype, low, high) if given is None else given
        view = self._laid_out(shape, dtype, space, quadrant=quadrant and on_chip)
        view.array[...] = np.asarray(values).reshape(shape).astype(view.array.dtype)
        return view

    def _laid_out(
        self, shape: tuple[int, ...], dtype: str, space: Space, *, quadrant: bool
    ) -> AccessPattern:
        rows, last = shape[0], shape[-1]
        if len(shape) == 3 and self._lies(0.3):
            return nl.ndarray((rows, *shape[:0:-1]), dtype, space).permute((0, 2, 1))
        start = 32 if quadrant and rows <= 32 and self._lies(0.3) else 0
        before = int(self._layout.integers(3)) if self._lies(0.4) else 0
        step = 2 if self._lies(0.3) else 1
        wide = nl.ndarray((start + rows, *shape[1:-1], before + last * step), dtype, space)
        self._blank(wide)
        return wide[start:, ..., before : before + last * step : step]

    def _blank(self, tensor: AccessPattern) -> None:
        tensor.array[...] = np.zeros((), tensor.array.dtype)

    def out(self, rows: int, *free: int, **how: Any) -> AccessPattern:
        """A tensor that the call writes."""
        view = self.tile(rows, *free, **how)
        self.written.append(view)
        return view

    def column(self, rows: int, **how: Any) -> AccessPattern:
        return self.tile(rows, 1, quadrant=False, **how)

    def scalar(self, rows: int, dtype: str = "float32") -> Any:
        """A number or a column."""
        return self.number() if self.chance() else self.column(rows, dtype=dtype)

    def step(self, rows: int) -> tuple[str, Any]:
        """An arithmetic operator, and a number or column where it takes a second operand."""
        name = self.pick(ARITHMETIC)
        return name, 0.0 if ALU_OPERATORS[name].unary else self.scalar(rows)

    def sized(self) -> tuple[int, tuple[int, ...]]:
        """Partitions and free axes."""
        return self.rows(), self.pick(((1,), (2,), (33,), (64,), (512,), (3, 8), (2, 5)))


#: Of the right type, and now and then outside what a rule allows.
NUMBERS = (-1.5, 2.0, 0, 3, 15, 33, 255, 256, 300, 4097, 70_000, complex(1), complex(0), Decimal(2),
           Decimal(0), float("inf"), np.float64(0.5), np.bool_(True))  # fmt: skip


def other_tensors(o: Operands) -> list[AccessPattern]:
    """Tensors of the call's kind that something is wrong with for most operands."""
    made = [
        nl.ndarray((64, 8), "float32", Space.psum),
        nl.ndarray((64, 8), "bfloat16", Space.shared_hbm),
        nl.ndarray((1, 1), "int32", Space.sbuf),
        nl.ndarray((128, 16), "float8_e4m3", Space.sbuf),
        nl.ndarray((128, 8), "uint8", Space.sbuf)[33:65],
        nl.ndarray((128, 4, 8), "float32", Space.sbuf)[:, :, ::3],
        nl.ndarray((128, 33), "uint16", Space.sbuf).ap([[33, 32], [-1, 16]], offset=20),
        nl.ndarray((32, 8), "bool_", Space.sbuf),
        nl.ndarray((64, 8), "float32", Space.shared_hbm).vector_select(
            0, o.tile(32, 1, dtype="int32", high=63)
        ),
    ]
    return made
