"""The functions of `nki.language` that take several instructions: rounding, statistics, matmuls.

AWS documents what they compute, not which instructions they issue; ours are the shortest sequences
that compute it on every generation. Reductions and functions go through float32 tiles.
"""

from __future__ import annotations

from typing import Any

from rainshadow import dtypes
from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.memory import Space
from rainshadow.nki import isa
from rainshadow.nki.tile_functions import free_axes, on_chip, tile
from rainshadow.sim.recorder import active_recorder

#: From here on every float32 is a whole number.
_WHOLE_FROM = 2.0**23
#: Bits of a random word that a float32 holds exactly.
_KEPT_BITS = 24


def _scalar_operator(name: str, operand: Any, document: str) -> Any:
    def function(x: AccessPattern, dtype: Any = None) -> AccessPattern:
        x = on_chip(x)
        result = tile(x.shape, dtype or x.dtype)
        isa.tensor_scalar(result, x, name, operand)
        return result

    function.__doc__ = document
    return function


negative = _scalar_operator("multiply", -1.0, "-x.")
logical_not = _scalar_operator("equal", 0.0, "1 where x is 0, else 0.")


def invert(x: AccessPattern, dtype: Any = None) -> AccessPattern:
    """Every bit of an integer tile turned over."""
    x = on_chip(x)
    signed = dtypes.numpy_dtype(x.dtype).kind == "i"
    result = tile(x.shape, dtype or x.dtype)
    isa.tensor_scalar(result, x, "bitwise_xor", -1 if signed else 2 ** (8 * x.itemsize) - 1)
    return result


def _rounded(x: AccessPattern, comparison: str, correction: str) -> AccessPattern:
    """x rounded to nearest by a cast to int32, then corrected where `comparison`(rounded, x)."""
    whole, result = tile(x.shape, "int32"), tile(x.shape, "float32")
    isa.tensor_copy(whole, x)
    isa.tensor_copy(result, whole)
    beyond = tile(x.shape, "float32")
    isa.tensor_tensor(beyond, result, x, comparison)
    isa.tensor_tensor(result, result, beyond, correction)
    return result


def _rounding(name: str, document: str) -> Any:
    def function(x: AccessPattern, dtype: Any = None) -> AccessPattern:
        x = on_chip(x)
        if name == "ceil":
            rounded = _rounded(x, "less", "add")
        else:
            rounded = _rounded(x, "greater", "subtract")
        if name == "trunc":
            isa.tensor_copy_predicated(rounded, _rounded(x, "less", "add"), _mask(x, "less", 0.0))
        # What int32 does not hold is whole already, or NaN.
        magnitude = tile(x.shape, "float32")
        isa.activation(magnitude, "abs", x)
        original = tile(x.shape, "float32")
        isa.tensor_copy(original, x)
        small = _mask(magnitude, "less", _WHOLE_FROM)
        isa.tensor_copy_predicated(rounded, original, small, reverse_pred=True)
        return _cast(rounded, dtype or x.dtype)

    function.__name__ = name
    function.__doc__ = document
    return function


ceil = _rounding("ceil", "The smallest whole number not below x.")
floor = _rounding("floor", "The largest whole number not above x.")
trunc = _rounding("trunc", "x without its fraction.")


def _mask(x: AccessPattern, comparison: str, number: float) -> AccessPattern:
    result = tile(x.shape, "uint8")
    isa.tensor_scalar(result, x, comparison, number)
    return result


def _cast(x: AccessPattern, dtype: Any) -> AccessPattern:
    name = dtypes.canonical(dtype)
    if name == x.dtype and x.space is Space.sbuf:
        return x
    result = tile(x.shape, name)
    isa.tensor_copy(result, x)
    return result


