"""The enumerations of `nki.isa`: options of its instructions.

Source: AWS Neuron docs 2.32, nki.isa API reference.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class reduce_cmd(Enum):
    """What an instruction does with its engine's accumulator registers."""

    idle = 0
    reset = 1
    reduce = 2
    reset_reduce = 3
    load_reduce = 4


class dge_mode(Enum):
    """Who generates a DMA's descriptors."""

    unknown = 0
    swdge = 1
    hwdge = 2
    none = 3


class oob_mode(Enum):
    """What an indirect access past the end does."""

    error = 0
    skip = 1


class matmul_perf_mode(Enum):
    """Matmul performance modes."""

    none = "none"
    double_row = "double_row"


class nc_version(IntEnum):
    """NeuronCore generations, in order."""

    gen2 = 2
    gen3 = 3
    gen4 = 4


class dma_engine(Enum):
    """Which DMA moves a sendrecv."""

    dma = 1
    gpsimd_dma = 2
