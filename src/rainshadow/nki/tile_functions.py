"""The tile functions of `nki.language`: each allocates a result in SBUF and issues instructions.

Their names are also what `op=` of a `nki.isa` instruction takes.
"""

from __future__ import annotations

import math
from typing import Any

from rainshadow import dtypes
from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.memory import Space
from rainshadow.nki import isa, spread
from rainshadow.sim.recorder import active_recorder

_larger, _smaller = max, min
#: What TensorE multiplies by one without rounding.
_MATMUL_DTYPES = ("float32", "bfloat16", "float16")
#: The largest float32 that is not above pi.
_PI = 3.1415925


def tile(shape: tuple[int, ...], dtype: Any) -> AccessPattern:
    """A new SBUF tile."""
    return active_recorder().allocate(shape, dtypes.canonical(dtype), Space.sbuf)


def on_chip(x: AccessPattern) -> AccessPattern:
    """x, loaded into SBUF if it lies in HBM."""
    return x if x.space.on_chip else load(x)


def load(src: AccessPattern, dtype: Any = None) -> AccessPattern:
    """A new SBUF tile with the elements of an HBM tensor; axis 0 becomes the partition axis."""
    loaded = tile(src.shape, dtype or src.dtype)
    isa.dma_copy(loaded, src)
    return loaded


def store(dst: AccessPattern, value: AccessPattern) -> None:
    """Write a tile to HBM; a PSUM tile goes through SBUF."""
    if value.space is Space.psum:
        copied = tile(value.shape, value.dtype)
        isa.tensor_copy(copied, value)
        value = copied
    isa.dma_copy(dst, value)


def broadcast_to(x: AccessPattern, shape: Any, dtype: Any = None) -> AccessPattern:
    """Free axes of size 1 repeated to `shape`, as a view; a [1, ...] tile is copied to P rows."""
    target = tuple(shape)
    if dtype is not None and dtypes.canonical(dtype) != x.dtype:
        x = copy(x, dtype)
    if x.shape[0] == target[0]:
        return x.broadcast_to(target)
    if x.shape[0] != 1:
        raise NkiValidationError(f"broadcast_to({x.shape} -> {target})", allowed="axes of size 1")
    flat = x.reshape((1, x.elements)) if x.ndim > 2 else x
    recorder = active_recorder()
    bank = recorder.core.psum.bank_bytes_per_partition.value
    width = int(bank) // dtypes.itemsize("float32")
    if x.ndim == 2 and x.elements <= width and dtypes.canonical(dtype or x.dtype) == "float32":
        return spread.keep_in_psum(recorder, _on_all_rows(flat, target[0])).broadcast_to(target)
    result = tile((target[0], *x.shape[1:]), dtype or x.dtype)
    out = result.reshape((target[0], x.elements)) if x.ndim > 2 else result
    for start in range(0, x.elements, width):
        stop = _smaller(start + width, x.elements)
        isa.tensor_copy(out[:, start:stop], _on_all_rows(flat[:, start:stop], target[0]))
    return result.broadcast_to(target)


def _on_all_rows(row: AccessPattern, partitions: int) -> AccessPattern:
    """A float32 PSUM tile with the row, of one PSUM bank at most, on each partition."""
    recorder = active_recorder()
    if row.dtype not in _MATMUL_DTYPES or row.space is not Space.sbuf:
        converted = tile(row.shape, "float32")
        isa.tensor_copy(converted, row)
        row = converted
    ones = spread.ones_of(recorder, partitions, row.dtype, lambda made: isa.memset(made, 1.0))
    result = recorder.allocate((partitions, row.elements), "float32", Space.psum)
    isa.nc_matmul(result, ones, row, accumulate=False)
    return result


def _binary(name: str, document: str) -> Any:
    def function(x: Any, y: Any, dtype: Any = None) -> AccessPattern:
        if not isinstance(x, AccessPattern):
            return _with_scalar(name, on_chip(y), x, dtype, reverse=True)
        if not isinstance(y, AccessPattern):
            return _with_scalar(name, on_chip(x), y, dtype, reverse=False)
        return _with_tensor(name, on_chip(x), on_chip(y), dtype)

    function.__name__ = name
    function.__doc__ = document
    return function


