"""The `nki.isa` names: AWS's signatures; every body is one call into the recorder.

What an instruction may do, means and costs is in `rainshadow.isa.instructions`; the modules here
group the functions, and a new one is added to its group.
"""

from __future__ import annotations

import inspect as _inspect

from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern as NkiTensor
from rainshadow.isa.engine import Engine as engine
from rainshadow.isa.memory import Space as MemoryRegion
from rainshadow.nki.constants import (
    dge_mode,
    dma_engine,
    matmul_perf_mode,
    nc_version,
    oob_mode,
    reduce_cmd,
)
from rainshadow.nki.isa._arguments import checked as _checked
from rainshadow.nki.isa._cores import (
    core_barrier,
    sendrecv,
)
from rainshadow.nki.isa._dma import (
    dma_compute,
    dma_copy,
    dma_transpose,
)
from rainshadow.nki.isa._elementwise import (
    activate2,
    activation,
    activation_reduce,
    affine_select,
    exponential,
    iota,
    memset,
    range_select,
    reciprocal,
    scalar_tensor_tensor,
    select_reduce,
    tensor_copy,
    tensor_copy_predicated,
    tensor_scalar,
    tensor_tensor,
)
from rainshadow.nki.isa._issue import NkiInstruction
from rainshadow.nki.isa._matrix import (
    nc_matmul,
    nc_matmul_mx,
    nc_transpose,
    quantize_mx,
)
from rainshadow.nki.isa._random import (
    dropout,
    rand2,
    rand_get_state,
    rand_set_state,
    rng,
    set_rng_seed,
)
from rainshadow.nki.isa._reductions import (
    bn_aggr,
    bn_stats,
    tensor_partition_reduce,
    tensor_reduce,
    tensor_scalar_cumulative,
    tensor_scalar_reduce,
    tensor_tensor_scan,
)
from rainshadow.nki.isa._search import (
    local_gather,
    max8,
    nc_find_index8,
    nc_match_replace8,
    nc_n_gather,
    nc_stream_shuffle,
    nonzero_with_count,
    sequence_bounds,
    topk,
)
from rainshadow.nki.kernel import target_chip
from rainshadow.nki.registers import (
    VirtualRegister,
    register_alloc,
    register_load,
    register_move,
    register_store,
)
from rainshadow.sim.recorder import active_recorder, inside_kernel

tensor_engine = engine.tensor
vector_engine = engine.vector
scalar_engine = engine.scalar
gpsimd_engine = engine.gpsimd
unknown_engine = engine.unknown


def get_nc_version() -> nc_version:
    """Generation of the chip the kernel runs on."""
    chip = active_recorder().chip if inside_kernel() else target_chip()
    return nc_version[str(chip.generation)]


def get_nc_sub_version() -> int:
    """Silicon revision within the generation: 0, the first, as every machine file describes."""
    return 0


for _name, _function in list(globals().items()):
    if _inspect.isfunction(_function) and getattr(_function, "__module__", "").startswith(
        (f"{__name__}._", "rainshadow.nki.registers")
    ):
        globals()[_name] = _checked(_function)
