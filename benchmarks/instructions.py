"""Fast paths against the NumPy meaning they replace, one instruction on one full tile.

Run: python benchmarks/instructions.py
"""

from __future__ import annotations

import timeit
from collections.abc import Callable

import numpy as np
import torch  # noqa: F401 - fast paths exist only where torch is loaded

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
from rainshadow.sim.fast import fast_paths

ROWS, COLUMNS, REPEAT = 128, 512, 200


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


def main() -> None:
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