def where(condition: AccessPattern, x: Any, y: Any, dtype: Any = None) -> AccessPattern:
    """x where condition is not 0, else y; both tiles of one shape, or numbers."""
    condition = on_chip(condition)
    given = next((value for value in (x, y) if isinstance(value, AccessPattern)), condition)
    result = tile(condition.shape, dtype or given.dtype)
    for value, reverse in ((x, False), (y, True)):
        source = value
        if isinstance(value, AccessPattern):
            source = _cast(on_chip(value), result.dtype)
        predicate = _mask(condition, "not_equal", 0.0)
        isa.tensor_copy_predicated(result, source, predicate, reverse_pred=reverse)
    return result


def _reduced(x: AccessPattern, operator: str, axes: tuple[int, ...]) -> AccessPattern:
    """float32 [P, kept..., 1...]."""
    kept = tuple(1 if axis in axes else extent for axis, extent in enumerate(x.shape))
    result = tile(kept, "float32")
    isa.tensor_reduce(result, operator, x, axes)
    return result


def _squeezed(x: AccessPattern, axes: tuple[int, ...], keepdims: bool) -> AccessPattern:
    if keepdims or len(axes) == x.ndim - 1:
        return x if keepdims else x.reshape((x.shape[0], 1))
    return x.reshape(tuple(n for axis, n in enumerate(x.shape) if axis not in axes))


def _count(x: AccessPattern, axes: tuple[int, ...]) -> int:
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    return count


def mean(x: AccessPattern, axis: Any, dtype: Any = None, keepdims: bool = False) -> AccessPattern:
    """Mean over the last free axes, in float32."""
    x = on_chip(x)
    axes = free_axes(x, axis)
    result = _mean(x, axes)
    return _squeezed(_cast(result, dtype or x.dtype), axes, keepdims)


def _mean(x: AccessPattern, axes: tuple[int, ...]) -> AccessPattern:
    total = _reduced(x, "add", axes)
    isa.tensor_scalar(total, total, "multiply", 1.0 / _count(x, axes))
    return total


def var(x: AccessPattern, axis: Any, dtype: Any = None, keepdims: bool = False) -> AccessPattern:
    """Variance over the last free axes, which stay with size 1 whatever keepdims says."""
    x = on_chip(x)
    axes = free_axes(x, axis)
    centred = tile(x.shape, "float32")
    isa.tensor_tensor(centred, x, _mean(x, axes).broadcast_to(x.shape), "subtract")
    isa.tensor_tensor(centred, centred, centred, "multiply")
    return _cast(_mean(centred, axes), dtype or x.dtype)


def all(x: AccessPattern, axis: Any, dtype: Any = None) -> AccessPattern:
    """1 where every element along the last free axes is not 0, else 0."""
    x = on_chip(x)
    axes = free_axes(x, axis)
    flags = tile(x.shape, "float32")
    isa.tensor_scalar(flags, x, "not_equal", 0.0)
    return _squeezed(_cast(_reduced(flags, "minimum", axes), dtype or x.dtype), axes, False)


def softmax(x: AccessPattern, axis: Any = -1, dtype: Any = None) -> AccessPattern:
    """exp(x - max) / its sum over the last free axes."""
    x = on_chip(x)
    axes = free_axes(x, axis)
    work = tile(x.shape, "float32")
    isa.tensor_tensor(work, x, _reduced(x, "maximum", axes).broadcast_to(x.shape), "subtract")
    isa.activation(work, "exp", work)
    total = _reduced(work, "add", axes)
    isa.reciprocal(total, total)
    result = tile(x.shape, dtype or x.dtype)
    isa.tensor_tensor(result, work, total.broadcast_to(x.shape), "multiply")
    return result


def rms_norm(
    x: AccessPattern, w: AccessPattern, axis: Any, n: int, epsilon: float = 1e-6,
    dtype: Any = None, compute_dtype: Any = None,
) -> AccessPattern:  # fmt: skip
    """x / sqrt(sum of squares / n + epsilon) * w."""
    x, w = on_chip(x), on_chip(w)
    axes = free_axes(x, axis)
    work = tile(x.shape, compute_dtype or "float32")
    isa.tensor_tensor(work, x, x, "multiply")
    scale = _reduced(work, "add", axes)
    isa.tensor_scalar(scale, scale, "multiply", 1.0 / n, op1="add", operand1=epsilon)
    isa.activation(scale, "rsqrt", scale)
    isa.tensor_tensor(work, x, scale.broadcast_to(x.shape), "multiply")
    result = tile(x.shape, dtype or x.dtype)
    isa.tensor_tensor(result, work, w.broadcast_to(x.shape), "multiply")
    return result


