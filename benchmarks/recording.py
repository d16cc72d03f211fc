"""Recording without data: instructions per second and bytes per row.

Aims: 200 k instructions/s, under 100 bytes per row. Run: python benchmarks/recording.py
"""

from __future__ import annotations

import time

from rainshadow.machine import load_chip
from rainshadow.nki import Shape, jit, record
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.sim.options import SimOptions

TILE_ROWS, TILE_COLUMNS = 128, 512


@jit
def add_tiles(a, b):
    """a, b: [rows, columns], multiples of a tile; four instructions per tile."""
    result = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    rows, columns = a.shape
    for m in nl.affine_range(rows // TILE_ROWS):
        for n in nl.affine_range(columns // TILE_COLUMNS):
            left = nl.ndarray((TILE_ROWS, TILE_COLUMNS), dtype=a.dtype, buffer=nl.sbuf)
            right = nl.ndarray((TILE_ROWS, TILE_COLUMNS), dtype=a.dtype, buffer=nl.sbuf)
            total = nl.ndarray((TILE_ROWS, TILE_COLUMNS), dtype=a.dtype, buffer=nl.sbuf)
            block = (nl.ds(m * TILE_ROWS, TILE_ROWS), nl.ds(n * TILE_COLUMNS, TILE_COLUMNS))
            nisa.dma_copy(dst=left, src=a[block])
            nisa.dma_copy(dst=right, src=b[block])
            nisa.tensor_tensor(dst=total, data1=left, data2=right, op=nl.add)
            nisa.dma_copy(dst=result[block], src=total)
    return result


def main() -> None:
    chip = load_chip("trainium2")
    shape = Shape((TILE_ROWS * 200, TILE_COLUMNS * 100), "bfloat16")
    began = time.perf_counter()
    trace = record(add_tiles, (shape, shape), chip=chip, options=SimOptions(data="none")).trace
    recording_s = time.perf_counter() - began
    rows = trace.num_rows
    print(f"recording without data: {rows / recording_s:,.0f} instructions/s ({rows:,} rows)")
    print(f"a row of the trace: {trace.nbytes / rows:.1f} bytes")


if __name__ == "__main__":
    main()
