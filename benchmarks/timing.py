"""Timing a recorded kernel: rows per second, first and again, with numba and without; memory.

Aims: again 20 M rows/s with numba, 2 M rows/s without; 10 M rows in under 4 GiB.
Run: python benchmarks/timing.py [ROWS]

A Trace is timed again for another chip, for `--what-if` and for advice. What repeats in it is timed
until it settles; the last lines are of rows that are all timed one by one.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

from rainshadow.machine import load_chip
from rainshadow.nki import Shape, jit, record
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.sim.options import SimOptions
from rainshadow.sim.timing import Timer, TimingOptions, time_trace
from rainshadow.sim.trace import Trace

_TILES, _DEPTH = 4, 8
#: Of a pass: per tile of the product loads and matmuls, a copy and a store.
_ROWS_OF_A_PASS = _TILES * _TILES * (3 * _DEPTH + 2)
_GIB = 1 << 30


@jit
def multiply(a, b, passes):
    """a: [K, M], b: [K, N]; their product, tile by tile, again and again."""
    product = nl.ndarray((128 * _TILES, 512 * _TILES), dtype=a.dtype, buffer=nl.shared_hbm)
    for _ in range(passes):
        for m in nl.affine_range(_TILES):
            for n in nl.affine_range(_TILES):
                total = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.psum)
                rows, columns = nl.ds(m * 128, 128), nl.ds(n * 512, 512)
                for k in nl.affine_range(_DEPTH):
                    left = nl.ndarray((128, 128), dtype=a.dtype, buffer=nl.sbuf)
                    right = nl.ndarray((128, 512), dtype=a.dtype, buffer=nl.sbuf)
                    nisa.dma_copy(dst=left, src=a[nl.ds(k * 128, 128), rows])
                    nisa.dma_copy(dst=right, src=b[nl.ds(k * 128, 128), columns])
                    nisa.nc_matmul(dst=total, stationary=left, moving=right)
                tile = nl.ndarray((128, 512), dtype=a.dtype, buffer=nl.sbuf)
                nisa.tensor_copy(dst=tile, src=total)
                nisa.dma_copy(dst=product[rows, columns], src=tile)
    return product


def trace_of(rows: int) -> Trace:
    a, b = (Shape((128 * _DEPTH, size * _TILES), "bfloat16") for size in (128, 512))
    passes = max(rows // _ROWS_OF_A_PASS, 1)
    return record(multiply, (a, b, passes), options=SimOptions(data="none")).trace


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _GIB


def main() -> None:
    trace, chip = trace_of(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000), load_chip("trn2")
    print(f"{trace.num_rows:,} rows; recorded with at most {peak_gib():.2f} GiB")
    for compiled, name in (("always", "with numba"), ("never", "without numba")):
        options = TimingOptions(compiled=compiled)
        if compiled == "always":  # the machine code is kept on disk
            time_trace(trace_of(1000), chip, options)
        trace.worked_out.clear()
        for which in ("first", "again"):
            began = time.perf_counter()
            time_trace(trace, chip, options)
            rate = trace.num_rows / (time.perf_counter() - began)
            print(f"{name}, {which}: {rate:,.0f} rows/s; at most {peak_gib():.2f} GiB")
        small = trace_of(min(trace.num_rows, 100_000))
        timer = Timer(small, chip, options)
        small.worked_out["waits"] = timer._repeating[0], []
        began = time.perf_counter()
        timer._program_order(np.zeros(0, dtype=np.int64))
        rate = small.num_rows / (time.perf_counter() - began)
        print(f"{name}, row by row: {rate:,.0f} rows/s")


if __name__ == "__main__":
    main()