def _with_scalar(
    name: str, x: AccessPattern, number: Any, dtype: Any, *, reverse: bool
) -> AccessPattern:
    result = tile(x.shape, dtype or x.dtype)
    isa.tensor_scalar(result, x, name, number, reverse)
    return result


def _with_tensor(name: str, x: AccessPattern, y: AccessPattern, dtype: Any) -> AccessPattern:
    shape = tuple(_larger(a, b) for a, b in zip(x.shape, y.shape, strict=True))
    result = tile(shape, dtype or x.dtype)
    if x.elements > 1 and y.elements == 1 and y.shape[0] == shape[0] and y.dtype == "float32":
        isa.tensor_scalar(result, x, name, y.reshape((y.shape[0], 1)))
    else:
        isa.tensor_tensor(result, broadcast_to(x, shape), broadcast_to(y, shape), name)
    return result


def _unary(name: str, document: str) -> Any:
    def function(x: AccessPattern, dtype: Any = None) -> AccessPattern:
        x = on_chip(x)
        result = tile(x.shape, dtype or x.dtype)
        isa.activation(result, name, x)
        return result

    function.__name__ = name
    function.__doc__ = document
    return function


def free_axes(x: AccessPattern, axis: Any) -> tuple[int, ...]:
    """An axis or several, counted from the front."""
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    return tuple(sorted(a + x.ndim if a < 0 else a for a in axes))


def sin(x: AccessPattern, dtype: Any = None) -> AccessPattern:
    """Sine, of any x: reduced to [-pi, pi], which is all that ScalarE's table covers."""
    return _wave(x, 0.0, dtype)


def cos(x: AccessPattern, dtype: Any = None) -> AccessPattern:
    """Cosine, as a sine a quarter of a period ahead."""
    return _wave(x, math.pi / 2, dtype)


def _wave(x: AccessPattern, ahead: float, dtype: Any) -> AccessPattern:
    """sin(x + ahead): periods are counted by a cast to int32, which rounds to nearest."""
    x = on_chip(x)
    phase, periods = tile(x.shape, "float32"), tile(x.shape, "int32")
    isa.tensor_scalar(phase, x, "add", ahead)
    isa.tensor_scalar(periods, phase, "multiply", 1 / (2 * math.pi))
    isa.scalar_tensor_tensor(phase, periods, "multiply", -2 * math.pi, "add", phase)
    isa.tensor_scalar(phase, phase, "maximum", -_PI, op1="minimum", operand1=_PI)
    result = tile(x.shape, dtype or x.dtype)
    isa.activation(result, "sin", phase)
    return result


def _reduction(name: str, operator: str, document: str) -> Any:
    def function(
        x: AccessPattern, axis: Any, dtype: Any = None, keepdims: bool = False
    ) -> AccessPattern:
        x = on_chip(x)
        axes = free_axes(x, axis)
        kept = tuple(1 if i in axes else extent for i, extent in enumerate(x.shape))
        result = tile(kept, dtype or x.dtype)
        isa.tensor_reduce(result, operator, x, axes)
        if keepdims or len(axes) == x.ndim - 1:
            return result.reshape(kept if keepdims else (x.shape[0], 1))
        return result.reshape(tuple(e for i, e in enumerate(kept) if i not in axes))

    function.__name__ = name
    function.__doc__ = document
    return function


