"""Access patterns against NumPy: the same views of the same memory, whatever the chain of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rainshadow.errors import NkiValidationError, OutOfBoundsError
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.indices import DynamicSlice
from rainshadow.isa.memory import Buffer, Space
from rainshadow.isa.strides import contiguous_strides, merge_axes

SHAPES = st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple)
SPACES = st.sampled_from([Space.sbuf, Space.psum, Space.shared_hbm])
DTYPES = st.sampled_from(["float32", "int16", "uint8"])


def tensor(
    shape: tuple[int, ...], space: Space = Space.sbuf, dtype: str = "float32", **place: int
) -> AccessPattern:
    """A tensor that holds 0, 1, 2, ... in row-major order."""
    buffer = Buffer(space=space, shape=shape, dtype=dtype, name="x", **place)
    buffer.storage = np.zeros(buffer.size_bytes * buffer.partitions, np.uint8)
    view = AccessPattern(buffer, dtype, shape, contiguous_strides(shape))
    view.array[...] = np.arange(view.size).reshape(shape)
    return view


def elements(view: AccessPattern) -> np.ndarray[Any, Any]:
    """Number, within the buffer, of every element of the view."""
    numbers = np.full((), view.offset)
    for extent, stride in zip(view.shape, view.strides, strict=True):
        numbers = numbers[..., None] + stride * np.arange(extent)
    return numbers


@st.composite
def chained_views(draw: Any) -> tuple[AccessPattern, np.ndarray[Any, Any]]:
    """A tensor after up to four view operations, and NumPy's view after the same."""
    view = tensor(draw(SHAPES), draw(SPACES), draw(DTYPES))
    expected = view.array
    for _ in range(draw(st.integers(0, 4))):
        view, expected = draw(st.sampled_from(STEPS))(draw, view, expected)
    return view, expected


def window(draw: Any, view: AccessPattern, expected: Any) -> tuple[AccessPattern, Any]:
    """A start:stop:step slice of every axis."""
    key = []
    for extent in view.shape:
        start = draw(st.integers(0, extent - 1))
        stop = draw(st.integers(start + 1, extent))
        key.append(slice(start, stop, draw(st.integers(1, 3))))
    return view[tuple(key)], expected[tuple(key)]


def one_position(draw: Any, view: AccessPattern, expected: Any) -> tuple[AccessPattern, Any]:
    """One position of one free axis, from either end."""
    if view.ndim < 3:
        return view, expected
    dim = draw(st.integers(1, view.ndim - 1))
    index = draw(st.integers(-view.shape[dim], view.shape[dim] - 1))
    return view.select(dim, index), expected[(slice(None),) * dim + (index,)]


def new_order(draw: Any, view: AccessPattern, expected: Any) -> tuple[AccessPattern, Any]:
    """The free axes in another order."""
    dims = [0, *draw(st.permutations(range(1, view.ndim)))]
    return view.permute(dims), expected.transpose(dims)


def repeated(draw: Any, view: AccessPattern, expected: Any) -> tuple[AccessPattern, Any]:
    """A new axis that repeats the elements."""
    if view.ndim > 4:
        return view, expected
    dim, size = draw(st.integers(1, view.ndim)), draw(st.integers(1, 3))
    shape = (*view.shape[:dim], size, *view.shape[dim:])
    return view.expand_dim(dim).broadcast(dim, size), np.broadcast_to(
        np.expand_dims(expected, dim), shape
    )


def split_axis(draw: Any, view: AccessPattern, expected: Any) -> tuple[AccessPattern, Any]:
    """A free axis of even extent becomes two."""
    even = [dim for dim in range(1, view.ndim) if view.shape[dim] % 2 == 0]
    if not even or view.ndim > 4:
        return view, expected
    dim = draw(st.sampled_from(even))
    sizes = draw(st.sampled_from([(2, -1), (-1, 2)]))
    shape = (*view.shape[:dim], *sizes, *view.shape[dim + 1 :])
    return view.reshape_dim(dim, sizes), expected.reshape(shape)


STEPS = [window, one_position, new_order, repeated, split_axis]


@given(chained_views())
def test_any_chain_of_views_sees_what_numpy_sees(pair):
    view, expected = pair
    assert view.shape == expected.shape
    np.testing.assert_array_equal(view.array, expected)
    assert view.size == expected.size
    assert view.elements * view.partitions == view.size


