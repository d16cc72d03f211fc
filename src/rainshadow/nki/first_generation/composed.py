"""The functions of the first generation's `nl` that take several instructions, or none."""

from __future__ import annotations

from typing import Any

from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.memory import Space
from rainshadow.nki import composed_functions as newer
from rainshadow.nki import isa, tile_functions
from rainshadow.nki.first_generation import elementwise, matrix, moves, reductions
from rainshadow.nki.first_generation.arithmetic import (
    FUNCTIONS,
    as_tile,
    combine,
    copy,
    require_tensor,
    spread,
)
from rainshadow.nki.first_generation.creation import full
from rainshadow.nki.first_generation.memory import Memory, Touch
from rainshadow.nki.first_generation.operands import result
from rainshadow.nki.first_generation.operation import Operand, Result, along, kind_of
from rainshadow.nki.first_generation.state import current
from rainshadow.nki.first_generation.tensor import Tensor


def broadcast_to(src: Tensor, shape: Any, **kwargs: Any) -> Tensor:
    """Axes of size 1 repeated: free axes as a view, the partition axis by a copy."""
    tile, target = require_tensor(src, "src"), tuple(int(extent) for extent in shape)
    if tile.on_chip and tile.ndim == len(target) and tile.shape[0] == 1 < target[0]:
        tile = spread(tile, target[0])
    return tile.stretched(target)


Tensor.broadcast_to = broadcast_to  # type: ignore[attr-defined]


def expand_dims(data: Tensor, axis: Any) -> Tensor:
    """data with new axes of size 1."""
    return require_tensor(data, "data").expand_dims(axis)


def _reduction(name: str, op: str, document: str) -> Any:
    def function(
        x: Any, axis: Any, *, dtype: Any = None, mask: Any = None, keepdims: bool = False, **_: Any
    ) -> Result:
        return reductions.tensor_reduce(op, x, axis, mask=mask, dtype=dtype, keepdims=keepdims)

    function.__name__ = name
    function.__doc__ = document
    return function


sum = _reduction("sum", "add", "Sum over free axes.")
max = _reduction("max", "maximum", "Largest over free axes.")
min = _reduction("min", "minimum", "Smallest over free axes.")
prod = _reduction("prod", "multiply", "Product over free axes.")


def all(x: Any, axis: Any, *, dtype: Any = bool, mask: Any = None, **kwargs: Any) -> Result:
    """True where every element along free axes is not 0."""
    flags = combine(x, 0.0, "not_equal", dtype="float32", mask=mask)
    return reductions.tensor_reduce("minimum", flags, axis, dtype=dtype, mask=mask)


def mean(
    x: Any, axis: Any, *, dtype: Any = None, mask: Any = None, keepdims: bool = False, **_: Any
) -> Result:
    """Mean over free axes, in float32."""
    tile = as_tile(x)
    kind = dtype or (tile.dtype if tile.dtype.kind not in "iub" else "float32")
    total = reductions.tensor_reduce(
        "add", tile, axis, dtype="float32", mask=mask, keepdims=keepdims
    )
    return combine(total, 1.0 / _count(tile, axis), "multiply", dtype=kind)


def _count(tile: Tensor, axis: Any) -> int:
    count = 1
    for each in reductions.free_axes(tile, axis):
        count *= tile.shape[each]
    return count


def var(x: Any, axis: Any, *, dtype: Any = None, mask: Any = None, **kwargs: Any) -> Result:
    """Variance over free axes, in float32."""
    tile = as_tile(x)
    kind = dtype or (tile.dtype if tile.dtype.kind not in "iub" else "float32")
    average = mean(tile, axis, dtype="float32", mask=mask, keepdims=True)
    apart = combine(tile, average, "subtract", dtype="float32", mask=mask)
    squares = combine(apart, apart, "multiply", mask=mask)
    return mean(squares, axis, dtype=kind, mask=mask)


def softmax(
    x: Any, axis: Any, *, dtype: Any = None, compute_dtype: Any = None, mask: Any = None, **_: Any
) -> Result:
    """exp(x - max) / its sum over free axes."""
    tile = as_tile(x)
    work = kind_of(compute_dtype or dtype, "float32")
    largest = max(tile, axis, dtype="float32", mask=mask, keepdims=True)
    apart = combine(tile, largest, "subtract", dtype=work, mask=mask)
    powers = FUNCTIONS["exp"](apart, mask=mask)
    total = sum(powers, axis, dtype="float32", mask=mask, keepdims=True)
    inverse = elementwise.reciprocal(total)
    return combine(powers, inverse, "multiply", dtype=kind_of(dtype, tile.type_name), mask=mask)


def rms_norm(
    x: Any,
    w: Any,
    axis: Any,
    n: int,
    epsilon: float = 1e-6,
    *,
    dtype: Any = None,
    compute_dtype: Any = None,
    mask: Any = None,
    **kwargs: Any,
) -> Result:
    """x / sqrt(sum of squares / n + epsilon) * w."""
    tile = as_tile(x)
    squares = combine(tile, tile, "multiply", dtype=compute_dtype or "float32", mask=mask)
    total = sum(squares, axis, dtype="float32", mask=mask, keepdims=True)
    scale = elementwise.tensor_scalar(total, "multiply", 1.0 / n, op1="add", operand1=epsilon)
    inverse = FUNCTIONS["rsqrt"](scale)
    normal = combine(tile, inverse, "multiply", dtype=compute_dtype or "float32", mask=mask)
    return combine(normal, w, "multiply", dtype=kind_of(dtype, tile.type_name), mask=mask)


