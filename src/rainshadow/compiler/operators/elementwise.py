"""Knows which instructions compute each elementwise function on tiles.

Tiles are [rows, group, columns] (full), [rows, group] (one value per row) or [rows, 1] (one
value for all). Loops, loads and stores are left to `rowwise`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rainshadow.compiler.operators.tiling import Writer, number_text
from rainshadow.errors import NotModelled

#: Functions of two operands -> nl operator.
BINARY = {
    name: name
    for name in (
        "add", "subtract", "multiply", "divide", "maximum", "minimum", "power", "equal",
        "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and",
        "logical_or", "logical_xor", "fmod", "mod",
    )
}  # fmt: skip

#: Functions of one operand -> ScalarE activation.
ACTIVATION = {
    name: name
    for name in (
        "exp", "log", "sqrt", "rsqrt", "tanh", "sigmoid", "gelu", "gelu_apprx_tanh", "silu", "erf",
        "square", "relu", "abs", "sign", "gelu_dx", "silu_dx", "softplus",
    )
}  # fmt: skip

#: Functions of one operand -> (nl operator, number): tensor op number.
WITH_NUMBER = {"negative": ("multiply", -1.0), "logical_not": ("equal", 0.0)}

PREDICATE_DTYPE = "uint8"


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile in emitted source. kind: "full", "column", "vector" or "one"; dtype: its elements.

    name: of the SBUF tile; a vector is [128, columns], a one [128, 1], both alike in each
    partition.
    """

    name: str
    kind: str
    dtype: str


Source = Tile | float | int


def supports(fn: str) -> bool:
    """True if `emit_map` can print the function."""
    return fn in BINARY or fn in ACTIVATION or fn in WITH_NUMBER or fn in _SPECIAL


#: Functions with instructions of their own; waves by what comes before their sine.
_WAVES = {"sin": 0.0, "cos": math.pi / 2}
_SPECIAL = ("copy", "reciprocal", "where", "fill", *_WAVES)
#: The largest float32 below pi, where ScalarE's table of sines ends.
_PI = 3.1415925
#: A period in two parts: multiples of the first are exact in float32.
_PERIOD = (6.28125, 2 * math.pi - 6.28125)
#: Periods in a radian.
_CYCLES = 1 / (2 * math.pi)