@given(chained_views())
def test_views_share_memory_with_their_tensor(pair):
    view, _ = pair
    view.buffer_.storage.fill(0)
    view.array[...] = 1
    storage = np.frombuffer(view.buffer_.storage, dtype=view.array.dtype)
    np.testing.assert_array_equal(np.flatnonzero(storage), np.unique(elements(view)))


@given(chained_views())
def test_reshape_succeeds_where_numpy_needs_no_copy_and_reads_the_same(pair):
    view, expected = pair
    flat = (view.shape[0], view.elements)
    try:
        reshaped = view.reshape(flat)
    except NkiValidationError:
        with pytest.raises(ValueError):
            np.reshape(expected, flat, copy=False)
        return
    np.testing.assert_array_equal(reshaped.array, expected.reshape(flat))


@given(SHAPES, SPACES, st.data())
def test_a_contiguous_tensor_takes_any_shape_of_the_same_size(shape, space, data):
    view = tensor(shape, space)
    factors = data.draw(st.permutations(shape[1:]))
    assert (view.reshape((shape[0], -1)).array == view.array.reshape(shape[0], -1)).all()
    np.testing.assert_array_equal(
        view.reshape(shape[0], *factors).array, view.array.reshape(shape[0], *factors)
    )
    np.testing.assert_array_equal(
        view.flatten_dims(1, view.ndim - 1).array, view.array.reshape(shape[0], -1)
    )


@given(chained_views(), st.integers(0, 3), st.integers(0, 7))
def test_the_box_is_the_smallest_that_holds_every_element(pair, quadrant, block):
    view, _ = pair
    buffer = view.buffer_
    buffer.address, item = 64 * block, view.itemsize
    buffer.start_partition = 32 * quadrant if buffer.on_chip else 0
    numbers = elements(view)
    first_partition, end_partition, first_byte, end_byte = view.box()
    if not buffer.on_chip:
        assert (first_partition, end_partition) == (0, 1)
        within = numbers
    else:
        held = buffer.size_bytes // item
        within = numbers % held
        assert first_partition == 32 * quadrant + numbers.min() // held
        if view.strides[0] == held or view.shape[0] == 1:
            assert end_partition == 32 * quadrant + numbers.max() // held + 1
    assert first_byte == buffer.address + within.min() * item
    assert end_byte == buffer.address + (within.max() + 1) * item


@given(chained_views())
def test_the_contiguous_run_is_how_far_elements_follow_each_other(pair):
    view, _ = pair
    first = 1 if view.buffer_.on_chip else 0
    row = elements(view)[0].reshape(-1) if first else elements(view).reshape(-1)
    run = view.contiguous_run()
    assert len(row) % run == 0
    assert (np.diff(row.reshape(-1, run), axis=1) == 1).all()
    assert view.is_contiguous() == bool((np.diff(row) == 1).all())


@given(SHAPES, st.data())
def test_an_explicit_pattern_reads_what_its_strides_and_counts_say(shape, data):
    view = tensor(shape, Space.shared_hbm)
    pattern = [list(pair) for pair in zip(contiguous_strides(shape), shape, strict=True)]
    assert view.get_pattern() == pattern
    order = data.draw(st.permutations(range(len(shape))))
    np.testing.assert_array_equal(
        view.ap([pattern[axis] for axis in order]).array, view.array.transpose(order)
    )
    last = [[1, 1]]
    assert view.ap(last, offset=view.size - 1).array.item() == view.size - 1
    outside = view.ap(last, offset=view.size)
    assert not outside.is_inside()
    with pytest.raises(OutOfBoundsError, match=rf"elements 0\.\.{view.size - 1}"):
        outside.kind()


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 40)), max_size=4))
def test_merging_axes_keeps_the_order_of_the_elements(axes):
    def walk(pairs):
        numbers = np.zeros((), dtype=int)
        for extent, stride in pairs:
            numbers = numbers[..., None] + stride * np.arange(extent)
        return numbers.reshape(-1)

    merged = merge_axes(axes)
    assert len(merged) <= len(axes)
    np.testing.assert_array_equal(walk(merged), walk(axes))


