"""Footprints: exactly the bytes that a pattern touches, and the bounds of the pattern."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rainshadow.isa.access import AccessPattern
from rainshadow.isa.footprint import BOUNDS, REACH, footprint, measure
from rainshadow.isa.memory import Buffer, Space
from rainshadow.isa.strides import contiguous_strides


def touched(print_) -> set[tuple[int, int]]:
    """(partition, byte) pairs of a footprint."""
    partition, partitions, first, run, _, *pairs = print_
    starts = np.array([first])
    for stride, count in zip(pairs[::2], pairs[1::2], strict=True):
        if count:
            starts = (starts[:, None] + stride * np.arange(count)).reshape(-1)
    columns = {int(start) + byte for start in starts for byte in range(run)}
    return {(p, c) for p in range(partition, partition + partitions) for c in columns}


def expected(view: AccessPattern) -> set[tuple[int, int]]:
    buffer = view.buffer_
    size = buffer.size_bytes
    result = set()
    for index in np.ndindex(view.shape):
        at = view.offset + sum(i * s for i, s in zip(index, view.strides, strict=True))
        first = at * view.itemsize
        for byte in range(first, first + view.itemsize):
            result.add(divmod(byte, size) if buffer.on_chip else (0, byte))
    return result


def tensor(shape, dtype="bfloat16", space=Space.sbuf) -> AccessPattern:
    buffer = Buffer(space=space, shape=tuple(shape), dtype=dtype)
    return AccessPattern(buffer, dtype, tuple(shape), contiguous_strides(shape))


@given(
    st.sampled_from([Space.sbuf, Space.private_hbm]),
    st.sampled_from(["uint8", "bfloat16", "float32"]),
    st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(1, 5)),
    st.data(),
)
def test_every_window_has_exactly_its_bytes_and_its_bounds(space, dtype, shape, data):
    view = tensor(shape, dtype, space)
    key = []
    for extent in shape:
        start = data.draw(st.integers(0, extent - 1))
        key.append(
            slice(start, data.draw(st.integers(start + 1, extent)), data.draw(st.integers(1, 3)))
        )
    key[0] = slice(key[0].start, key[0].stop)
    window = view[tuple(key)]
    if data.draw(st.booleans()):
        window = window.permute((0, 3, 1, 2))
    print_, box, comb = measure(window)
    assert touched(print_) == expected(window)
    assert box == window.box() and comb == window.comb()


def test_broadcast_axes_and_merged_axes_leave_one_run():
    column = tensor((128, 512))[:, 3:4].broadcast(1, 64)
    assert footprint(column)[:5] == (0, 128, 6, 2, 0)
    assert footprint(tensor((128, 4, 8)))[:7] == (0, 128, 0, 64, 0, 0, 0)


def test_rows_that_an_index_picks_may_be_any():
    table, index = tensor((50, 8), space=Space.private_hbm), tensor((4, 1), "int32")
    picked = footprint(table.vector_select(0, index))
    assert picked[4] == REACH and picked[3] == 50 * 8 * 2


def test_more_axes_than_fit_give_the_bounds():
    view = tensor((2,) + (3,) * 8, space=Space.private_hbm)[(slice(0, 1), *[slice(0, 2)] * 8)]
    print_ = footprint(view)
    assert print_[4] == BOUNDS
    assert touched(print_) >= expected(view)


@pytest.mark.parametrize("partitions", [1, 5])
def test_partitions_are_counted_from_the_buffers_first(partitions):
    view = tensor((64, 8))[7 : 7 + partitions, 2:4]
    assert footprint(view)[:4] == (7, partitions, 4, 4)
