"""Knows how engines read and write elements: float32 inside, cast once at the write.

Source: AWS Neuron docs 2.32, nki.isa ("the engine casts input data to float32 and performs the
operation in float32 math; results are cast to the dtype of dst"); rounding to nearest even, or as
`isa.numerics` says.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.errors import OutOfBoundsError
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.numerics import narrowed

Array = np.ndarray[Any, Any]


def is_dynamic(view: AccessPattern) -> bool:
    """Whether a tensor or, as far as can be seen, a register says where a view lies."""
    return view.is_indirect() or view.is_explicit


def read_f32(operand: Any) -> Any:
    """A tensor's elements as float32 (the array itself if it is float32); numbers pass."""
    if not isinstance(operand, AccessPattern):
        return np.float32(operand)
    array = operand.array
    return array if array.dtype == np.float32 else array.astype(np.float32)


def column_f32(operand: Any, ndim: int) -> Any:
    """A number, or a [P, 1] tensor shaped to broadcast along all free axes of `ndim`."""
    values = read_f32(operand)
    if isinstance(operand, AccessPattern):
        return values.reshape((values.shape[0],) + (1,) * (ndim - 1))
    return values


def added(matmul: Any, product: Array) -> Array:
    """A matmul's product plus what dst holds, of elements that have been `started`."""
    held = matmul.dst.array.astype(np.float32)
    if matmul.started is not None:
        held = np.where(matmul.started, held, np.float32(0))
    return held.reshape(product.shape) + product  # type: ignore[no-any-return]


def write(dst: AccessPattern, values: Array) -> None:
    """Store float32 results: one rounding to dst's dtype; integers round to nearest, saturate."""
    target = dst.array
    if values.size != target.size:
        values = np.broadcast_to(values, (target.shape[0], target.size // target.shape[0]))
    if values.shape != target.shape:
        values = values.reshape(target.shape)
    target[...] = narrowed(saturated(values, target.dtype), target.dtype, dst.dtype)


def saturated(values: Array, dtype: np.dtype[Any]) -> Array:
    """Floats on their way to integers: rounded to nearest even, and within the dtype's range."""
    if dtype.kind in "iu" and values.dtype.kind in "fV":
        info = np.iinfo(dtype)
        wide = values.astype(np.float64)
        return np.clip(np.rint(wide), info.min, info.max)
    return values


def cast(values: Array, dtype: np.dtype[Any]) -> Array:
    """Elements moved into tensors of a dtype: bits where it is theirs, else through float32."""
    if values.dtype == dtype:
        return values
    wide = saturated(values.astype(np.float32), dtype)
    return narrowed(wide, dtype, "").astype(dtype)


def permuted(left: Array, right: Array) -> Array:
    """left.T @ right where one of them permutes rows: NaN and infinities don't spread."""
    if np.isfinite(left).all() and np.isfinite(right).all():
        return left.T @ right  # type: ignore[no-any-return]
    for mover, moved, axis in ((right, left, 1), (left, right, 0)):
        ones = mover == 1
        if (ones | (mover == 0)).all() and (ones.sum(axis=0) == 1).all():
            rows = moved[ones.argmax(axis=0)]
            return rows.T if axis else rows
    return left.T @ right  # type: ignore[no-any-return]


def all_rows(view: AccessPattern) -> Array:
    """Every row that an indirect view's index may pick, as an array of shape (rows, ...)."""
    indirection = view.indirection
    assert indirection is not None, "only indirect views pick rows"
    direct = AccessPattern(
        view.buffer_,
        view.dtype,
        (indirection.limit, *view.shape[1:]),
        (indirection.stride, *view.strides[1:]),
        view.offset,
    )
    return direct.array


def selected_rows(
    view: AccessPattern, opcode: str, *, skip: bool, by_column: bool = False
) -> tuple[Array, Array]:
    """(row numbers, which of them are inside) of an indirect view.

    by_column: the index tile's columns one after another, instead of its rows.

    Errors: `OutOfBoundsError` for an index outside, unless `skip`.
    """
    indirection = view.indirection
    assert indirection is not None, "only indirect views pick rows"
    index = indirection.index.array.reshape(indirection.index.shape[0], -1)
    rows = (index.T if by_column else index).reshape(-1).astype(np.int64)
    keep = (rows >= 0) & (rows < indirection.limit)
    if not skip and not keep.all():
        row = int(rows[~keep][0])
        error = OutOfBoundsError(
            f"{opcode}: index {row} into {view.name or 'a tensor'}",
            allowed=f"0..{indirection.limit - 1}",
            fix="mend the index, or pass oob_mode=nisa.oob_mode.skip",
        )
        error.flat_index = row * indirection.stride, indirection.limit * indirection.stride
        raise error
    return rows, keep
