"""Kernels in a file of their own, as a user has them."""

import nki
import nki.isa as nisa
import nki.language as nl


@nki.jit
def scale(x, factor=2.0):
    """x: [p, n] with p up to 128."""
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=factor)
    nisa.dma_copy(dst=result, src=tile)
    return result


@nki.jit
def product(lhs_t, rhs):
    """lhs_t: [k, m], rhs: [k, n]; one tile."""
    left = nl.ndarray(lhs_t.shape, dtype=lhs_t.dtype, buffer=nl.sbuf)
    right = nl.ndarray(rhs.shape, dtype=rhs.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=left, src=lhs_t)
    nisa.dma_copy(dst=right, src=rhs)
    total = nl.ndarray((lhs_t.shape[1], rhs.shape[1]), dtype=nl.float32, buffer=nl.psum)
    nisa.nc_matmul(dst=total, stationary=left, moving=right)
    copy = nl.ndarray(total.shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=copy, src=total)
    result = nl.ndarray(total.shape, dtype=nl.float32, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=result, src=copy)
    return result


def breaks():
    """An error of the user's own."""
    raise ValueError("my mistake")


if __name__ == "__main__":
    import sys

    import numpy as np

    width = int(sys.argv[1])
    scale(np.ones((128, width), dtype=np.float32))
    product(np.ones((128, 64), np.float32), np.ones((128, width), np.float32))
