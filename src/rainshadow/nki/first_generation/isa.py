"""The `neuronxcc.nki.isa` names: AWS's signatures of the first generation, which return tiles.

Source: AWS Neuron docs 2.26, nki.isa API reference.
"""

from __future__ import annotations

from rainshadow.nki import isa
from rainshadow.nki.constants import dge_mode, nc_version, oob_mode, reduce_cmd
from rainshadow.nki.first_generation.elementwise import (
    activation,
    activation_reduce,
    fp32,
    range_select,
    reciprocal,
    scalar_tensor_tensor,
    select_reduce,
    tensor_copy,
    tensor_copy_dynamic_dst,
    tensor_copy_dynamic_src,
    tensor_copy_predicated,
    tensor_scalar,
    tensor_tensor,
)
from rainshadow.nki.first_generation.matrix import nc_matmul, nc_transpose
from rainshadow.nki.first_generation.moves import (
    dma_copy,
    dma_transpose,
    dropout,
    local_gather,
    nc_find_index8,
    nc_match_replace8,
    nc_stream_shuffle,
    sequence_bounds,
)
from rainshadow.nki.first_generation.patterns import affine_select, iota, memset
from rainshadow.nki.first_generation.reductions import (
    bn_aggr,
    bn_stats,
    max8,
    tensor_partition_reduce,
    tensor_reduce,
    tensor_scalar_cumulative,
    tensor_scalar_reduce,
    tensor_tensor_scan,
)

engine = isa.engine
tensor_engine = isa.tensor_engine
vector_engine = isa.vector_engine
scalar_engine = isa.scalar_engine
gpsimd_engine = isa.gpsimd_engine
unknown_engine = isa.unknown_engine
dma_engine = isa.engine.dma
get_nc_version = isa.get_nc_version

__all__ = [
    "activation",
    "activation_reduce",
    "affine_select",
    "bn_aggr",
    "bn_stats",
    "dge_mode",
    "dma_copy",
    "dma_transpose",
    "dropout",
    "fp32",
    "iota",
    "local_gather",
    "max8",
    "memset",
    "nc_find_index8",
    "nc_match_replace8",
    "nc_matmul",
    "nc_stream_shuffle",
    "nc_transpose",
    "nc_version",
    "oob_mode",
    "range_select",
    "reciprocal",
    "reduce_cmd",
    "scalar_tensor_tensor",
    "select_reduce",
    "sequence_bounds",
    "tensor_copy",
    "tensor_copy_dynamic_dst",
    "tensor_copy_dynamic_src",
    "tensor_copy_predicated",
    "tensor_partition_reduce",
    "tensor_reduce",
    "tensor_scalar",
    "tensor_scalar_cumulative",
    "tensor_scalar_reduce",
    "tensor_tensor",
    "tensor_tensor_scan",
]
