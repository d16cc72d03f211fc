"""What checking for hazards costs: `rainshadow check` over running the same kernel without.

Aim: at most 3 times the plain run, of all kernels together and of long loops of tiles; a kernel
that runs for milliseconds says little. Kernels of tests/sim/hazards and, where
RAINSHADOW_CHECKOUT_AWS_NEURON_SDK, ..._NKI_SAMPLES and ..._NKI_LIBRARY name checkouts, AWS's.
Run: python benchmarks/hazards.py
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from recording import TILE_COLUMNS, TILE_ROWS, add_tiles

from rainshadow.machine import Chip, load_chip
from rainshadow.nki import Shape, record
from rainshadow.nki.check import check_launches
from rainshadow.sim.options import SimOptions

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "sim" / "hazards"))

from hazard_cases import OF_CHECKOUTS, own_cases
from hazard_mutations import Case, check, quiet

_REPEATS = 3
_AIM = 3.0


def main() -> int:
    chip = load_chip("trainium2")
    cases = own_cases()
    for variable, make in OF_CHECKOUTS.items():
        if variable in os.environ:
            cases += make(os.environ[variable])
        else:
            print(f"{variable} is not set: without these kernels", file=sys.stderr)
    times = np.array([_times(case, chip) for case in cases])
    together = float(times[:, 1].sum() / times[:, 0].sum())
    print(f"\n{len(cases)} kernels together: {together:.2f} times the plain run")
    loops = [_long_loop(chip, data) for data in ("full", "none")]
    return 0 if max(together, *loops) <= _AIM else 1


def _times(case: Case, chip: Chip) -> tuple[float, float]:
    """Seconds of a plain run and of a check."""

    def plain() -> Any:
        with quiet():
            return record(case.load(), *case.arguments(), chip=chip)

    rows = plain().trace.num_rows
    run_s, check_s = _seconds(plain), _seconds(lambda: check(case, chip))
    print(f"{case.origin:<16}{case.name:<34}{rows:>8,} instructions: {check_s / run_s:.2f} times "
          "the plain run", flush=True)  # fmt: skip
    return run_s, check_s


def _long_loop(chip: Chip, data: Literal["full", "none"]) -> float:
    shape = (TILE_ROWS * 64, TILE_COLUMNS * 20)
    x = Shape(shape, "float32") if data == "none" else np.ones(shape, dtype=np.float32)
    options = SimOptions(data=data)

    def plain() -> Any:
        return record(add_tiles, (x, x), chip=chip, options=options)

    rows = plain().trace.num_rows
    checked_s = _seconds(lambda: check_launches(plain, chip, Path(__file__)))
    ratio = checked_s / _seconds(plain)
    print(f"{rows:,} instructions of tiles, data {data}: {ratio:.2f} times the plain run")
    return ratio


def _seconds(run: Callable[[], Any]) -> float:
    run()
    times = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    sys.exit(main())