def transpose(x: AccessPattern, dtype: Any = None) -> AccessPattern:
    """A 2-D tile with partitions and free axis exchanged: in PSUM, or in SBUF if dtype differs."""
    x = on_chip(x)
    flat = x if x.ndim == 2 else x.reshape((x.shape[0], x.elements))
    result = active_recorder().allocate((flat.shape[1], flat.shape[0]), x.dtype, Space.psum)
    isa.nc_transpose(result, flat)
    return result if dtype is None or dtypes.canonical(dtype) == x.dtype else _cast(result, dtype)


def matmul(x: AccessPattern, y: AccessPattern, transpose_x: bool = False) -> AccessPattern:
    """x @ y in PSUM, or x.T @ y with transpose_x, which spares the transpose of x."""
    stationary = x if transpose_x else _cast(transpose(x), x.dtype)
    shape = (stationary.shape[1], y.shape[1])
    result = active_recorder().allocate(shape, "float32", Space.psum)
    isa.nc_matmul(result, stationary, y, accumulate=False)
    return result


def load_transpose2d(src: AccessPattern, dtype: Any = None) -> AccessPattern:
    """An SBUF tile [columns, rows] of an HBM tensor [rows, columns]."""
    if src.ndim != 2:
        raise NkiValidationError(f"load_transpose2d of shape {src.shape}", allowed="2 axes")
    rows, columns = src.shape
    result = tile((columns, rows), dtype or src.dtype)
    step = int(active_recorder().core.tensor.rows.value)
    for start in range(0, rows, step):
        stop = start + step if start + step < rows else rows
        block = tile((stop - start, columns), src.dtype)
        isa.dma_copy(block, src[start:stop, :])
        isa.tensor_copy(result[:, start:stop], transpose(block))
    return result


def gather_flattened(
    data: AccessPattern, indices: AccessPattern, axis: int = 0, dtype: Any = None
) -> AccessPattern:
    """data's elements at the flat positions `indices` of the same partition."""
    if axis != 0:
        raise NkiValidationError(
            f"gather_flattened: axis {axis}", allowed="0: the free axes are flattened"
        )
    result = tile(indices.shape, data.dtype)
    isa.nc_n_gather(result, data, _cast(indices, "uint32"))
    return _cast(result, dtype or data.dtype)


def dropout(x: AccessPattern, rate: Any, dtype: Any = None) -> AccessPattern:
    """x with each element zero with probability rate: a number, or [P, 1]."""
    x = on_chip(x)
    result = tile(x.shape, x.dtype)
    isa.dropout(result, x, rate)
    return _cast(result, dtype or x.dtype)


def random_seed(seed: AccessPattern) -> None:
    """Seed VectorE's generator from a tensor [1, 1] of a 32-bit dtype."""
    isa.set_rng_seed(seed)


def rand(shape: Any, dtype: Any, buffer: Any = Space.sbuf, name: str = "") -> AccessPattern:
    """A new tensor of uniform numbers from 0 to 1: rand2 where the chip has it, else scaled rng."""
    recorder = active_recorder()
    space = Space(buffer) if isinstance(buffer, str) else buffer
    result = recorder.allocate(shape, dtypes.canonical(dtype), space, name)
    target = result if space.on_chip else tile(result.shape, result.dtype)
    if recorder.chip.generation == "gen4":
        isa.rand2(target, 0.0, 1.0)
    else:
        bits = tile(target.shape, "uint32")
        isa.rng(bits)
        isa.tensor_scalar(bits, bits, "right_shift", 32 - _KEPT_BITS)
        isa.tensor_scalar(target, bits, "multiply", 2.0**-_KEPT_BITS)
    if target is not result:
        isa.dma_copy(result, target)
    return result
