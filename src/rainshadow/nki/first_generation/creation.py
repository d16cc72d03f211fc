"""How first-generation kernels make tensors: nl.ndarray and its kin, constants, grid queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rainshadow import dtypes
from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.memory import Space
from rainshadow.nki import language
from rainshadow.nki.first_generation.compiler import Allocation
from rainshadow.nki.first_generation.loops import traced_once
from rainshadow.nki.first_generation.memory import Memory
from rainshadow.nki.first_generation.operation import dtype_name, plain_number
from rainshadow.nki.first_generation.state import current
from rainshadow.nki.first_generation.tensor import Tensor
from rainshadow.sim.recorder import active_recorder


class par_dim(int):
    """nl.par_dim(n): the partition axis of a shape; the axes before it count blocks."""

    def __repr__(self) -> str:
        return f"par_dim({int(self)})"


def ndarray(shape: Any, dtype: Any, *, buffer: Any = None, name: str = "", **kwargs: Any) -> Tensor:
    """A new tensor, in SBUF unless said otherwise; it holds nothing yet."""
    return _made(shape, dtype, buffer, name, None)


def _made(shape: Any, dtype: Any, buffer: Any, name: str, fill: Any) -> Tensor:
    current().flush()
    space, allocator = _place_of(buffer)
    extents, block_axes = _extents(shape)
    kind = dtype_name(dtype)
    if not space.on_chip:
        return Tensor.over(_in_hbm(extents, kind, space, name, fill))
    if block_axes == 0 and len(extents) == 1:
        extents = (extents[0], 1)
    memory = Memory(
        extents, kind, space, name=name, block_axes=block_axes, allocator=allocator, fill=fill
    )
    return Tensor.of(memory)


def _place_of(buffer: Any) -> tuple[Space, Any]:
    if buffer is None:
        return Space.sbuf, None
    if isinstance(buffer, Allocation):
        return buffer.space, traced_once(buffer).allocator
    try:
        return Space(buffer), None
    except ValueError:
        raise NkiValidationError(
            f"buffer {buffer!r}",
            allowed="nl.sbuf, nl.psum, nl.hbm, nl.private_hbm, nl.shared_hbm, or an allocation of "
            "nki.compiler.sbuf or nki.compiler.psum",
        ) from None


def _extents(shape: Any) -> tuple[tuple[int, ...], int]:
    """(extents, how many of them count blocks)."""
    given = tuple(shape) if isinstance(shape, Sequence) else (shape,)
    marked = [axis for axis, extent in enumerate(given) if isinstance(extent, par_dim)]
    if len(marked) > 1:
        raise NkiValidationError(f"shape {given}", allowed="one nl.par_dim")
    return tuple(int(extent) for extent in given), marked[0] if marked else 0


def _in_hbm(
    extents: tuple[int, ...], dtype: str, space: Space, name: str, fill: Any
) -> AccessPattern:
    def make() -> AccessPattern:
        made = active_recorder().allocate(extents, dtype, space, name)
        if fill is not None:
            language._fill_hbm(made, fill)
        return made

    if space is not Space.shared_hbm:
        return make()
    shared = current().shared_tensor(make)
    if (shared.shape, shared.dtype) != (extents, dtype):
        raise NkiValidationError(
            f"shared_hbm tensor {current().num_shared} is {dtype}{list(extents)} in program "
            f"{current().program}, {shared.dtype}{list(shared.shape)} in the first",
            allowed="the same shared tensors in the same order in every program of the grid",
        )
    return shared


def full(
    shape: Any, fill_value: Any, dtype: Any, *, buffer: Any = None, name: str = "", **kwargs: Any
) -> Tensor:
    """A new tensor of one value, which costs an instruction where it is first read."""
    return _made(shape, dtype, buffer, name, plain_number(fill_value))


def zeros(shape: Any, dtype: Any, *, buffer: Any = None, name: str = "", **kwargs: Any) -> Tensor:
    """A new tensor of zeros. See `full`."""
    return full(shape, 0, dtype, buffer=buffer, name=name)


def ones(shape: Any, dtype: Any, *, buffer: Any = None, name: str = "", **kwargs: Any) -> Tensor:
    """A new tensor of ones. See `full`."""
    return full(shape, 1, dtype, buffer=buffer, name=name)


def empty_like(
    a: Tensor, dtype: Any = None, *, buffer: Any = None, name: str = "", **kwargs: Any
) -> Tensor:
    """A new tensor of a's shape, in SBUF unless said otherwise."""
    return ndarray(a.shape, dtype or a.dtype, buffer=buffer, name=name)


def zeros_like(
    a: Tensor, dtype: Any = None, *, buffer: Any = None, name: str = "", **kwargs: Any
) -> Tensor:
    """A new tensor of zeros of a's shape, in SBUF unless said otherwise."""
    return zeros(a.shape, dtype or a.dtype, buffer=buffer, name=name)


def shared_constant(constant: Any, dtype: Any = None, **kwargs: Any) -> Tensor:
    """A tensor in HBM that holds a NumPy array."""
    current().flush()
    values = np.asarray(constant)
    if dtype is not None:
        values = values.astype(dtypes.numpy_dtype(dtype_name(dtype)))
    return Tensor.over(active_recorder().bind(np.ascontiguousarray(values), "constant"))


def shared_identity_matrix(n: int, dtype: Any = np.uint8, **kwargs: Any) -> Tensor:
    """A tensor in HBM that holds the n x n identity."""
    return shared_constant(np.eye(n), dtype)


def static_cast(input_data: Any, dtype: Any) -> Any:
    """A number, an array or a tile in another dtype."""
    name = dtype_name(dtype)
    if isinstance(input_data, Tensor):
        return input_data.astype(dtype)
    if hasattr(input_data, "detach"):
        import torch

        return input_data.to(getattr(torch, name))
    return np.asarray(input_data).astype(dtypes.numpy_dtype(name))


def program_id(axis: int) -> int:
    """Number of this program along an axis of the launch grid."""
    return current().program[axis]


def num_programs(axes: Any = None) -> int:
    """Programs along some axes of the launch grid, all unless said otherwise."""
    grid = current().grid
    chosen = range(len(grid)) if axes is None else [axes] if isinstance(axes, int) else axes
    count = 1
    for axis in chosen:
        count *= grid[axis]
    return count


def program_ndim() -> int:
    """Axes of the launch grid."""
    return len(current().grid)
