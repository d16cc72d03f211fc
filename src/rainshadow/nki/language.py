"""The `nki.language` names: dtypes, memory regions, allocation, loops and tile functions.

Source of the names: AWS Neuron docs 2.32, nki.language API reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow import dtypes
from rainshadow.dtypes import DType
from rainshadow.errors import NkiValidationError, NotModelled
from rainshadow.isa.access import AccessPattern as NkiTensor
from rainshadow.isa.indices import DynamicSlice
from rainshadow.isa.integers import shown, wholes
from rainshadow.isa.memory import Space as MemoryRegion
from rainshadow.nki import isa
from rainshadow.nki.composed_functions import *  # noqa: F403 - the whole module is re-exported
from rainshadow.nki.kernel import target_chip
from rainshadow.nki.objects import NKIObject
from rainshadow.nki.ranges import (
    affine_range,
    dynamic_range,
    fori_loop,
    no_reorder,
    sequential_range,
    static_range,
    while_loop,
)
from rainshadow.nki.tile_functions import *  # noqa: F403 - the whole module is re-exported
from rainshadow.nki.tile_functions import tile
from rainshadow.sim.recorder import active_recorder, inside_kernel

__all__ = [
    "DType",
    "MemoryRegion",
    "NKIObject",
    "NkiTensor",
    "affine_range",
    "dynamic_range",
    "fori_loop",
    "no_reorder",
    "sequential_range",
    "static_range",
    "while_loop",
]

bool_, int8, int16, int32, uint8, uint16, uint32 = map(
    dtypes.dtype, ("bool_", "int8", "int16", "int32", "uint8", "uint16", "uint32")
)
float16, float32, bfloat16, tfloat32 = map(
    dtypes.dtype, ("float16", "float32", "bfloat16", "tfloat32")
)
float8_e4m3, float8_e4m3fn, float8_e5m2, float8_e8m0fnu = map(
    dtypes.dtype, ("float8_e4m3", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu")
)
float8_e5m2_x4, float8_e4m3fn_x4, float4_e2m1fn_x4 = map(
    dtypes.dtype, ("float8_e5m2_x4", "float8_e4m3fn_x4", "float4_e2m1fn_x4")
)


sbuf = MemoryRegion.sbuf
psum = MemoryRegion.psum
hbm = MemoryRegion.private_hbm
private_hbm = MemoryRegion.private_hbm
shared_hbm = MemoryRegion.shared_hbm

ds = DynamicSlice


def bypass(x: NkiTensor) -> NkiTensor:
    """Passes data through; for op= of a nisa instruction."""
    return x


def average(x: Any, y: Any) -> Any:
    """Mean; for op= of a nisa pooling or reduce instruction."""
    raise NotModelled("nl.average as a function", fix="use nl.mean")


def ndarray(
    shape: Any, dtype: Any, buffer: Any = sbuf, name: str = "", address: Any = None
) -> NkiTensor:
    """A new, uninitialised tensor; axis 0 is the partition axis in SBUF and PSUM.

    address: (first partition, first byte of each) in SBUF or PSUM; placed for you unless given.
    Errors: `CapacityError` when the memory is full, or an address outside it.
    """
    space = buffer if type(buffer) is MemoryRegion else _space_of(buffer)
    where = None if address is None else _place_of(address)
    return active_recorder().allocate(shape, dtypes.canonical(dtype), space, name, where)


def _space_of(buffer: Any) -> MemoryRegion:
    try:
        return MemoryRegion(buffer)
    except ValueError:
        allowed = ", ".join(f"nl.{space.value}" for space in MemoryRegion)
        raise NkiValidationError(f"buffer is {shown(buffer)}", allowed=allowed) from None


def _place_of(address: Any) -> tuple[int, int]:
    place = wholes(address, "address")
    if len(place) != 2:
        raise NkiValidationError(f"address {place}", allowed="(first partition, first byte)")
    return place[0], place[1]


def shared_constant(constant: Any) -> NkiTensor:
    """A tensor in shared HBM that holds a NumPy array, or the array of an .npy file."""
    values = np.load(constant) if isinstance(constant, str) else np.asarray(constant)
    return active_recorder().bind(np.ascontiguousarray(values), "constant")


def shared_identity_matrix(n: int, dtype: Any = "uint8", dst: Any = None) -> NkiTensor:
    """The n x n identity in SBUF, loaded from a constant in HBM."""
    name = dtypes.canonical(dtype)
    target = ndarray((n, n), name) if dst is None else dst
    constant = shared_constant(np.eye(n).astype(dtypes.numpy_dtype(target.dtype)))
    isa.dma_copy(target, constant)
    return target


def full(shape: Any, fill_value: Any, dtype: Any, buffer: Any = sbuf, name: str = "") -> NkiTensor:
    """A new tensor of one value."""
    tensor = ndarray(shape, dtype, buffer, name)
    if tensor.space.on_chip:
        isa.memset(tensor, fill_value)
    else:
        _fill_hbm(tensor, fill_value)
    return tensor


def _fill_hbm(tensor: NkiTensor, value: Any) -> None:
    """HBM is written by DMA from a tile of the value."""
    rows = tensor.reshape((tensor.size // tensor.shape[-1], tensor.shape[-1]))
    pmax = tile_size.pmax
    for start in range(0, rows.shape[0], pmax):
        block = rows[start : start + pmax] if start + pmax <= rows.shape[0] else rows[start:]
        part = tile(block.shape, tensor.dtype)
        isa.memset(part, value)
        isa.dma_copy(block, part)


def zeros(shape: Any, dtype: Any, buffer: Any = sbuf, name: str = "") -> NkiTensor:
    """A new tensor of zeros."""
    return full(shape, 0.0, dtype, buffer, name)


def ones(shape: Any, dtype: Any, buffer: Any = sbuf, name: str = "") -> NkiTensor:
    """A new tensor of ones."""
    return full(shape, 1.0, dtype, buffer, name)


def empty_like(x: NkiTensor, dtype: Any = None, buffer: Any = None, name: str = "") -> NkiTensor:
    """A new tensor of x's shape."""
    return ndarray(x.shape, dtype or x.dtype, buffer or x.space, name)