def where(
    condition: Any, x: Any, y: Any, *, dtype: Any = None, mask: Any = None, **kwargs: Any
) -> Tensor:
    """x where condition is not 0, else y; tiles that broadcast to condition's shape, or numbers."""
    test = as_tile(condition)
    given = next((value for value in (x, y) if isinstance(value, Tensor)), test)
    kind = kind_of(dtype, given.type_name)
    shape = _common([value for value in (test, x, y) if isinstance(value, Tensor)])
    current().flush()
    selected = Tensor.of(Memory(shape, kind, Space.sbuf))
    predicate = combine(broadcast_to(test, shape), 0.0, "not_equal", dtype="uint8", mask=mask)
    for value, reverse in ((x, False), (y, True)):
        source = value
        if isinstance(value, Tensor):
            tile = broadcast_to(as_tile(value), shape)
            source = tile if tile.type_name == kind else copy(tile, dtype=kind, mask=mask)
        elementwise.tensor_copy_predicated(
            src=source, dst=selected, predicate=predicate, reverse_pred=reverse, mask=mask
        )
    return selected


def _common(tiles: list[Tensor]) -> tuple[int, ...]:
    shape = tiles[0].shape
    for tile in tiles[1:]:
        if tile.ndim != len(shape):
            raise NkiValidationError(
                f"nl.where of tiles {shape} and {tile.shape}", allowed="as many axes in each"
            )
        shape = tuple(a if b == 1 else b for a, b in zip(shape, tile.shape, strict=True))
    return shape


def transpose(x: Any, *, dtype: Any = None, mask: Any = None, **kwargs: Any) -> Result:
    """A 2-D tile with partitions and free axis exchanged, by TensorE."""
    return matrix.nc_transpose(as_tile(x), dtype=dtype, mask=mask)


def matmul(x: Any, y: Any, *, transpose_x: bool = False, mask: Any = None, **kwargs: Any) -> Result:
    """x @ y in PSUM, or x.T @ y with transpose_x, which spares the transpose of x."""
    left, right = as_tile(x), as_tile(y)
    if not transpose_x:
        left = copy(transpose(left))
    return matrix.nc_matmul(left, right, mask=mask)


def device_print(prefix: str, x: Any, *, mask: Any = None, **kwargs: Any) -> None:
    """Print what a tile holds."""
    current().flush()
    view: AccessPattern = require_tensor(x, "x").window(Touch.read)
    print(prefix, view.array if view.buffer_.storage is not None else view)


def _through_tiles(name: str, function: Any, document: str) -> Any:
    """A function that takes several instructions, whose last tile is copied to the result."""

    def apply(x: Any, *, dtype: Any = None, mask: Any = None, **kwargs: Any) -> Result:
        tile = as_tile(x, f"the operand of nl.{name}")

        def emit(dst: AccessPattern, data: AccessPattern) -> None:
            isa.tensor_copy(dst, function(data, dst.dtype))

        return result(emit, [along("data", tile)], mask, tile.shape, dtype, tile.type_name)

    apply.__name__ = name
    apply.__doc__ = document
    return apply


ceil = _through_tiles("ceil", newer.ceil, "The smallest whole number not below x.")
floor = _through_tiles("floor", newer.floor, "The largest whole number not above x.")
trunc = _through_tiles("trunc", newer.trunc, "x without its fraction.")
sin = _through_tiles("sin", tile_functions.sin, "Sine, of any x.")
cos = _through_tiles("cos", tile_functions.cos, "Cosine, of any x.")
tan = _through_tiles("tan", tile_functions.tan, "Tangent.")


def gather_flattened(
    data: Any, indices: Any, *, mask: Any = None, dtype: Any = None, **kwargs: Any
) -> Result:
    """data's elements at flat positions `indices` of the same partition."""
    tile, where = as_tile(data, "data"), as_tile(indices, "indices")

    def emit(dst: AccessPattern, data: AccessPattern, indices: AccessPattern) -> None:
        isa.nc_n_gather(dst, data, indices)

    operands = [Operand("data", tile, (0,) + (None,) * (tile.ndim - 1)), along("indices", where)]
    return result(emit, operands, mask, where.shape, dtype, tile.type_name)


def dropout(x: Any, rate: Any, *, dtype: Any = None, mask: Any = None, **kwargs: Any) -> Result:
    """x with each element zero with probability rate: a number, or [P, 1]."""
    return moves.dropout(as_tile(x), rate, dtype=dtype, mask=mask)


def random_seed(seed: Any, *, mask: Any = None, **kwargs: Any) -> None:
    """Seed VectorE's generator from a 32-bit number, or a tile of one."""
    tile = seed if isinstance(seed, Tensor) else full((1, 1), seed, "int32")
    current().flush()
    isa.set_rng_seed(tile.window(Touch.read))


def rand(shape: Any, dtype: Any = "float32", **kwargs: Any) -> Tensor:
    """A new tile of uniform numbers from 0 to 1."""
    current().flush()
    return Tensor.over(newer.rand(tuple(int(extent) for extent in shape), dtype))
