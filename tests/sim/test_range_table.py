"""The table of ranges gives for all views what `measure` gives for each."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rainshadow.isa.access import AccessPattern
from rainshadow.isa.footprint import measure
from rainshadow.isa.memory import Buffer, Space
from rainshadow.isa.strides import contiguous_strides
from rainshadow.sim.range_table import RangeTable
from rainshadow.sim.tensor_table import TensorTable
from rainshadow.sim.trace import SPACES

NUMBERS = {Space.sbuf: 0, Space.psum: 1, Space.private_hbm: 2}


@st.composite
def views(draw: st.DrawFn) -> AccessPattern:
    """A window on a tensor of its own, anywhere; the tensor is not yet placed."""
    space = draw(st.sampled_from(sorted(NUMBERS, key=NUMBERS.get)))
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4)))
    buffer = Buffer(space=space, shape=shape, dtype="bfloat16")
    view = AccessPattern(buffer, "bfloat16", shape, contiguous_strides(shape))
    key = []
    for axis, extent in enumerate(shape):
        start = draw(st.integers(0, extent - 1))
        step = draw(st.integers(1, 2)) if axis else 1
        key.append(slice(start, draw(st.integers(start + 1, extent)), step))
    return view[tuple(key)]


@given(st.lists(views(), min_size=1, max_size=8), st.data())
def test_all_at_once_is_each_on_its_own(several, data):
    tensors, table, addresses = TensorTable(), RangeTable(), []
    for number, view in enumerate(several):
        view.buffer_.ordinal = -2 - number
        if not view.buffer_.on_chip:
            view.buffer_.address = data.draw(st.integers(0, 2**36))
        tensors.add(view.buffer_, NUMBERS[view.buffer_.space], -1, 0)
        if view.buffer_.on_chip:
            addresses.append(data.draw(st.integers(0, 180_000)))
    numbers = [table.number(view) for view in several]
    again = [table.number(view[...]) for view in several]
    assert again == numbers, "another view of the same bytes has the same number"

    rows, owner = tensors.rows(np.array(addresses)), tensors.indices(table.ordinals)
    measured = table.measured(rows, owner, SPACES.index("hbm"))
    for view, number in zip(several, numbers, strict=True):
        if view.buffer_.on_chip:
            view.buffer_.address = addresses[view.buffer_.ordinal]
        footprint, box, comb = measure(view)
        assert tuple(measured.footprints[measured.footprint[number]].tolist()) == footprint
        expected = (NUMBERS[view.buffer_.space], *box, *comb)
        assert tuple(measured.ranges[measured.range[number]].tolist()) == expected
    assert len(np.unique(measured.ranges, axis=0)) == len(measured.ranges)
    assert len(np.unique(measured.footprints, axis=0)) == len(measured.footprints)
