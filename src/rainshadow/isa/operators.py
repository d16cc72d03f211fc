"""Knows what the engines' operators compute: ALU operators and activation functions, in NumPy.

Instructions decide operand types and rounding. Sources: AWS Neuron docs 2.32, "Supported math
operators" and "Supported activation functions" of the NKI API reference (names), and the usual
definition of each function. The chip evaluates activation functions by piecewise polynomials;
here they are exact in float32, which docs/model.md names as a difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa.special import erf

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class AluOperator:
    """A two-operand operator of VectorE, GpSimdE and (partly) ScalarE.

    kind: "arithmetic" and "compare" compute in float32, "bitvec" on integer bit patterns without
    casts. function(a, b, out=None).  unary: it looks at `a` alone, the tensor.
    """

    name: str
    kind: str
    function: Callable[..., Array]
    unary: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ActivationFunction:
    """A function of ScalarE: function(x) in float32; `table` names its lookup table.

    Functions with table "" need no table (they pass data through). takes_slope: the function has
    a second argument, nki.isa.activate2's relu_param.  valid: the inputs that AWS documents, where
    not all are; of reciprocal their size.
    """

    name: str
    function: Callable[..., Array]
    table: str
    takes_slope: bool = False
    valid: tuple[float, float] | None = None


def _by_size(compare: Callable[..., Any]) -> Callable[..., Array]:
    """The operand whose size `compare` prefers, with its sign; b where both have one size."""

    def apply(a: Any, b: Any, out: Array | None = None) -> Array:
        result = np.where(compare(np.abs(a), np.abs(b)), a, b)
        if out is None:
            return result
        out[...] = result
        return out

    return apply


def _logical(function: Callable[..., Any]) -> Callable[..., Array]:
    def apply(a: Any, b: Any, out: Array | None = None) -> Array:
        result = function(np.asarray(a) != 0, np.asarray(b) != 0).astype(np.float32)
        if out is None:
            return result
        out[...] = result
        return out

    return apply


def _compare(function: Callable[..., Any]) -> Callable[..., Array]:
    def apply(a: Any, b: Any, out: Array | None = None) -> Array:
        if out is None:
            return function(a, b).astype(np.float32)
        out[...] = function(a, b)
        return out

    return apply


def _first(a: Any, b: Any, out: Array | None = None) -> Array:
    if out is None:
        return np.broadcast_to(a, np.broadcast_shapes(np.shape(a), np.shape(b)))
    out[...] = a
    return out


def _unary(name: str, kind: str, function: Callable[[Any], Any]) -> AluOperator:
    def apply(a: Any, b: Any = None, out: Array | None = None) -> Array:
        # Reversed, a is the number beside the tensor b.
        result = function(a if b is None else _first(a, b))
        if out is None:
            return result  # type: ignore[no-any-return]
        out[...] = result
        return out

    return AluOperator(name, kind, apply, unary=True)


def _shift_right(a: Any, b: Any, out: Array | None = None) -> Array:
    # Bits, not numbers: zeros come in from the left, whatever the sign (the only right shift).
    kind = np.result_type(a, b)
    bits = np.dtype(f"u{kind.itemsize}")
    result = np.right_shift(_as(a, kind).view(bits), _as(b, kind).view(bits)).view(kind)
    if out is None:
        return result
    out[...] = result
    return out


def _as(value: Any, dtype: Any) -> Array:
    return np.asarray(value).astype(dtype)


def _power(a: Any, b: Any, out: Array | None = None) -> Array:
    return np.power(a, b, out=out)


def _average(a: Any, b: Any, out: Array | None = None) -> Array:
    raise NkiValidationError(
        "nl.average between two operands",
        allowed="nl.average of partitions",
        fix="use nisa.tensor_partition_reduce, or nl.add and a multiplication",
    )


def _alu(name: str, kind: str, function: Callable[..., Any]) -> AluOperator:
    return AluOperator(name, kind, function)


ALU_OPERATORS: dict[str, AluOperator] = {
    operator.name: operator
    for operator in (
        _alu("add", "arithmetic", np.add),
        _alu("subtract", "arithmetic", np.subtract),
        _alu("multiply", "arithmetic", np.multiply),
        _alu("divide", "arithmetic", np.divide),
        _alu("maximum", "arithmetic", np.maximum),
        _alu("minimum", "arithmetic", np.minimum),
        _alu("abs_max", "arithmetic", _by_size(np.greater)),
        _alu("abs_min", "arithmetic", _by_size(np.less)),
        _alu("power", "arithmetic", _power),
        _unary("abs", "arithmetic", np.abs),
        _unary("square", "arithmetic", np.square),
        _unary("relu", "arithmetic", lambda a: np.maximum(a, 0)),
        _unary("rsqrt", "arithmetic", lambda a: np.float32(1) / np.sqrt(a)),
        _unary("reciprocal", "arithmetic", np.reciprocal),
        _unary("invert", "bitvec", np.invert),
        _alu("average", "arithmetic", _average),
        _alu("mod", "arithmetic", np.mod),
        _alu("fmod", "arithmetic", np.fmod),
        _alu("bypass", "arithmetic", _first),
        _alu("equal", "compare", _compare(np.equal)),
        _alu("not_equal", "compare", _compare(np.not_equal)),
        _alu("greater", "compare", _compare(np.greater)),
        _alu("greater_equal", "compare", _compare(np.greater_equal)),
        _alu("less", "compare", _compare(np.less)),
        _alu("less_equal", "compare", _compare(np.less_equal)),
        _alu("logical_and", "compare", _logical(np.logical_and)),
        _alu("logical_or", "compare", _logical(np.logical_or)),
        _alu("logical_xor", "compare", _logical(np.logical_xor)),
        _alu("bitwise_and", "bitvec", np.bitwise_and),
        _alu("bitwise_or", "bitvec", np.bitwise_or),
        _alu("bitwise_xor", "bitvec", np.bitwise_xor),
        _alu("left_shift", "bitvec", np.left_shift),
        _alu("right_shift", "bitvec", _shift_right),
        _alu("logical_shift_left", "bitvec", np.left_shift),
        _alu("logical_shift_right", "bitvec", _shift_right),
    )
}

#: Operators of NeuronCore-v4 only (release notes of NKI 0.4.0).
SINCE_V4 = frozenset({"abs_max", "abs_min", "square", "relu"})

#: Same operator, NumPy's or the older NKI's spelling.
ALIASES = {
    "mult": "multiply",
    "max": "maximum",
    "min": "minimum",
    "pow": "power",
    "sub": "subtract",
    "amax": "maximum",
    "amin": "minimum",
    "sum": "add",
    "remainder": "mod",
}


def _sigmoid(x: Array) -> Array:
    # exp(-|x|) cannot overflow, whatever the sign of x.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


_INVERSE_SQRT2 = np.float32(1 / math.sqrt(2))
_SQRT_2_OVER_PI = np.float32(math.sqrt(2 / math.pi))
_TANH_CUBIC = np.float32(0.044715)
_SIGMOID_SCALE = np.float32(1.702)


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1 + erf(x * _INVERSE_SQRT2))


def _gelu_dx(x: Array) -> Array:
    density = np.exp(-0.5 * x * x) * np.float32(1 / math.sqrt(2 * math.pi))
    return 0.5 * (1 + erf(x * _INVERSE_SQRT2)) + x * density


def _gelu_tanh(x: Array) -> Array:
    inner = _SQRT_2_OVER_PI * (x + _TANH_CUBIC * x * x * x)
    return 0.5 * x * (1 + np.tanh(inner))


def _gelu_sigmoid(x: Array) -> Array:
    return x * _sigmoid(_SIGMOID_SCALE * x)


def _gelu_sigmoid_dx(x: Array) -> Array:
    s = _sigmoid(_SIGMOID_SCALE * x)
    return s + _SIGMOID_SCALE * x * s * (1 - s)


def _silu_dx(x: Array) -> Array:
    s = _sigmoid(x)
    return s + x * s * (1 - s)


def _softplus(x: Array) -> Array:
    return np.logaddexp(x, np.float32(0))


def _erf_dx(x: Array) -> Array:
    return np.float32(2 / math.sqrt(math.pi)) * np.exp(-x * x)


def _prelu(x: Array, slope: Any = 0.0) -> Array:
    return np.where(x >= 0, x, x * slope)


def _sin(x: Array) -> Array:
    # No argument is reduced: beyond [-pi, pi] the table's last cubic goes on (the docs' example:
    # 27.65 for 9).
    beyond = np.maximum(np.abs(x) - np.float32(math.pi), 0)
    extrapolated = np.sign(x) * (beyond * beyond * beyond / 6 - beyond)
    return np.where(beyond > 0, extrapolated, np.sin(x))


#: "Valid input range" of the docs' table, of the functions whose range is not all numbers.
_VALID = {
    "log": (2.0**-64, 2.0**64),
    "sin": (-math.pi, math.pi),
    "arctan": (-math.pi / 2, math.pi / 2),
    "sqrt": (2.0**-116, 2.0**118),
    "rsqrt": (2.0**-87, 2.0**97),
    "reciprocal": (2.0**-42, 2.0**42),
}


def _function(name: str, function: Callable[[Array], Array], table: str | None = None) -> Any:
    table = name if table is None else table
    return ActivationFunction(name, function, table, valid=_VALID.get(name))


ACTIVATION_FUNCTIONS: dict[str, ActivationFunction] = {
    entry.name: entry
    for entry in (
        _function("copy", lambda x: x, ""),
        _function("identity", lambda x: x, ""),
        _function("relu", lambda x: np.maximum(x, 0), ""),
        _function("square", np.square, ""),
        _function("abs", np.abs, ""),
        _function("sign", np.sign, ""),
        _function("exp", np.exp),
        _function("log", np.log),
        _function("sqrt", np.sqrt),
        _function("rsqrt", lambda x: 1 / np.sqrt(x)),
        _function("reciprocal", np.reciprocal),
        _function("tanh", np.tanh),
        _function("sigmoid", _sigmoid),
        _function("gelu", _gelu),
        _function("gelu_dx", _gelu_dx),
        _function("gelu_apprx_tanh", _gelu_tanh),
        _function("gelu_apprx_sigmoid", _gelu_sigmoid),
        _function("gelu_apprx_sigmoid_dx", _gelu_sigmoid_dx),
        _function("silu", lambda x: x * _sigmoid(x)),
        _function("silu_dx", _silu_dx),
        _function("softplus", _softplus),
        _function("mish", lambda x: x * np.tanh(_softplus(x))),
        _function("erf", erf),
        _function("erf_dx", _erf_dx),
        _function("sin", _sin),
        _function("arctan", np.arctan),
        ActivationFunction("prelu", _prelu, "", takes_slope=True),
    )
}


def _name_of(op: Any) -> str:
    name = op if isinstance(op, str) else getattr(op, "__name__", type(op).__name__)
    return ALIASES.get(name, name)


def alu_operator(op: Any) -> AluOperator:
    """The ALU operator that `nl.add`, `np.add` or "add" names.

    Errors: `NkiValidationError` for anything else.
    """
    operator = ALU_OPERATORS.get(_name_of(op))
    if operator is None:
        raise NkiValidationError(
            f"operator {_name_of(op)!r} is not one the engines' ALU has",
            allowed=", ".join(sorted(ALU_OPERATORS)),
        )
    return operator


def activation_function(op: Any) -> ActivationFunction:
    """The activation function that `nl.exp`, `np.exp` or "exp" names.

    Errors: `NkiValidationError` for anything else.
    """
    function = ACTIVATION_FUNCTIONS.get(_name_of(op))
    if function is None:
        raise NkiValidationError(
            f"activation function {_name_of(op)!r} is not one ScalarE has",
            allowed=", ".join(sorted(ACTIVATION_FUNCTIONS)),
        )
    return function