add = _binary("add", "x + y.")
subtract = _binary("subtract", "x - y.")
multiply = _binary("multiply", "x * y.")
divide = _binary("divide", "x / y.")
maximum = _binary("maximum", "The larger of x and y.")
minimum = _binary("minimum", "The smaller of x and y.")
abs_max = _binary("abs_max", "x where |x| > |y|, else y.")
abs_min = _binary("abs_min", "x where |x| < |y|, else y.")
power = _binary("power", "x to the power y.")
mod = _binary("mod", "x modulo y, with the sign of y.")
fmod = _binary("fmod", "x modulo y, with the sign of x.")
equal = _binary("equal", "1 where x == y, else 0.")
not_equal = _binary("not_equal", "1 where x != y, else 0.")
greater = _binary("greater", "1 where x > y, else 0.")
greater_equal = _binary("greater_equal", "1 where x >= y, else 0.")
less = _binary("less", "1 where x < y, else 0.")
less_equal = _binary("less_equal", "1 where x <= y, else 0.")
logical_and = _binary("logical_and", "1 where both are not 0.")
logical_or = _binary("logical_or", "1 where either is not 0.")
logical_xor = _binary("logical_xor", "1 where exactly one is not 0.")
bitwise_and = _binary("bitwise_and", "Bits set in both.")
bitwise_or = _binary("bitwise_or", "Bits set in either.")
bitwise_xor = _binary("bitwise_xor", "Bits set in one.")
left_shift = _binary("left_shift", "x shifted left by y bits.")
right_shift = _binary("right_shift", "x shifted right by y bits.")

exp = _unary("exp", "e to the power x.")
log = _unary("log", "Natural logarithm.")
sqrt = _unary("sqrt", "Square root.")
reciprocal = _unary("reciprocal", "1 / x.")
square = _unary("square", "x * x.")
tanh = _unary("tanh", "Hyperbolic tangent.")
sigmoid = _unary("sigmoid", "Logistic function.")
relu = _unary("relu", "max(x, 0).")
gelu = _unary("gelu", "x times the normal distribution function of x.")
gelu_dx = _unary("gelu_dx", "Derivative of gelu.")
gelu_apprx_tanh = _unary("gelu_apprx_tanh", "gelu by its tanh approximation.")
gelu_apprx_sigmoid = _unary("gelu_apprx_sigmoid", "gelu by its sigmoid approximation.")
gelu_apprx_sigmoid_dx = _unary("gelu_apprx_sigmoid_dx", "Derivative of gelu_apprx_sigmoid.")
silu = _unary("silu", "x times sigmoid(x).")
silu_dx = _unary("silu_dx", "Derivative of silu.")
softplus = _unary("softplus", "log(1 + e^x).")
mish = _unary("mish", "x tanh(softplus(x)).")
erf = _unary("erf", "Error function.")
erf_dx = _unary("erf_dx", "Derivative of erf.")
prelu = _unary("prelu", "x, times a slope where x < 0.")


def rsqrt(x: AccessPattern, dtype: Any = None) -> AccessPattern:
    """1 / square root, by GpSimdE since NKI 0.5 (in PSUM by ScalarE, as before)."""
    x = on_chip(x)
    result = tile(x.shape, dtype or x.dtype)
    if x.space is Space.psum:
        isa.activation(result, "rsqrt", x)
    else:
        isa.tensor_scalar(result, x, "rsqrt", 0.0, engine=isa.engine.gpsimd)
    return result


def tan(x: AccessPattern, dtype: Any = None) -> AccessPattern:
    """Tangent: sine over cosine."""
    ratio = tile(x.shape, "float32")
    isa.reciprocal(ratio, cos(x, "float32"))
    result = tile(x.shape, dtype or x.dtype)
    isa.tensor_tensor(result, sin(x, "float32"), ratio, "multiply")
    return result


arctan = _unary("arctan", "Inverse tangent.")
sign = _unary("sign", "-1, 0 or 1.")
abs = _unary("abs", "|x|.")


def copy(x: AccessPattern, dtype: Any = None) -> AccessPattern:
    """x in a new SBUF tile, bit for bit where the dtype stays."""
    x = on_chip(x)
    result = tile(x.shape, dtype or x.dtype)
    isa.tensor_copy(result, x)
    return result


sum = _reduction("sum", "add", "Sum over free axes.")
max = _reduction("max", "maximum", "Largest over free axes.")
min = _reduction("min", "minimum", "Smallest over free axes.")
prod = _reduction("prod", "multiply", "Product over free axes.")
