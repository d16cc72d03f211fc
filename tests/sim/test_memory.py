"""Addresses: no two live tensors share a byte, nothing is lost, and a full memory says why."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rainshadow.errors import CapacityError
from rainshadow.nki import Shape, jit, record
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.sim.memory import Arena
from rainshadow.sim.options import SimOptions

#: Bytes to take, or None to give back the oldest or newest.
STEPS = st.lists(st.one_of(st.integers(0, 700), st.sampled_from(["oldest", "newest"])), max_size=60)


@given(STEPS, st.sampled_from([1, 32, 64]))
def test_live_stretches_never_overlap_and_stay_inside(steps, granule):
    arena = Arena("sbuf", 4096, granule)
    live: list[tuple[int, int]] = []
    most = 0
    for step in steps:
        if isinstance(step, str):
            if live:
                start, _ = live.pop(0 if step == "oldest" else -1)
                arena.release(start)
            continue
        size = -(-max(step, 1) // granule) * granule
        try:
            at = arena.allocate(step, "x")
        except CapacityError:
            taken = sorted(live)
            edges = [0, *(edge for pair in taken for edge in pair), arena.capacity_bytes]
            holes = [end - start for start, end in zip(edges[::2], edges[1::2], strict=True)]
            assert max(holes) < size, "refused although a free stretch is large enough"
            continue
        assert at % granule == 0 and at >= 0 and at + size <= arena.capacity_bytes
        assert all(at + size <= start or end <= at for start, end in live)
        live.append((at, at + size))
        most = max(most, sum(end - start for start, end in live))
        assert arena.used_bytes == sum(end - start for start, end in live)
    assert arena.peak_bytes == most


@given(st.lists(st.integers(1, 500), min_size=1, max_size=20), st.randoms())
def test_when_all_is_given_back_the_whole_memory_is_free_again(sizes, order):
    arena = Arena("hbm", 1 << 20, 64)
    starts = [arena.allocate(size, "x") for size in sizes]
    order.shuffle(starts)
    for start in starts:
        arena.release(start)
    assert arena.used_bytes == 0
    arena.allocate(1 << 20, "everything")


def test_a_full_memory_lists_the_largest_tensors_the_largest_hole_and_the_capacity():
    arena = Arena("sbuf", 1024, 32)
    arena.allocate(512, "big")
    arena.allocate(64, "small")
    with pytest.raises(CapacityError) as caught:
        arena.allocate(600, "wanted")
    message = str(caught.value)
    assert "wanted needs 608 B per partition of sbuf; 576 are in use" in message
    assert "largest free stretch is 448" in message
    assert message.index("big 512 B") < message.index("small 64 B")
    assert "allowed: 1024 B per partition" in message


def test_tiles_of_consecutive_iterations_lie_in_different_places():
    arena = Arena("sbuf", 4096, 32)
    first = arena.allocate(256, "tile")
    arena.release(first)
    assert arena.allocate(256, "tile") != first, "the next transfer can overlap this one's use"


@jit
def chain(x, widths):
    """Each tile is made from the one before and then dead."""
    tile = nl.ndarray((128, 8), dtype=nl.float32)
    nisa.dma_copy(dst=tile, src=x)
    for width in widths:
        wider = nl.ndarray((128, width), dtype=nl.float32)
        nisa.memset(dst=wider, value=0.0)
        nisa.tensor_copy(dst=wider[:, 0:8], src=tile[:, 0:8])
        tile = wider
    return x


@given(st.lists(st.integers(8, 20_000), min_size=1, max_size=12))
def test_tensors_that_live_at_the_same_time_never_share_an_address(widths):
    shape = Shape((128, 8), "float32")
    trace = record(chain, (shape, widths), options=SimOptions(data="none")).trace
    for row in range(2, trace.num_rows, 2):
        mine = trace.access[trace.access_end[row - 1] : trace.access_end[row]]
        (_, _, _, low, high, *_), (_, _, _, other_low, other_high, *_) = trace.ranges[mine >> 1]
        assert high <= other_low or other_high <= low
    assert trace.ranges[trace.ranges[:, 0] == 0][:, 4].max() <= 212_472
    both = [4 * (a + b) for a, b in zip([8, *widths], widths, strict=False)]
    assert max(both) <= trace.peak_bytes["sbuf"] <= max(both) + 2 * 32


def test_recording_data_or_not_gives_the_same_addresses():
    array = np.zeros((128, 8), np.float32)
    full = record(chain, (array, [100, 300, 50])).trace
    none = record(
        chain, (Shape((128, 8), "float32"), [100, 300, 50]), options=SimOptions(data="none")
    ).trace
    np.testing.assert_array_equal(full.ranges, none.ranges)
    assert full.peak_bytes["sbuf"] == none.peak_bytes["sbuf"]
