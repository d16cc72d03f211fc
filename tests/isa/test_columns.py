"""Tensor indirection of NeuronCore-v4: what is gathered and scattered, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from on_core import blank, core, tile

from rainshadow.errors import NkiValidationError, OutOfBoundsError
from rainshadow.isa.memory import Space
from rainshadow.machine import load_chip
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.nki import record
from rainshadow.sim.timing import time_trace

RNG = np.random.default_rng(5)
DATA = RNG.standard_normal((32, 40)).astype(np.float32)
#: Offsets of each group of 16 partitions, in a snake: offset i at [i % 16, i // 16].
OFFSETS = RNG.integers(0, 40, (32, 2)).astype(np.uint32)


def picked(data, index, count, group=16):
    """NumPy's own loop over the documented layout."""
    result = np.empty((len(data), count), data.dtype)
    for p in range(len(data)):
        first = p // group * group
        for i in range(count):
            result[p, i] = data[p, index[first + i % group, i // group]]
    return result


def test_an_index_tile_picks_columns_by_groups_of_16_partitions():
    with core("trainium3"):
        view = tile(DATA).indirect(tile(OFFSETS), 20)
        assert view.shape == (32, 20) and view.is_indirect()
        out = blank(32, 20)
        nisa.tensor_copy(out, view)
        assert (out.array == picked(DATA, OFFSETS, 20)).all()


def test_every_offset_of_a_group_is_taken_unless_a_number_is_given():
    with core("trainium3"):
        assert tile(DATA).indirect(tile(OFFSETS)).shape == (32, 32)
        flat = tile(DATA).reshape((32, 5, 8)).indirect(tile(OFFSETS), 4)
        out = blank(32, 4)
        nisa.activation(out, nl.square, flat, scale=2.0)
        assert out.array == pytest.approx((2 * picked(DATA, OFFSETS, 4)) ** 2)


def test_columns_are_scattered_and_the_others_stay():
    with core("trainium3"):
        target, data = tile(np.zeros((16, 8), np.float32)), tile(np.full((16, 3), 2, np.float32))
        places = tile(np.array([[5], [1], [6], *[[0]] * 13], np.uint32))
        nisa.tensor_scalar(target.indirect(places, 3), data, nl.add, 1.0)
        assert (target.array == [0, 3, 0, 0, 0, 3, 3, 0]).all()


def test_tensor_engine_shares_offsets_over_32_partitions():
    with core("trainium3"):
        x, index = DATA.astype(np.float16), OFFSETS
        moving, identity = tile(x).indirect(tile(index), 33), tile(np.eye(32, dtype=np.float16))
        out = blank(32, 33, space=Space.psum)
        nisa.nc_matmul(out, identity, moving)
        assert (out.array == picked(x, index, 33, group=32)).all()


def test_what_is_gathered_is_recorded_checked_and_timed():
    def kernel(x, offsets):
        data, index = nl.ndarray((32, 40), nl.float32), nl.ndarray((32, 2), nl.uint32)
        nisa.dma_copy(data, x)
        nisa.dma_copy(index, offsets)
        out, result = nl.ndarray((32, 20), nl.float32), nl.ndarray((32, 20), nl.float32, nl.hbm)
        nisa.tensor_tensor(out, data.indirect(index, 20), data[:, 0:20], nl.add)
        nisa.dma_copy(result, out)
        return result

    chip = load_chip("trainium3")
    run = record(kernel, (DATA, OFFSETS), chip=chip)
    assert (run.outputs == picked(DATA, OFFSETS, 20) + DATA[:, :20]).all()
    assert time_trace(run.trace, chip).duration_ps > 0
    # It reads the tile, the index tile and the plain operand.
    row = next(i for i, s in enumerate(run.trace.signature) if _opcode(run, s) == "tensor_tensor")
    ends = [0, *run.trace.access_end.tolist()]
    assert ends[row + 1] - ends[row] == 4


def _opcode(run, number):
    return run.trace.signatures[number].opcode


def late(rows):
    """An index tile that starts at partition 32."""
    return tile(np.zeros((64, 1), np.uint32))[32 : 32 + rows]


@pytest.mark.parametrize(
    ("chip", "call", "message"),
    [
        ("trainium2", lambda a, i: nisa.tensor_copy(blank(32, 4), a.indirect(i, 4)), "on gen3"),
        ("trainium3", lambda a, i: nisa.reciprocal(blank(32, 4), a.indirect(i, 4)),
         "columns of data are picked"),
        ("trainium3", lambda a, i: nisa.tensor_tensor(blank(32, 4), a[:, 0:4], a.indirect(i, 4),
                                                      nl.add), "columns of data2"),
        ("trainium3", lambda a, i: a.indirect(i, 65), "num_elem 65"),
        ("trainium3", lambda a, i: a.indirect(i.view(nl.float32), 4), "tensor of integers"),
        ("trainium3", lambda a, i: a[0:16].indirect(i, 4), "of 16 partitions"),
        ("trainium3", lambda a, i: a.indirect(i, 4)[:, 0:2], "an index tile picks"),
        ("trainium3", lambda a, i: a.indirect(i, 4).view(nl.int32), "positions a tensor picks"),
        ("trainium3", lambda a, i: nisa.tensor_copy(blank(32, 33), a.indirect(i, 33)),
         "33 columns of src"),
        ("trainium3", lambda a, i: nisa.tensor_copy(blank(8, 2), a[0:8].indirect(i[0:8], 2)),
         "multiple of 16 partitions"),
        ("trainium3", lambda a, i: nisa.tensor_copy(blank(32, 2), a.indirect(late(32), 2)),
         "starts at partition 32"),
        ("trainium3", lambda a, i: nisa.activation(
            blank(32, 8, space=Space.psum).indirect(i, 2), nl.exp, a[:, 0:2]), "in PSUM"),
        ("trainium3", lambda a, i: nisa.nc_matmul(
            blank(32, 4, space=Space.psum), a[:, 0:32], a.indirect(i, 4)), "moving, float32"),
    ],
)  # fmt: skip
def test_what_the_hardware_cannot_pick_is_refused(chip, call, message):
    with core(chip), pytest.raises(NkiValidationError, match=message):
        call(tile(DATA), tile(OFFSETS))


def test_an_offset_outside_is_refused():
    with core("trainium3"), pytest.raises(OutOfBoundsError, match=r"offset 99.*\n.*0\.\.39"):
        index = tile(np.full((32, 1), 99, np.uint32))
        nisa.tensor_copy(blank(32, 4), tile(DATA).indirect(index, 4))