def zeros_like(x: NkiTensor, dtype: Any = None, buffer: Any = None, name: str = "") -> NkiTensor:
    """A new tensor of zeros of x's shape."""
    return zeros(x.shape, dtype or x.dtype, buffer or x.space, name)


def expand_dims(x: NkiTensor, axis: int) -> NkiTensor:
    """x with a new axis of size 1."""
    return x.expand_dim(axis)


def _core() -> Any:
    """The core of the running kernel; outside kernels, of the chip that a launch would get."""
    return active_recorder().core if inside_kernel() else target_chip().core


class _TileSize:
    """Tile limits of the chip the kernel runs on; sizes in elements, or bytes where named so."""

    @property
    def pmax(self) -> int:
        """Most partitions of a tile."""
        return int(_core().partitions.value)

    @property
    def psum_bank_fmax_bytes(self) -> int:
        """Bytes of one PSUM bank in one partition."""
        return int(_core().psum.bank_bytes_per_partition.value)

    @property
    def psum_bank_fmax(self) -> int:
        """float32 elements of one PSUM bank in one partition."""
        return self.psum_bank_fmax_bytes // dtypes.itemsize(float32)

    psum_fmax = psum_bank_fmax
    bn_stats_fmax = psum_bank_fmax

    @property
    def psum_min_align(self) -> int:
        """What first bytes of PSUM tiles are multiples of."""
        return int(_core().psum.min_align.value)

    @property
    def sbuf_min_align(self) -> int:
        """What first bytes of SBUF tiles are multiples of."""
        return int(_core().sbuf.min_align.value)

    bn_stats_fmax = psum_bank_fmax

    @property
    def psum_num_banks(self) -> int:
        """PSUM banks."""
        return int(_core().psum.banks.value)

    @property
    def gemm_stationary_fmax(self) -> int:
        """Largest free size of nc_matmul's stationary operand."""
        return int(_core().tensor.stationary_free_max.value)

    @property
    def gemm_moving_fmax(self) -> int:
        """Largest free size of nc_matmul's moving operand."""
        return int(_core().tensor.moving_free_max.value)

    @property
    def sbuf_fmax_bytes(self) -> int:
        """Bytes of SBUF a kernel may use in one partition."""
        return int(_core().sbuf.usable_bytes_per_partition.value)

    total_available_sbuf_size = sbuf_fmax_bytes

    @property
    def sbuf_fmax(self) -> int:
        """float32 elements of SBUF a kernel may use in one partition."""
        return self.sbuf_fmax_bytes // dtypes.itemsize(float32)

    @property
    def sbuf_size_bytes(self) -> int:
        """Bytes of SBUF over all partitions."""
        core = _core()
        return int(core.sbuf.bytes_per_partition.value * core.partitions.value)


tile_size = _TileSize()


def program_id(axis: int = 0) -> int:
    """Number of this core in the launch grid."""
    if axis != 0:
        raise NkiValidationError(f"program_id of axis {axis!r}", allowed="0, the grid's only axis")
    return active_recorder().program_id


def num_programs(axes: int = 0) -> int:
    """Cores in the launch grid."""
    return active_recorder().cores.count


def program_ndim() -> int:
    """Axes of the launch grid."""
    return 1 if active_recorder().cores.count > 1 else 0


def is_sbuf(buffer: Any) -> bool:
    """True for SBUF."""
    return MemoryRegion(buffer) is sbuf


def is_psum(buffer: Any) -> bool:
    """True for PSUM."""
    return MemoryRegion(buffer) is psum


def is_hbm(buffer: Any) -> bool:
    """True for HBM, private or shared."""
    return not MemoryRegion(buffer).on_chip


def is_on_chip(buffer: Any) -> bool:
    """True for SBUF and PSUM."""
    return MemoryRegion(buffer).on_chip


def device_print(print_prefix: str, tensor: NkiTensor) -> None:
    """Print a prefix and a tensor's values to standard output, where data are simulated."""
    if not isinstance(tensor, NkiTensor):
        raise NkiValidationError(f"device_print of {shown(tensor)}", allowed="an NKI tensor")
    if tensor.buffer_.storage is None:
        print(print_prefix, tensor)
        return
    values = tensor.array
    printed = values.astype(np.float32) if values.dtype.kind == "V" else values
    print(print_prefix, printed)
