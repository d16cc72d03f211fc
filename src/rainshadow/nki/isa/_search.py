"""Functions that find, gather and move elements by index."""

from __future__ import annotations

from operator import index as whole
from typing import Any

from rainshadow.isa.access import AccessPattern as NkiTensor
from rainshadow.isa.instructions.local_gather import LocalGather
from rainshadow.isa.instructions.max8 import Max8
from rainshadow.isa.instructions.nc_find_index8 import NcFindIndex8
from rainshadow.isa.instructions.nc_match_replace8 import NcMatchReplace8
from rainshadow.isa.instructions.nc_n_gather import NcNGather
from rainshadow.isa.instructions.nc_stream_shuffle import NcStreamShuffle
from rainshadow.isa.instructions.nonzero_with_count import NonzeroWithCount
from rainshadow.isa.instructions.sequence_bounds import SequenceBounds
from rainshadow.isa.instructions.topk import Topk
from rainshadow.nki.isa._issue import NkiInstruction, issue


def max8(dst: NkiTensor, src: NkiTensor, name: str | None = None) -> NkiInstruction:
    """dst = the 8 largest values of each partition, largest first."""
    return issue(Max8(dst, src))


def nc_find_index8(
    dst: NkiTensor, data: NkiTensor, vals: NkiTensor, name: str | None = None
) -> NkiInstruction:
    """dst = positions of the 8 values in each partition of data."""
    return issue(NcFindIndex8(dst, data, vals))


def nc_match_replace8(
    dst: NkiTensor,
    data: NkiTensor,
    vals: NkiTensor,
    imm: float,
    dst_idx: NkiTensor | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """dst = data with the first occurrence of each value replaced by imm."""
    return issue(NcMatchReplace8(dst, data, vals, imm, dst_idx))


def nc_stream_shuffle(
    dst: NkiTensor, src: NkiTensor, shuffle_mask: Any, name: str | None = None
) -> NkiInstruction:
    """dst[i] = src[shuffle_mask[i]] within each quadrant of 32 partitions."""
    return issue(NcStreamShuffle(dst, src, tuple(map(whole, shuffle_mask))))


def nc_n_gather(
    dst: NkiTensor, data: NkiTensor, indices: NkiTensor, name: str | None = None
) -> NkiInstruction:
    """dst[p, i] = data[p, indices[p, i]]."""
    return issue(NcNGather(dst, data, indices))


def local_gather(
    dst: NkiTensor,
    src_buffer: NkiTensor,
    index: NkiTensor,
    num_elem_per_idx: int = 1,
    num_valid_indices: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """Elements of src_buffer by one list of indices for each 16 partitions."""
    return issue(LocalGather(dst, src_buffer, index, num_elem_per_idx, num_valid_indices))


def nonzero_with_count(
    dst: NkiTensor,
    src: NkiTensor,
    index_offset: int = 0,
    padding_val: int = -1,
    name: str | None = None,
) -> NkiInstruction:
    """dst = positions of src's nonzero elements, padding, and their count."""
    return issue(NonzeroWithCount(dst, src, whole(index_offset), whole(padding_val)))


def topk(
    val_dst: NkiTensor, idx_dst: NkiTensor, src: NkiTensor, n: int, name: str | None = None
) -> NkiInstruction:
    """val_dst, idx_dst = the largest of the n elements of each 16 partitions, ascending."""
    return issue(Topk(val_dst, idx_dst, src, whole(n)))


def sequence_bounds(
    dst: NkiTensor, segment_ids: NkiTensor, name: str | None = None
) -> NkiInstruction:
    """dst = start and end of the segment of each element."""
    return issue(SequenceBounds(dst, segment_ids))
