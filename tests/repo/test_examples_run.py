"""The example that `rainshadow isa NAME` shows of every instruction is a call that runs."""

from __future__ import annotations

import numpy as np
import pytest

from rainshadow.cli import isa as isa_command
from rainshadow.isa.instruction import load_instructions
from rainshadow.machine import load_chip
from rainshadow.nki import collectives as ncc
from rainshadow.nki import isa as nisa
from rainshadow.nki import jit, record
from rainshadow.nki import language as nl

#: Instructions that only NeuronCore-v4 has.
V4 = {"activate2", "exponential", "nc_matmul_mx", "quantize_mx", "rand2", "all_to_all_v"}
V4 |= {"all_gather_v"}
#: Ranks, and cores of one, that an example needs.
RANKS = {"all_gather_v": 4, "all_reduce": 4}
CORES = {"core_barrier": 2, "sendrecv": 2, "all_gather_v": 2}

TILE, ROW, COLUMN = (128, 512), (1, 512), (128, 1)
#: Names of examples -> shape, dtype, buffer; a tile of float32 in SBUF where not listed.
OPERANDS = {
    **dict.fromkeys(("minus_max", "scale", "row_max", "row_sum", "inverse", "first", "end", "mean"),
                    (COLUMN, "float32", nl.sbuf)),
    **dict.fromkeys(("acc", "result_psum"), (TILE, "float32", nl.psum)),
    **dict.fromkeys(("mine", "total", "theirs", "whole", "part", "swapped", "arrived", "slots"),
                    ((128, 8), "float32", nl.shared_hbm)),
    **dict.fromkeys(("packed", "w", "x_mx"), ((32, 16), "float8_e4m3fn_x4", nl.sbuf)),
    **dict.fromkeys(("scales", "ws", "xs"), ((32, 16), "uint8", nl.sbuf)),
    "lhs_t": ((128, 128), "float32", nl.sbuf), "rhs": (TILE, "float32", nl.sbuf),
    "statistics": ((128, 6), "float32", nl.sbuf), "largest": ((128, 8), "float32", nl.sbuf),
    "mean_and_variance": ((128, 2), "float32", nl.sbuf), "column_sum": (ROW, "float32", nl.sbuf),
    "mask": (TILE, "uint8", nl.sbuf), "bits": (TILE, "int32", nl.sbuf),
    "state": ((128, 6), "uint32", nl.sbuf), "seed": ((1, 1), "uint32", nl.sbuf),
    "ids": (ROW, "int32", nl.sbuf), "bounds": ((1, 2, 512), "int32", nl.sbuf),
    "shared": (TILE, "float32", nl.shared_hbm),
    "transposed_psum": ((128, 128), "float32", nl.psum),
}  # fmt: skip
#: The same, of one instruction.
OF_ONE = {
    ("affine_select", "scores"): ((128, 128), "float32", nl.sbuf),
    ("affine_select", "masked"): ((128, 128), "float32", nl.sbuf),
    ("all_gather", "whole"): ((256, 8), "float32", nl.shared_hbm),
    ("reduce_scatter", "part"): ((64, 8), "float32", nl.shared_hbm),
    ("dma_copy", "x"): (TILE, "float32", nl.shared_hbm),
    ("dma_transpose", "x"): (TILE, "float32", nl.shared_hbm),
    ("dma_transpose", "x_t"): ((128, 128), "float32", nl.sbuf),
    ("all_gather_v", "counts"): ((1, 3, 4), "uint32", nl.sbuf),
    ("all_to_all_v", "counts"): ((1, 3, 2), "uint32", nl.sbuf),
    ("local_gather", "positions"): ((128, 4), "uint16", nl.sbuf),
    ("local_gather", "picked"): ((128, 64), "float32", nl.sbuf),
    ("nc_find_index8", "positions"): ((128, 8), "uint32", nl.sbuf),
    ("nc_n_gather", "positions"): (TILE, "uint32", nl.sbuf),
    ("nc_matmul_mx", "x"): ((32, 16), "float8_e4m3fn_x4", nl.sbuf),
    ("nc_matmul_mx", "acc"): ((16, 16), "float32", nl.psum),
    ("nc_transpose", "tile"): ((128, 128), "float32", nl.sbuf),
    ("nonzero_with_count", "mask"): (TILE, "int32", nl.sbuf),
    ("nonzero_with_count", "positions"): ((128, 513), "int32", nl.sbuf),
    ("quantize_mx", "x"): ((32, 64), "bfloat16", nl.sbuf),
    ("sendrecv", "mine"): (TILE, "float32", nl.sbuf),
    ("sendrecv", "theirs"): (TILE, "float32", nl.sbuf),
    ("topk", "scores"): ((16, 3), "bfloat16", nl.sbuf),
    ("topk", "values"): ((16, 8), "bfloat16", nl.sbuf),
    ("topk", "indices"): ((16, 8), "uint32", nl.sbuf),
    ("dma_compute", "total"): (TILE, "float32", nl.sbuf),
    ("tensor_tensor", "total"): (TILE, "float32", nl.sbuf),
}


class Names(dict):
    """What an example refers to: NKI, indices, and tensors that hold zeros."""

    def __init__(self, opcode: str) -> None:
        every = slice(None)
        super().__init__(nl=nl, nisa=nisa, ncc=ncc, m=every, k=1)
        self.opcode = opcode

    def __missing__(self, name: str):
        default = OPERANDS.get(name, (TILE, "float32", nl.sbuf))
        shape, dtype, buffer = OF_ONE.get((self.opcode, name), default)
        tensor = nl.ndarray(shape, dtype, buffer=buffer, name=name)
        tensor.array[...] = np.zeros((), tensor.array.dtype)
        return self.setdefault(name, tensor)


@pytest.mark.parametrize("opcode", sorted(load_instructions()))
def test_an_instructions_example_runs_and_is_the_instruction(opcode):
    example = load_instructions()[opcode].EXAMPLE

    @jit
    def kernel():
        eval(example, {}, Names(opcode))

    chip = load_chip("trainium3" if opcode in V4 else "trainium2")
    ranks = RANKS.get(opcode, 2 if load_instructions()[opcode].MODULE == "collectives" else 1)
    run = record(kernel[CORES.get(opcode, 1)], chip=chip, ranks=ranks)
    issued = [run.trace.signatures[number].opcode for number in run.trace.signature]
    assert issued == [opcode]


@pytest.mark.parametrize("opcode", sorted(load_instructions()))
def test_the_command_shows_it(opcode, capsys):
    isa_command.command(opcode)
    assert load_instructions()[opcode].EXAMPLE in capsys.readouterr().out


@pytest.mark.parametrize("name", ["activation_reduce", "register_load", "get_nc_version"])
def test_the_command_shows_functions_without_an_instruction_of_their_own(name, capsys):
    isa_command.command(name)
    assert capsys.readouterr().out.startswith(f"nki.isa.{name}(")
