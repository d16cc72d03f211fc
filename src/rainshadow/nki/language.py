"""The `nki.language` names: dtypes, memory regions, ranges, allocation, operator names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rainshadow import dtypes
from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern as NkiTensor
from rainshadow.isa.access import DynamicSlice
from rainshadow.isa.memory import Space as MemoryRegion
from rainshadow.sim.recorder import active_recorder

bool_ = "bool_"
int8, int16, int32 = "int8", "int16", "int32"
uint8, uint16, uint32 = "uint8", "uint16", "uint32"
float16, float32, bfloat16, tfloat32 = "float16", "float32", "bfloat16", "tfloat32"
float8_e4m3, float8_e4m3fn, float8_e5m2 = "float8_e4m3", "float8_e4m3fn", "float8_e5m2"

sbuf = MemoryRegion.sbuf
psum = MemoryRegion.psum
hbm = MemoryRegion.private_hbm
private_hbm = MemoryRegion.private_hbm
shared_hbm = MemoryRegion.shared_hbm

ds = DynamicSlice


def ndarray(
    shape: Any, dtype: Any, buffer: Any = sbuf, name: str = "", address: Any = None
) -> NkiTensor:
    """A new, uninitialised tensor; axis 0 is the partition axis in SBUF and PSUM."""
    space = MemoryRegion(buffer) if isinstance(buffer, str) else buffer
    return active_recorder().allocate(shape, dtypes.canonical(dtype), space, name)


def zeros(shape: Any, dtype: Any, buffer: Any = sbuf, name: str = "") -> NkiTensor:
    """A new tensor of zeros."""
    return full(shape, 0.0, dtype, buffer, name)


def full(shape: Any, fill_value: Any, dtype: Any, buffer: Any = sbuf, name: str = "") -> NkiTensor:
    """A new tensor of one value."""
    from rainshadow.nki import isa

    tensor = ndarray(shape, dtype, buffer, name)
    isa.memset(tensor, fill_value)
    return tensor


def _range(start: Any, stop: Any = None, step: int = 1) -> range:
    if stop is None:
        start, stop = 0, start
    return range(int(start), int(stop), int(step))


def affine_range(start: Any, stop: Any = None, step: int = 1) -> Iterator[int]:
    """A loop whose iterations are independent."""
    return iter(_range(start, stop, step))


def sequential_range(start: Any, stop: Any = None, step: int = 1) -> Iterator[int]:
    """A loop whose iterations depend on each other."""
    return iter(_range(start, stop, step))


def static_range(start: Any, stop: Any = None, step: int = 1) -> Iterator[int]:
    """A loop that the compiler unrolls."""
    return iter(_range(start, stop, step))


class _TileSize:
    """Tile limits of the chip the kernel runs on."""

    pmax = 128
    psum_fmax = 512
    psum_bank_fmax = 512
    psum_bank_fmax_bytes = 2048
    gemm_stationary_fmax = 128
    gemm_moving_fmax = 512
    bn_stats_fmax = 512


tile_size = _TileSize()


def program_id(axis: int = 0) -> int:
    """Index of this core in the launch grid."""
    return 0


def num_programs(axes: int = 0) -> int:
    """Cores in the launch grid."""
    return 1


def program_ndim() -> int:
    """Axes of the launch grid."""
    return 0


def _operator(name: str) -> Any:
    def operator(*operands: Any, dtype: Any = None) -> NkiTensor:
        raise NkiValidationError(
            f"nl.{name} called on tensors", fix=f"pass nl.{name} as op= of a nisa instruction"
        )

    operator.__name__ = name
    operator.__doc__ = f"The operator {name}, for op= of a nisa instruction."
    return operator


add = _operator("add")
subtract = _operator("subtract")
multiply = _operator("multiply")
divide = _operator("divide")
maximum = _operator("maximum")
minimum = _operator("minimum")
power = _operator("power")
exp = _operator("exp")
tanh = _operator("tanh")
sqrt = _operator("sqrt")
rsqrt = _operator("rsqrt")
log = _operator("log")
square = _operator("square")
gelu = _operator("gelu")
relu = _operator("relu")
sigmoid = _operator("sigmoid")
copy = _operator("copy")
