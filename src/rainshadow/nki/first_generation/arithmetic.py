"""The element-by-element functions of the first generation's `nl`, and the operators of tensors.

Two tiles go to VectorE as tensor_tensor; a tile and a number, or a column of one float32 for each
partition, as tensor_scalar; functions go to ScalarE. A row [1, F] that has to reach all partitions
is spread by TensorE, as `nl.broadcast_to` does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rainshadow import dtypes
from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.memory import Space
from rainshadow.isa.operators import ACTIVATION_FUNCTIONS
from rainshadow.nki import isa, tile_functions
from rainshadow.nki.first_generation.index import Index
from rainshadow.nki.first_generation.memory import Touch
from rainshadow.nki.first_generation.operation import (
    Operand,
    Operation,
    Result,
    along,
    assign,
    call,
    kind_of,
    plain_number,
    shape_on_chip,
)
from rainshadow.nki.first_generation.positions import TileIndex
from rainshadow.nki.first_generation.state import current
from rainshadow.nki.first_generation.tensor import Tensor

#: From the least precise to the most: what two tiles of different dtypes give.
_PRECISION = (
    "bool_", "uint8", "int8", "uint16", "int16", "uint32", "int32", "float8_e5m2", "float8_e4m3",
    "float16", "bfloat16", "tfloat32", "float32",
)  # fmt: skip


def as_tile(value: Any, what: str = "an operand") -> Tensor:
    """A tile on chip; a tensor in HBM is loaded first.

    Errors: `NkiValidationError` for what is no tensor.
    """
    if not isinstance(value, Tensor):
        raise NkiValidationError(
            f"{what} is {type(value).__name__}", allowed="a tile, such as nl.load returns"
        )
    return value if value.on_chip else load(value)


def load(src: Tensor, *, mask: Any = None, dtype: Any = None, **kwargs: Any) -> Result:
    """A new SBUF tile with the elements of an HBM tensor; axis 0 becomes the partition axis."""
    source = require_tensor(src, "src")
    shape = shape_on_chip(source.shape)
    labels = tuple(range(source.ndim)) + (None,) * (len(shape) - source.ndim)
    operand = Operand("src", source, tuple(range(source.ndim)))

    def emit(dst: AccessPattern, src: AccessPattern) -> None:
        isa.dma_copy(dst, src, oob_mode=kwargs.get("mode") or isa.oob_mode.error)

    operation = Operation(
        emit, [operand], mask, shape=shape, labels=labels, spaces=(Space.sbuf,),
        dtype=kind_of(dtype, source.type_name), explicit=dtype is not None,
    )  # fmt: skip
    return call(operation)


def require_tensor(value: Any, what: str) -> Tensor:
    """Errors: `NkiValidationError` for what is no tensor of this generation."""
    current()
    if not isinstance(value, Tensor):
        raise NkiValidationError(f"{what} is {type(value).__name__}", allowed="a tensor")
    return value


def more_precise(*tiles: Tensor) -> str:
    """The dtype of a result of tiles of these dtypes."""
    return max((tile.type_name for tile in tiles), key=_rank)


def _rank(name: str) -> int:
    return _PRECISION.index(name) if name in _PRECISION else -1


def spread(tile: Tensor, partitions: int) -> Tensor:
    """A row [1, ...] on all partitions: a copy, since partitions cannot be read twice."""
    current().flush()
    view = tile.window(Touch.read)
    return Tensor.over(tile_functions.broadcast_to(view, (partitions, *view.shape[1:])))


def common_shape(x: Tensor, y: Tensor) -> tuple[int, ...]:
    """Of two tiles that broadcast against each other.

    Errors: `NkiValidationError` where they do not.
    """
    if x.ndim != y.ndim or any(
        a != b and 1 not in (a, b) for a, b in zip(x.shape, y.shape, strict=True)
    ):
        raise NkiValidationError(
            f"tiles of shapes {x.shape} and {y.shape}",
            allowed="equal shapes, or axes of size 1 in one of them",
        )
    return tuple(max(a, b) for a, b in zip(x.shape, y.shape, strict=True))


def is_column(tile: Tensor, shape: tuple[int, ...]) -> bool:
    """One float32 for each partition, where the other tile has more."""
    return (
        tile.type_name == "float32"
        and tile.shape[0] == shape[0]
        and tile.size == shape[0]
        and any(extent > 1 for extent in shape[1:])
    )


def column(name: str, tile: Tensor) -> Operand:
    """An operand of one element for each partition."""
    return Operand(name, tile, (0,) + (None,) * (tile.ndim - 1))


def flat_column(view: AccessPattern) -> AccessPattern:
    """[P, 1], whatever axes of size 1 a column has."""
    return view if view.ndim == 2 else view.reshape((view.shape[0], 1))


def combine(
    x: Any,
    y: Any,
    op: str,
    *,
    dtype: Any = None,
    mask: Any = None,
    engine: Any = isa.unknown_engine,
) -> Result:
    """x op y."""
    if not isinstance(y, Tensor):
        return _with_number(as_tile(x), y, op, dtype, mask, reverse=False)
    if not isinstance(x, Tensor):
        return _with_number(as_tile(y), x, op, dtype, mask, reverse=True)
    left, right = as_tile(x), as_tile(y)
    dtype = dtype or _quotient(op, left, right)
    partitions = max(left.shape[0], right.shape[0])
    if left.shape[0] < partitions:
        left = spread(left, partitions)
    if right.shape[0] < partitions:
        right = spread(right, partitions)
    shape = common_shape(left, right)
    kind = kind_of(dtype, more_precise(left, right))
    for tile, other, reverse in ((right, left, False), (left, right, True)):
        if is_column(tile, shape) and other.shape == shape:
            return _with_column(other, tile, op, kind, dtype, mask, reverse)
    operands = [along("data1", left.stretched(shape)), along("data2", right.stretched(shape))]

    def emit(dst: AccessPattern, data1: AccessPattern, data2: AccessPattern) -> None:
        if data1.space is Space.psum and data2.space is Space.psum:
            data2 = copy_to_sbuf(data2)
        isa.tensor_tensor(dst, data1, data2, op, engine)

    return call(
        Operation(emit, operands, mask, shape=shape, dtype=kind, explicit=dtype is not None)
    )


def copy_to_sbuf(view: AccessPattern) -> AccessPattern:
    """A copy in SBUF: VectorE reads no two tiles from PSUM at a time, GpSimdE none."""
    copied = tile_functions.tile(view.shape, view.dtype)
    isa.tensor_copy(copied, view)
    return copied


def _with_column(
    data: Tensor, operand: Tensor, op: str, kind: str, dtype: Any, mask: Any, reverse: bool
) -> Result:
    def emit(dst: AccessPattern, data: AccessPattern, operand: AccessPattern) -> None:
        isa.tensor_scalar(dst, data, op, flat_column(operand), reverse)

    operands = [along("data", data), column("operand", operand)]
    return call(
        Operation(emit, operands, mask, shape=data.shape, dtype=kind, explicit=dtype is not None)
    )


def _with_number(
    data: Tensor, number: Any, op: str, dtype: Any, mask: Any, *, reverse: bool
) -> Result:
    if not hasattr(number, "__float__"):
        raise NkiValidationError(
            f"nl.{op} of {data!r} and {type(number).__name__}", allowed="tiles and numbers"
        )

    def emit(dst: AccessPattern, data: AccessPattern) -> None:
        isa.tensor_scalar(dst, data, op, plain_number(number), reverse)

    dtype = dtype or _quotient(op, data)
    kind = kind_of(dtype, data.type_name)
    return call(
        Operation(
            emit, [along("data", data)], mask, shape=data.shape, dtype=kind,
            explicit=dtype is not None,
        )
    )  # fmt: skip


def _quotient(op: str, *tiles: Tensor) -> str | None:
    """float32 for quotients of integers, as NumPy has it; AWS does not say."""
    return "float32" if op == "divide" and all(t.dtype.kind in "iub" for t in tiles) else None


def _binary(name: str, document: str, result: Any = None) -> Callable[..., Result]:
    def function(x: Any, y: Any, *, dtype: Any = result, mask: Any = None, **kwargs: Any) -> Result:
        return combine(x, y, name, dtype=dtype, mask=mask)

    function.__name__ = name
    function.__doc__ = document
    return function


def _unary(name: str, document: str) -> Callable[..., Result]:
    def function(x: Any, *, dtype: Any = None, mask: Any = None, **kwargs: Any) -> Result:
        tile = as_tile(x, f"the operand of nl.{name}")

        def emit(dst: AccessPattern, data: AccessPattern) -> None:
            isa.activation(dst, name, data)

        kind = kind_of(dtype, tile.type_name)
        return call(
            Operation(
                emit, [along("data", tile)], mask, shape=tile.shape, dtype=kind,
                explicit=dtype is not None,
            )
        )  # fmt: skip

    function.__name__ = name
    function.__doc__ = document
    return function


def copy(src: Any, *, mask: Any = None, dtype: Any = None, **kwargs: Any) -> Result:
    """A copy of a tile, in SBUF unless it is assigned to PSUM."""
    tile = as_tile(src)

    def emit(dst: AccessPattern, src: AccessPattern) -> None:
        isa.tensor_copy(dst, src)

    kind = kind_of(dtype, tile.type_name)
    return call(
        Operation(
            emit, [along("src", tile)], mask, shape=tile.shape, dtype=kind,
            explicit=dtype is not None,
        )
    )  # fmt: skip


def negative(x: Any, *, dtype: Any = None, mask: Any = None, **kwargs: Any) -> Result:
    """-x."""
    return combine(x, -1.0, "multiply", dtype=dtype, mask=mask)


def logical_not(x: Any, *, dtype: Any = bool, mask: Any = None, **kwargs: Any) -> Result:
    """1 where x is 0, else 0."""
    return combine(x, 0.0, "equal", dtype=dtype, mask=mask)


def invert(x: Any, *, dtype: Any = None, mask: Any = None, **kwargs: Any) -> Result:
    """Every bit of an integer tile turned over."""
    tile = as_tile(x)
    signed = dtypes.numpy_dtype(tile.type_name).kind == "i"
    bits = -1 if signed else 2 ** (8 * tile.itemsize) - 1
    return combine(tile, bits, "bitwise_xor", dtype=dtype, mask=mask)


add = _binary("add", "x + y.")
subtract = _binary("subtract", "x - y.")
multiply = _binary("multiply", "x * y.")
divide = _binary("divide", "x / y.")
maximum = _binary("maximum", "The larger of x and y.")
minimum = _binary("minimum", "The smaller of x and y.")
power = _binary("power", "x to the power y.")
mod = _binary("mod", "x modulo y, with the sign of y.")
fmod = _binary("fmod", "x modulo y, with the sign of x.")
equal = _binary("equal", "True where x == y.", bool)
not_equal = _binary("not_equal", "True where x != y.", bool)
greater = _binary("greater", "True where x > y.", bool)
greater_equal = _binary("greater_equal", "True where x >= y.", bool)
less = _binary("less", "True where x < y.", bool)
less_equal = _binary("less_equal", "True where x <= y.", bool)
logical_and = _binary("logical_and", "True where both are not 0.", bool)
logical_or = _binary("logical_or", "True where either is not 0.", bool)
logical_xor = _binary("logical_xor", "True where exactly one is not 0.", bool)
bitwise_and = _binary("bitwise_and", "Bits set in both.")
bitwise_or = _binary("bitwise_or", "Bits set in either.")
bitwise_xor = _binary("bitwise_xor", "Bits set in one.")
left_shift = _binary("left_shift", "x shifted left by y bits.")
right_shift = _binary("right_shift", "x shifted right by y bits.")

FUNCTIONS = {
    name: _unary(name, f"The activation function {name} of each element, on ScalarE.")
    for name in ACTIVATION_FUNCTIONS
    if name not in ("copy", "identity", "sin", "cos", "tan")
}


# -- the operators of tensors --------------------------------------------------------------------


def _operator(name: str, *, swapped: bool = False) -> Callable[..., Any]:
    def apply(self: Tensor, other: Any) -> Any:
        if isinstance(other, Index):
            if name != "add":
                raise NkiValidationError(
                    f"nl.{name} of a tile of indices and an index tile", allowed="their sum"
                )
            return TileIndex(self, other)
        pair = (other, self) if swapped else (self, other)
        return combine(*pair, name)

    return apply


def _in_place(name: str) -> Callable[..., Any]:
    def apply(self: Tensor, other: Any) -> Tensor:
        if (
            name == "add"
            and self.space is Space.psum
            and isinstance(other, Result)
            and other.settle_in(self, accumulate=True)
        ):
            return self
        assign(self, combine(self, other, name))
        return self

    return apply


_OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "power",
    "mod": "mod", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
    "lshift": "left_shift", "rshift": "right_shift",
}  # fmt: skip
_COMPARISONS = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater",
    "ge": "greater_equal",
}  # fmt: skip


def _comparison(name: str) -> Callable[..., Any]:
    def apply(self: Tensor, other: Any) -> Any:
        if name in ("equal", "not_equal") and not (
            isinstance(other, Tensor) or hasattr(other, "__float__")
        ):
            return (self is other) == (name == "equal")
        return combine(self, other, name, dtype=bool)

    return apply


def _setitem(self: Tensor, key: Any, value: Any) -> None:
    assign(self[key], value)


for _python, _name in _OPERATORS.items():
    setattr(Tensor, f"__{_python}__", _operator(_name))
    setattr(Tensor, f"__r{_python}__", _operator(_name, swapped=True))
    setattr(Tensor, f"__i{_python}__", _in_place(_name))
for _python, _name in _COMPARISONS.items():
    setattr(Tensor, f"__{_python}__", _comparison(_name))
Tensor.__setitem__ = _setitem  # type: ignore[method-assign]
Tensor.__neg__ = lambda self: negative(self)  # type: ignore[attr-defined]
Tensor.__invert__ = lambda self: invert(self)  # type: ignore[attr-defined]
Tensor.astype = lambda self, dtype: copy(self, dtype=dtype)  # type: ignore[attr-defined]