def test_the_same_bytes_viewed_as_a_narrower_dtype_have_more_elements():
    view = tensor((4, 6), dtype="float32")
    narrow = view.view("int16")
    assert narrow.shape == (4, 12)
    np.testing.assert_array_equal(narrow.array, view.array.view(np.int16))
    assert narrow.view("float32").shape == (4, 6)
    assert narrow.box() == view.box()


def test_rearrange_splits_reorders_and_merges_axes_by_name():
    view = tensor((4, 24))
    split = view.rearrange(("b", ("h", "w")), ("b", "w", "h"), {"h": 4})
    np.testing.assert_array_equal(split.array, view.array.reshape(4, 4, 6).transpose(0, 2, 1))
    merged = tensor((4, 2, 3, 5)).rearrange(("p", "a", "b", "c"), ("p", "c", ("a", "b")))
    expected = np.arange(120).reshape(4, 6, 5).transpose(0, 2, 1)
    np.testing.assert_array_equal(merged.array, expected)
    in_hbm = tensor((6, 4), Space.shared_hbm).rearrange(
        (("a", "b"), "c"), ("b", "a", "c"), {"a": 2}
    )
    np.testing.assert_array_equal(in_hbm.array, np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2))


def test_a_position_read_from_a_tensor_selects_like_its_number():
    table, index = tensor((5, 4, 2), Space.shared_hbm), tensor((1, 1), dtype="int32")
    index.array[...] = 3
    picked = table.select(0, index)
    np.testing.assert_array_equal(picked.array, table.array[3])
    assert picked.is_indirect() and picked[0:2].offset_from is index
    with pytest.raises(NkiValidationError, match="select of a dynamic view"):
        picked.select(0, index)
    with pytest.raises(NkiValidationError, match="partition axis"):
        tensor((5, 4)).select(0, index)


def test_an_integer_keeps_the_partition_axis_on_chip_and_drops_it_in_hbm():
    assert tensor((4, 6))[2].shape == (1, 6)
    assert tensor((4, 6))[2].start_partition == 2
    assert tensor((4, 6))[2, 3].shape == (1, 1)
    assert tensor((4, 6), Space.shared_hbm)[2].shape == (6,)
    assert tensor((4, 6), Space.shared_hbm)[2, 3].shape == (1,)


def test_a_window_of_no_elements_may_be_made_but_not_used():
    empty = tensor((4, 6))[:, 3:3]
    assert empty.shape == (4, 0)
    with pytest.raises(OutOfBoundsError, match="at least 1 element"):
        empty.kind()


def test_nl_ds_takes_a_size_where_a_slice_takes_an_end():
    view = tensor((4, 6))
    np.testing.assert_array_equal(view[0:2, DynamicSlice(3, 2)].array, view.array[0:2, 3:5])
    np.testing.assert_array_equal(view[..., DynamicSlice(3, 3)].array, view.array[:, 3:])


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ((slice(0, 5),), "up to 4"),
        ((slice(None), slice(0, 7)), "up to 6"),
        ((slice(None), DynamicSlice(4, 3)), r"inside 0\.\.5"),
        ((0, 6), r"0\.\.5"),
        ((0, -7), r"0\.\.5"),
    ],
)
def test_windows_past_the_tensor_are_out_of_bounds_and_the_limit_is_named(key, message):
    for space in (Space.sbuf, Space.shared_hbm):
        with pytest.raises(OutOfBoundsError, match=message):
            tensor((4, 6), space)[key]


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda x: x[0, 0, 0, 0], "4 indices for a tensor of 3 axes"),
        (lambda x: x[:, ::-1], "steps of 1 or more"),
        (lambda x: x[:, 1.5], "integers, slices"),
        (lambda x: x.permute((1, 0, 2)), "axis 0 is the partition axis"),
        (lambda x: x.permute((0, 1)), "a permutation of all axes"),
        (lambda x: x[0:1].broadcast(0, 4), "axis 0 is the partition axis"),
        (lambda x: x.broadcast(1, 2), "size 1"),
        (lambda x: x.reshape((12, 4)), "axis 0 is the partition axis"),
        (lambda x: x.reshape((2, 5, -1)), "same number of elements"),
        (lambda x: x.reshape_dim(2, (3, 2)), "product is the axis"),
        (lambda x: x.reshape_dim(0, (1, 2)), "axis 0 is the partition axis"),
        (lambda x: x.permute((0, 2, 1)).reshape((2, 24)), "copy the tensor"),
        (lambda x: x[:, 0:4].flatten_dims(1, 2).flatten_dims(0, 1), "axis 0 is the partition"),
        (lambda x: x[:, :, 0:3].flatten_dims(1, 2), "follow each other in memory"),
        (lambda x: x.squeeze_dim(1), "size 1"),
        (lambda x: x[:, :, 0:4:2].view("int8"), "contiguous last axis"),
        (lambda x: list(x), "nl.affine_range"),
        (lambda x: x.__setitem__(0, 1.0), "nisa.tensor_copy"),
        (lambda x: x.rearrange(("a", "b", "c"), ("a", "c")), "the same names"),
        (lambda x: x.rearrange(("a", "b"), ("b", "a")), "an entry for each axis"),
        (lambda x: x.vector_select(0, tensor((2, 1), dtype="int32")), "axis 0 of an HBM tensor"),
    ],
)
def test_views_that_the_hardware_cannot_express_are_refused(misuse, message):
    with pytest.raises(NkiValidationError, match=message):
        misuse(tensor((2, 6, 4)))


