"""What an instruction costs the host: fast paths against the NumPy meaning they replace, on one
full tile; the overhead of a call in a kernel, without data and with; a matmul by BLAS threads.

Run: python benchmarks/instructions.py
"""

from __future__ import annotations

import os
import timeit
from collections.abc import Callable

import numpy as np
import torch  # fast paths exist only where it is loaded

from rainshadow.isa.access import AccessPattern
from rainshadow.isa.accumulator import Accumulator
from rainshadow.isa.instruction import Instruction
from rainshadow.isa.instructions.activation import Activation
from rainshadow.isa.instructions.scalar_tensor_tensor import ScalarTensorTensor
from rainshadow.isa.instructions.tensor_copy import TensorCopy
from rainshadow.isa.instructions.tensor_reduce import TensorReduce
from rainshadow.isa.instructions.tensor_scalar import TensorScalar
from rainshadow.isa.instructions.tensor_tensor import TensorTensor
from rainshadow.isa.memory import Buffer, Space
from rainshadow.isa.operators import ACTIVATION_FUNCTIONS, ALU_OPERATORS
from rainshadow.isa.strides import contiguous_strides
from rainshadow.machine import Chip, load_chip
from rainshadow.nki import Shape, jit, record
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.sim.fast import fast_paths
from rainshadow.sim.host_threads import one_thread
from rainshadow.sim.options import SimOptions

ROWS, COLUMNS, REPEAT, CALLS = 128, 512, 200, 2000


def tile(shape: tuple[int, ...], dtype: str, space: Space = Space.sbuf) -> AccessPattern:
    """A tile of random values in 0.5..2."""
    buffer = Buffer(space=space, shape=shape, dtype=dtype)
    buffer.storage = np.zeros(buffer.size_bytes * shape[0], np.uint8)
    view = AccessPattern(buffer, dtype, shape, contiguous_strides(shape))
    view.array[...] = np.random.default_rng(0).uniform(0.5, 2.0, shape).astype(np.float32)
    return view


def cases(dtype: str) -> dict[str, Callable[[], Instruction]]:
    """Instructions on [128, 512] tiles of `dtype`."""
    a, b, out = (tile((ROWS, COLUMNS), dtype) for _ in range(3))
    cast = tile((ROWS, COLUMNS), "bfloat16" if dtype == "float32" else "float32")
    column = tile((ROWS, 1), "float32")
    add, multiply = ALU_OPERATORS["add"], ALU_OPERATORS["multiply"]
    exp, gelu = ACTIVATION_FUNCTIONS["exp"], ACTIVATION_FUNCTIONS["gelu"]
    return {
        "tensor_tensor add": lambda: TensorTensor(out, a, b, add),
        "tensor_scalar multiply": lambda: TensorScalar(out, a, multiply, column),
        "scalar_tensor_tensor": lambda: ScalarTensorTensor(out, a, multiply, column, add, b),
        "tensor_copy with a cast": lambda: TensorCopy(cast, a),
        "tensor_reduce add": lambda: TensorReduce(column, add, a, 1),
        "activation exp": lambda: Activation(out, exp, a, Accumulator(ROWS)),
        "activation gelu": lambda: Activation(out, gelu, a, Accumulator(ROWS)),
    }


@jit
def add_often(x):
    """CALLS additions of a tile to itself; x: [128, columns]."""
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    for _ in range(CALLS):
        nisa.tensor_tensor(dst=out, data1=tile, data2=tile, op=nl.add)


def overhead(chip: Chip) -> None:
    """Print what a call costs in a kernel, next to what NumPy needs for its arithmetic alone."""
    print(f"\n{'tensor_tensor in a kernel':<36}{'us a call':>12}{'NumPy alone':>14}")
    for columns in (1, COLUMNS):
        array = np.ones((ROWS, columns), np.float32)
        alone_s = min(timeit.repeat(lambda: array + array, number=CALLS, repeat=3))  # noqa: B023
        for data, given in (("none", Shape(array.shape, "float32")), ("full", array)):
            options = SimOptions(data=data)
            seconds = min(
                timeit.repeat(
                    lambda: record(add_often, (given,), chip=chip, options=options),  # noqa: B023
                    number=1,
                    repeat=3,
                )
            )
            name = f"float32 {ROWS}x{columns}, {'no data' if data == 'none' else 'with data'}"
            print(f"{name:<36}{seconds / CALLS * 1e6:>12.1f}{alone_s / CALLS * 1e6:>14.1f}")


def threads() -> None:
    """Print what a tile costs with the host's number of threads, and with one as in a kernel."""
    left = np.ones((ROWS, ROWS), np.float32)
    right = np.ones((ROWS, COLUMNS), np.float32)
    tensor = torch.from_numpy(right)
    cases = {"matmul by NumPy": lambda: left.T @ right, "exp by PyTorch": lambda: tensor.exp()}
    print(f"\nat a load of {os.getloadavg()[0]:.1f}{'one thread':>31}{os.cpu_count():>6} threads")
    for name, call in cases.items():
        many_us = min(timeit.repeat(call, number=REPEAT, repeat=3)) / REPEAT * 1e6
        with one_thread():
            one_us = min(timeit.repeat(call, number=REPEAT, repeat=3)) / REPEAT * 1e6
        print(f"{name:<36}{one_us:>9.0f} us{many_us:>11.0f} us")


def main() -> None:
    with one_thread():
        compare_paths()
    overhead(load_chip("trainium2"))
    threads()


def compare_paths() -> None:
    """Print each instruction's meaning and fast path."""
    paths = fast_paths()
    print(f"{'instruction':<26}{'dtype':<10}{'meaning us':>12}{'fast us':>10}{'ratio':>8}")
    for dtype in ("float32", "bfloat16"):
        for name, make in cases(dtype).items():
            instr = make()
            fast = paths[type(instr)]
            assert fast(instr), f"{name} has no fast path here"
            slow_s = min(timeit.repeat(instr.meaning, number=REPEAT // 10, repeat=3))
            fast_s = min(timeit.repeat(lambda: fast(instr), number=REPEAT, repeat=3))  # noqa: B023
            slow_us, fast_us = slow_s / (REPEAT // 10) * 1e6, fast_s / REPEAT * 1e6
            print(f"{name:<26}{dtype:<10}{slow_us:>12.1f}{fast_us:>10.1f}{slow_us / fast_us:>8.1f}")


if __name__ == "__main__":
    main()
