"""The `neuronxcc.nki.language` names of the first generation.

Source: AWS Neuron docs 2.26, nki.language API reference.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from rainshadow.isa.indices import DynamicSlice as ds
from rainshadow.isa.memory import Space
from rainshadow.nki import language
from rainshadow.nki.first_generation.arithmetic import *  # noqa: F403 - all are names of nl
from rainshadow.nki.first_generation.arithmetic import FUNCTIONS, load
from rainshadow.nki.first_generation.composed import (
    all,
    broadcast_to,
    ceil,
    cos,
    device_print,
    dropout,
    expand_dims,
    floor,
    gather_flattened,
    matmul,
    max,
    mean,
    min,
    prod,
    rand,
    random_seed,
    rms_norm,
    sin,
    softmax,
    sum,
    tan,
    transpose,
    trunc,
    var,
    where,
)
from rainshadow.nki.first_generation.creation import (
    empty_like,
    full,
    ndarray,
    num_programs,
    ones,
    par_dim,
    program_id,
    program_ndim,
    shared_constant,
    shared_identity_matrix,
    static_cast,
    zeros,
    zeros_like,
)
from rainshadow.nki.first_generation.elementwise import bfp16, fp32
from rainshadow.nki.first_generation.grid import nc, spmd_dim
from rainshadow.nki.first_generation.index import arange, mgrid
from rainshadow.nki.first_generation.loops import (
    affine_range,
    loop_reduce,
    sequential_range,
    static_range,
)
from rainshadow.nki.first_generation.moves import atomic_rmw, load_transpose2d, store

globals().update(FUNCTIONS)

bool_ = np.bool_
int8, int16, int32 = np.int8, np.int16, np.int32
uint8, uint16, uint32 = np.uint8, np.uint16, np.uint32
float16, float32 = np.float16, np.float32
bfloat16 = np.dtype(ml_dtypes.bfloat16)
float8_e4m3 = np.dtype(ml_dtypes.float8_e4m3)
float8_e5m2 = np.dtype(ml_dtypes.float8_e5m2)
#: No type of NumPy has its 19 bits: an opaque word of 4 bytes, as AWS declares it.
tfloat32 = np.dtype("V4")

sbuf, psum = Space.sbuf, Space.psum
hbm = private_hbm = Space.private_hbm
shared_hbm = Space.shared_hbm

tile_size = language.tile_size


def finfo(dtype: Any) -> Any:
    """Limits of a floating-point dtype, as NumPy's finfo."""
    return ml_dtypes.finfo(dtype)


__all__ = [
    "affine_range",
    "all",
    "arange",
    "atomic_rmw",
    "bfp16",
    "broadcast_to",
    "ceil",
    "cos",
    "device_print",
    "dropout",
    "ds",
    "empty_like",
    "expand_dims",
    "floor",
    "fp32",
    "full",
    "gather_flattened",
    "load",
    "load_transpose2d",
    "loop_reduce",
    "matmul",
    "max",
    "mean",
    "mgrid",
    "min",
    "nc",
    "ndarray",
    "num_programs",
    "ones",
    "par_dim",
    "prod",
    "program_id",
    "program_ndim",
    "rand",
    "random_seed",
    "rms_norm",
    "sequential_range",
    "shared_constant",
    "shared_identity_matrix",
    "sin",
    "softmax",
    "spmd_dim",
    "static_cast",
    "static_range",
    "store",
    "sum",
    "tan",
    "transpose",
    "trunc",
    "var",
    "where",
    "zeros",
    "zeros_like",
]