def test_rows_picked_by_an_index_cover_the_whole_axis_in_memory():
    table = tensor((10, 4), Space.shared_hbm)
    picked = table.vector_select(0, tensor((3, 1), dtype="int32"))
    assert picked.shape == (3, 4)
    assert picked.is_indirect() and not table.is_indirect()
    assert picked.box() == table.box(), "any row may be read, so all are waited for"


def test_part_of_the_rows_that_an_index_picks_is_refused():
    picked = tensor((10, 4), Space.shared_hbm).vector_select(0, tensor((3, 1), dtype="int32"))
    assert picked[:, 0:2].shape == (3, 2)
    with pytest.raises(NkiValidationError, match="slice the index tile"):
        picked[0:2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda on, off: on.ap([[128, 8], [1, 32]]), "a stride of 128 from partition to partition"),
        (lambda on, off: on.ap([[1, 32], [64, 8]]), "a stride of 1 from partition to partition"),
        (lambda on, off: on.ap([]), "pattern is"),
        (lambda on, off: on.ap([[1, 2, 3]]), "pattern is"),
        (lambda on, off: off.ap([[64, 8], [1, 64]], scalar_offset=1, vector_offset=on), "one of"),
        (lambda on, off: off.ap([[64, 8], [1, 64]], vector_offset=on), "tensor of integers"),
        (lambda on, off: off.ap([[64, 8], [1, 64]], scalar_offset=1, indirect_dim=2), "0..1"),
        (lambda on, off: off.ap([[64, 8], [1, 64]], scalar_offset=on), "tensor of integers"),
        (lambda on, off: on.ap([[64, 8], [1, 64]], vector_offset=on.view("int32")), "HBM"),
        (lambda on, off: off.vector_select(0, on), "tensor of integers"),
    ],
)
def test_a_pattern_that_no_instruction_can_use_is_refused(make, message):
    from on_core import blank, core

    with core():
        on, off = blank(16, 64), blank(32, 64, space=Space.shared_hbm)
        with pytest.raises(NkiValidationError, match=message):
            make(on, off)


def test_a_step_of_a_window_s_row_leads_to_the_next_partition():
    """As nki-library's TensorView asks for on parts of a tile."""
    from on_core import blank, core

    with core():
        tile = blank(16, 64)
        window = tile[:, 32:64]
        assert window.ap([[32, 16], [1, 32]]).get_pattern() == window.get_pattern()
        halves = window.ap([[64, 16], [1, 64]], dtype="bfloat16")
        assert halves.strides == (128, 1) and halves.offset == 64


def test_an_offset_counts_elements_of_the_dtype_asked_for():
    from on_core import blank, core

    with core():
        table = blank(4, 8, dtype="int32", space=Space.shared_hbm)
        row = table.ap([[1, 16]], scalar_offset=2, indirect_dim=0, dtype="bfloat16")
        assert row.offset == 2 * 16 and row.dtype == "bfloat16"