class MapEmitter:
    """Prints instructions for maps inside one loop body.

    group: rows that share a partition.  columns, rows: source text of the tiles' other sizes.
    """

    def __init__(self, writer: Writer, group: int, columns: str, rows: str = "rows") -> None:
        self.writer = writer
        self.group = group
        self.columns = columns
        self.rows = rows

    def allocate(self, name: str, kind: str, dtype: str) -> Tile:
        """A new tile of the loop body's rows."""
        shape = (
            f"({self.rows}, {self.group}, {self.columns})"
            if kind == "full"
            else f"({self.rows}, {self.group})"
        )
        self.writer.line(f"{name} = nl.ndarray({shape}, nl.{dtype}, buffer=nl.sbuf)")
        return Tile(name, kind, dtype)

    def emit(self, fn: str, out: Tile, operands: list[Source]) -> None:
        """out = fn(operands)."""
        if fn in BINARY:
            self._binary(BINARY[fn], out, operands[0], operands[1])
        elif fn in ACTIVATION:
            data = self._spread(operands[0], out)
            self.writer.line(
                f"nisa.activation(dst={out.name}, op=nl.{ACTIVATION[fn]}, data={data})"
            )
        elif fn in WITH_NUMBER:
            operator, number = WITH_NUMBER[fn]
            self._binary(operator, out, operands[0], number)
        elif fn == "copy":
            self._copy(out, operands[0])
        elif fn == "fill":
            self.writer.line(f"nisa.memset(dst={out.name}, value={number_text(operands[0])})")
        elif fn == "reciprocal":
            data = self._spread(operands[0], out)
            self.writer.line(f"nisa.reciprocal(dst={out.name}, data={data})")
        elif fn == "where":
            self._where(out, *operands)
        elif fn in _WAVES:
            self._wave(_WAVES[fn], out, self._spread(operands[0], out))
        else:
            raise NotModelled(
                f"elementwise function {fn!r}", fix="add it to operators/elementwise.py"
            )

    def _wave(self, ahead: float, out: Tile, data: str) -> None:
        """out = sin(data + ahead), of any data: ScalarE's own ends at a period."""
        phase, periods = f"{out.name}_phase", f"{out.name}_periods"
        for name, dtype in ((phase, "float32"), (periods, "int32")):
            self.writer.line(f"{name} = nl.ndarray({out.name}.shape, nl.{dtype}, buffer=nl.sbuf)")
        self.writer.line("# Whole periods are taken off: a cast to int32 rounds to nearest.")
        for line in (
            f"tensor_scalar(dst={phase}, data={data}, op0=nl.add, operand0={ahead!r})",
            f"tensor_scalar(dst={periods}, data={phase}, op0=nl.multiply, operand0={_CYCLES!r})",
            *(
                f"scalar_tensor_tensor(dst={phase}, data={periods}, op0=nl.multiply, "
                f"operand0={-part!r}, op1=nl.add, operand1={phase})"
                for part in _PERIOD
            ),
            f"tensor_scalar(dst={phase}, data={phase}, op0=nl.maximum, operand0={-_PI}, "
            f"op1=nl.minimum, operand1={_PI})",
            f"activation(dst={out.name}, op=nl.sin, data={phase})",
        ):
            self.writer.line(f"nisa.{line}")

    def _binary(self, operator: str, out: Tile, left: Source, right: Source) -> None:
        if not isinstance(left, Tile):
            self._with_scalar(operator, out, right, left, reverse=True)
        elif self._is_scalar(right, out):
            self._with_scalar(operator, out, left, right, reverse=False)
        elif self._is_scalar(left, out) and isinstance(right, Tile):
            self._with_scalar(operator, out, right, left, reverse=True)
        else:
            a, b = self._spread(left, out), self._spread(right, out)
            self.writer.line(
                f"nisa.tensor_tensor(dst={out.name}, data1={a}, data2={b}, op=nl.{operator})"
            )

    def _is_scalar(self, source: Source, out: Tile) -> bool:
        """Numbers, and float32 tiles with one value per partition, are scalar operands."""
        if not isinstance(source, Tile):
            return True
        single = source.kind == "one" or (
            source.kind == "column" and out.kind == "full" and self.group == 1
        )
        return single and source.dtype == "float32"

    def _with_scalar(
        self, operator: str, out: Tile, data: Source, scalar: Source, *, reverse: bool
    ) -> None:
        if not isinstance(data, Tile):
            # Two numbers: only where a graph was not folded.
            self.writer.line(f"nisa.memset(dst={out.name}, value={number_text(data)})")
            data = out
        operand = (
            f"{scalar.name}[0:{self.rows}]" if isinstance(scalar, Tile) else number_text(scalar)
        )
        flag = ", reverse0=True" if reverse else ""
        self.writer.line(
            f"nisa.tensor_scalar(dst={out.name}, data={self._spread(data, out)}, "
            f"op0=nl.{operator}, operand0={operand}{flag})"
        )

    def _spread(self, source: Source, out: Tile) -> str:
        """Source text of an operand with out's shape."""
        assert isinstance(source, Tile), "numbers are scalar operands"
        if source.kind == out.kind:
            return source.name
        if source.kind == "column":
            return f"{source.name}.expand_dim(2).broadcast(2, {self.columns})"
        if source.kind == "vector":
            view = f"{source.name}[0:{self.rows}]"
            return f"{view}.expand_dim(1).broadcast(1, {self.group})"
        if out.kind == "column":
            return f"{source.name}[0:{self.rows}].broadcast(1, {self.group})"
        inner = f"{source.name}[0:{self.rows}].broadcast(1, {self.columns})"
        return f"{inner}.expand_dim(1).broadcast(1, {self.group})"

    def _copy(self, out: Tile, source: Source) -> None:
        if isinstance(source, Tile):
            self.writer.line(f"nisa.tensor_copy(dst={out.name}, src={self._spread(source, out)})")
        else:
            self.writer.line(f"nisa.memset(dst={out.name}, value={number_text(source)})")

    def _where(self, out: Tile, condition: Source, chosen: Source, other: Source) -> None:
        predicate = self._spread(self._predicate(condition, out), out)
        self._copy(out, other)
        if isinstance(chosen, Tile) and chosen.dtype == out.dtype:
            source = self._spread(chosen, out)
        elif isinstance(chosen, Tile):
            cast = self.allocate(f"{out.name}_chosen", out.kind, out.dtype)
            self._copy(cast, chosen)
            source = cast.name
        else:
            source = number_text(chosen)
        self.writer.line(
            f"nisa.tensor_copy_predicated(dst={out.name}, src={source}, predicate={predicate})"
        )

    def _predicate(self, condition: Source, out: Tile) -> Tile:
        """The condition as bytes, which is what the instruction takes."""
        assert isinstance(condition, Tile), "a condition is a tensor"
        if condition.dtype == PREDICATE_DTYPE:
            return condition
        name = f"{out.name}_mask"
        if condition.kind in ("one", "vector"):
            width = "1" if condition.kind == "one" else self.columns
            self.writer.line(
                f"{name} = nl.ndarray(({self.rows}, {width}), nl.uint8, buffer=nl.sbuf)"
            )
            self.writer.line(f"nisa.tensor_copy(dst={name}, src={condition.name}[0:{self.rows}])")
            return Tile(name, condition.kind, PREDICATE_DTYPE)
        mask = self.allocate(name, condition.kind, PREDICATE_DTYPE)
        self._copy(mask, condition)
        return mask

    def as_full(self, source: Source, name: str) -> Tile:
        """A full tile of the operand's values, for instructions that need every element."""
        assert isinstance(source, Tile), "numbers have no elements"
        if source.kind == "full":
            return source
        tile = self.allocate(name, "full", source.dtype)
        self._copy(tile, source)
        return tile
