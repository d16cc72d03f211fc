"""Recording without data: instructions per second and bytes per row.

Aims: 200 k instructions/s, under 100 bytes per row. Run: python benchmarks/recording.py

Once with three tiles made for every four instructions, once on tiles made before the loops: making
a tile is not an instruction, but takes the time of one.
"""

from __future__ import annotations

import time

from rainshadow.machine import load_chip
from rainshadow.nki import Shape, jit, record
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.sim.options import SimOptions

TILE_ROWS, TILE_COLUMNS = 128, 512


def add_one(result, a, b, block, tiles):
    """One tile of result = a + b in four instructions; tiles: left, right, total."""
    left, right, total = tiles
    nisa.dma_copy(dst=left, src=a[block])
    nisa.dma_copy(dst=right, src=b[block])
    nisa.tensor_tensor(dst=total, data1=left, data2=right, op=nl.add)
    nisa.dma_copy(dst=result[block], src=total)


def three_tiles(dtype):
    return [nl.ndarray((TILE_ROWS, TILE_COLUMNS), dtype=dtype, buffer=nl.sbuf) for _ in range(3)]


@jit
def add_tiles(a, b, makes_tiles):
    """a, b: [rows, columns], multiples of a tile. makes_tiles: new ones for each block."""
    result = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    tiles = three_tiles(a.dtype)
    rows, columns = a.shape
    for m in nl.affine_range(rows // TILE_ROWS):
        for n in nl.affine_range(columns // TILE_COLUMNS):
            if makes_tiles:
                tiles = three_tiles(a.dtype)
            block = (nl.ds(m * TILE_ROWS, TILE_ROWS), nl.ds(n * TILE_COLUMNS, TILE_COLUMNS))
            add_one(result, a, b, block, tiles)
    return result


def main() -> None:
    chip = load_chip("trainium2")
    shape = Shape((TILE_ROWS * 200, TILE_COLUMNS * 100), "bfloat16")
    for makes_tiles, which in ((True, "three tiles made for every four"), (False, "on old tiles")):
        began = time.perf_counter()
        arguments, options = (shape, shape, makes_tiles), SimOptions(data="none")
        trace = record(add_tiles, arguments, chip=chip, options=options).trace
        rate = trace.num_rows / (time.perf_counter() - began)
        print(f"without data, {which}: {rate:,.0f} instructions/s ({trace.num_rows:,} rows)")
    print(f"a row of the trace: {trace.nbytes / trace.num_rows:.1f} bytes")


if __name__ == "__main__":
    main()
