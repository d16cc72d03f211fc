"""Collectives among the ranks of one launch, against what NumPy makes of all ranks' data."""

from __future__ import annotations

import numpy as np
import pytest

from rainshadow.errors import InputError, NkiValidationError
from rainshadow.machine import load_chip
from rainshadow.nki import PerRank, Shape, jit, record, simulate
from rainshadow.nki import collectives as ncc
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.sim.options import SimOptions
from rainshadow.sim.timing import time_trace

RANDOM = np.random.default_rng(3)


def in_hbm(x):
    """A copy of an argument in shared HBM."""
    copy = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=copy, src=x)
    return copy


def in_sbuf(x):
    """A copy of an argument in SBUF."""
    copy = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=copy, src=x)
    return copy


def out_of_sbuf(tile):
    result = nl.ndarray(tile.shape, dtype=tile.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=result, src=tile)
    return result


@jit
def reduce_all(x, group, op):
    total = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    ncc.all_reduce(srcs=[in_hbm(x)], dsts=[total], replica_group=group, op=op)
    return total


@jit
def reduce_all_in_sbuf(x, group):
    total = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    ncc.all_reduce(srcs=[in_sbuf(x)], dsts=[total], replica_group=group, op=nl.add)
    return out_of_sbuf(total)


@jit
def gather_all(x, group, ranks):
    whole = nl.ndarray((x.shape[0] * ranks, x.shape[1]), dtype=x.dtype, buffer=nl.shared_hbm)
    ncc.all_gather(srcs=[in_hbm(x)], dsts=[whole], replica_group=group, collective_dim=0)
    return whole


@jit
def gather_in_sbuf(x, group, ranks, dim):
    shape = list(x.shape)
    shape[dim] *= ranks
    whole = nl.ndarray(tuple(shape), dtype=x.dtype, buffer=nl.sbuf)
    ncc.all_gather(srcs=[in_sbuf(x)], dsts=[whole], replica_group=group, collective_dim=dim)
    return out_of_sbuf(whole)


@jit
def scatter(x, group, ranks):
    part = nl.ndarray((x.shape[0] // ranks, x.shape[1]), dtype=x.dtype, buffer=nl.shared_hbm)
    ncc.reduce_scatter(
        srcs=[in_hbm(x)], dsts=[part], replica_group=group, collective_dim=0, op=nl.add
    )
    return part


@jit
def swap(x, group):
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    ncc.all_to_all(srcs=[in_hbm(x)], dsts=[result], replica_group=group, collective_dim=0)
    return result


@jit
def permute(x, pairs):
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=result, src=x)
    ncc.collective_permute(srcs=[in_hbm(x)], dsts=[result], source_target_pairs=pairs)
    return result


@jit
def round_the_ring(x, group, steps):
    """The tensor that arrives after `steps`, and the rank it is from."""
    here, there = in_hbm(x), nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for _ in range(steps):
        ncc.collective_permute_implicit([[here]], [[there]], group)
        here, there = there, here
    origin = ncc.collective_permute_implicit_current_processing_rank_id(steps, group)
    return here, int(origin)


@jit
def ring_all_reduce(x, group, ranks):
    """Sums round the ring, with two channels."""
    halves = [in_hbm(x[:, 0:4]), in_hbm(x[:, 4:8])]
    zero = nl.ndarray((x.shape[0], 4), dtype=x.dtype, buffer=nl.sbuf)
    nisa.memset(dst=zero, value=0.0)
    sums = []
    for _ in range(2):
        one = nl.ndarray((x.shape[0], 4), dtype=x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=one, src=zero)
        sums.append(one)
    for _ in range(ranks):
        ncc.collective_permute_implicit_reduce(
            [[halves[0]], [halves[1]]],
            [[sums[0]], [sums[1]]],
            [[sums[0]], [sums[1]]],
            group,
            nl.add,
            channel_ids=[0, 1],
        )
    return sums[0], sums[1]


def per_rank(ranks, *shape, dtype=np.float32):
    return [RANDOM.normal(size=shape).astype(dtype) for _ in range(ranks)]


@pytest.mark.parametrize("lnc", [1, 2])
@pytest.mark.parametrize("ranks", [1, 2, 5])
@pytest.mark.parametrize(
    ("op", "fold"), [(nl.add, np.add), (nl.minimum, np.minimum), (nl.maximum, np.maximum)]
)
def test_all_reduce(ranks, lnc, op, fold):
    data = per_rank(ranks, 16, 8)
    group = ncc.ReplicaGroup([list(range(ranks))])
    results = simulate(reduce_all[lnc], ranks=ranks)(PerRank(data), group, op)
    results = results if ranks > 1 else [results]
    for result in results:
        np.testing.assert_allclose(result, fold.reduce(data), rtol=1e-6)


def test_all_reduce_of_integers_is_exact_and_saturates():
    data = [np.full((1, 4), value, dtype=np.int32) for value in (2**30 + 1, 2**30, 5)]
    group = ncc.ReplicaGroup([[0, 1], [2]])
    results = simulate(reduce_all, ranks=3)(PerRank(data), group, nl.add)
    assert [int(result[0, 0]) for result in results] == [2**31 - 1, 2**31 - 1, 5]


def test_groups_are_apart_and_sixty_four_ranks_run():
    data = per_rank(64, 2, 8)
    group = ncc.ReplicaGroup([list(range(start, start + 8)) for start in range(0, 64, 8)])
    results = simulate(reduce_all_in_sbuf, ranks=64)(PerRank(data), group)
    for rank, result in enumerate(results):
        first = rank // 8 * 8
        np.testing.assert_allclose(result, np.add.reduce(data[first : first + 8]), rtol=1e-5)


@pytest.mark.parametrize("ranks", [2, 3])
def test_all_gather_reduce_scatter_and_all_to_all(ranks):
    group = ncc.ReplicaGroup([list(range(ranks))])
    data = per_rank(ranks, 6, 8)
    for result in simulate(gather_all, ranks=ranks)(PerRank(data), group, ranks):
        np.testing.assert_array_equal(result, np.concatenate(data))
    for dim in (0, 1):
        for result in simulate(gather_in_sbuf, ranks=ranks)(PerRank(data), group, ranks, dim):
            np.testing.assert_array_equal(result, np.concatenate(data, axis=dim))
    parts = simulate(scatter, ranks=ranks)(PerRank(data), group, ranks)
    np.testing.assert_allclose(np.concatenate(parts), np.add.reduce(data), rtol=1e-6)
    swapped = simulate(swap, ranks=ranks)(PerRank(data), group)
    blocks = [np.split(value, ranks) for value in data]
    for rank, result in enumerate(swapped):
        np.testing.assert_array_equal(result, np.concatenate([row[rank] for row in blocks]))


def test_order_in_a_group_is_the_groups_order():
    data = per_rank(3, 2, 8)
    results = simulate(gather_all, ranks=3)(PerRank(data), ncc.ReplicaGroup([[2, 0, 1]]), 3)
    np.testing.assert_array_equal(results[1], np.concatenate([data[2], data[0], data[1]]))


def test_collective_permute_leaves_ranks_alone_that_receive_nothing():
    data = per_rank(4, 2, 8)
    results = simulate(permute, ranks=4)(PerRank(data), ((0, 2), (2, 1)))
    wanted = [data[0], data[2], data[0], data[3]]
    for result, expected in zip(results, wanted, strict=True):
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_what_goes_round_the_ring_is_from_the_rank_that_is_named(steps):
    data = per_rank(4, 2, 8)
    group = ncc.ReplicaGroup([[1, 0], [2, 3]])
    for value, origin in simulate(round_the_ring, ranks=4)(PerRank(data), group, steps):
        np.testing.assert_array_equal(value, data[origin])


def test_a_ring_of_reductions_adds_all_ranks_up():
    ranks, data = 4, per_rank(4, 2, 8)
    group = ncc.ReplicaGroup([list(range(ranks))])
    for left, right in simulate(ring_all_reduce, ranks=ranks)(PerRank(data), group, ranks):
        whole = np.concatenate([left, right], axis=1)
        np.testing.assert_allclose(whole, np.add.reduce(data), rtol=1e-5, atol=1e-6)


def test_each_rank_knows_its_number_and_has_its_own_memory():
    @jit
    def kernel(table, out):
        me = ncc.rank_id()
        row = table.ap(pattern=[[8, 1], [1, 8]], scalar_offset=me, indirect_dim=0)
        nisa.dma_copy(dst=out, src=row)
        return out

    table, out = np.arange(32, dtype=np.float32).reshape(4, 8), np.zeros((1, 8), np.float32)
    results = simulate(kernel, ranks=4)(table, out)
    np.testing.assert_array_equal(np.concatenate(results), table)


@pytest.mark.parametrize("known", [False, True])
def test_chunks_of_sizes_known_at_run_time(known):
    @jit
    def gather(x, counts, group):
        slots = nl.ndarray((4, 8), dtype=x.dtype, buffer=nl.shared_hbm)
        table = in_hbm(counts)
        nisa.dma_copy(dst=slots, src=zeros_of(x, (4, 8)))
        ncc.all_gather_v([in_hbm(x)], [slots], group, table, recv_counts_known=known)
        return slots, table

    @jit
    def exchange(x, counts, group):
        slots = nl.ndarray((4, 8), dtype=x.dtype, buffer=nl.shared_hbm)
        table = in_hbm(counts)
        nisa.dma_copy(dst=slots, src=zeros_of(x, (4, 8)))
        ncc.all_to_all_v([in_hbm(x)], [slots], group, table, recv_counts_known=known)
        return slots, table

    def zeros_of(x, shape):
        tile = nl.ndarray(shape, dtype=x.dtype, buffer=nl.sbuf)
        nisa.memset(dst=tile, value=0.0)
        return tile

    data, group = per_rank(4, 4, 8), ncc.ReplicaGroup([[0, 1, 2, 3]])
    tables = [RANDOM.integers(0, 8, (3, 4)).astype(np.uint32) for _ in range(4)]
    gathered = simulate(gather[2], ranks=4)(PerRank(data), PerRank(tables), group)
    exchanged = simulate(exchange, ranks=4)(PerRank(data), PerRank(tables), group)
    for me in range(4):
        for sender in range(4):
            flat, (counts, starts) = data[sender].reshape(-1), tables[sender][:2].astype(int)
            for results, column in ((gathered, 0), (exchanged, me)):
                slots, table = results[me]
                chunk = flat[starts[column] : starts[column] + counts[column]]
                np.testing.assert_array_equal(slots[sender, : len(chunk)], chunk)
                assert not slots[sender, len(chunk) :].any()
                received = tables[me][2, sender] if known else len(chunk)
                assert table[2, sender] == received


# -- faults ------------------------------------------------------------------------------------


def test_a_rank_that_does_not_come_is_named_with_the_line():
    @jit
    def kernel(x, group):
        total = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        if int(ncc.rank_id()) != 2:
            ncc.all_reduce(srcs=[x], dsts=[total], replica_group=group, op=nl.add)
        return x

    group = ncc.ReplicaGroup([[0, 1, 2]])
    wanted = (
        r"rank 0 waits for rank 2 to come to all_reduce 1 at .*test_rank_collectives\.py:\d+: ncc"
    )
    with pytest.raises(NkiValidationError, match=wanted) as raised:
        simulate(kernel, ranks=3)(np.ones((2, 8), np.float32), group)
    assert "rank 2 has ended" in str(raised.value)
    with pytest.raises(NkiValidationError, match=wanted):
        shape, options = Shape((2, 8), "float32"), SimOptions(data="none")
        record(kernel, (shape, group), ranks=3, options=options)


def test_ranks_in_two_groups_in_different_order_wait_for_each_other():
    @jit
    def kernel(x, groups):
        total = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        order = groups if int(ncc.rank_id()) == 0 else groups[::-1]
        for group in order:
            ncc.all_reduce(srcs=[x], dsts=[total], replica_group=group, op=nl.add)
        return x

    groups = (ncc.ReplicaGroup([[0, 1]]), ncc.ReplicaGroup([[1, 0]]))
    with pytest.raises(NkiValidationError, match="all wait for each other"):
        simulate(kernel, ranks=2)(np.ones((2, 8), np.float32), groups)


def test_ranks_that_come_to_different_collectives_are_both_named():
    @jit
    def kernel(x, group):
        total = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        op = nl.add if int(ncc.rank_id()) == 0 else nl.maximum
        ncc.all_reduce(srcs=[x], dsts=[total], replica_group=group, op=op)
        return x

    wanted = "rank 1 comes to all_reduce .*maximum.* where rank 0 came to all_reduce .*add"
    with pytest.raises(NkiValidationError, match=wanted):
        simulate(kernel, ranks=2)(np.ones((2, 8), np.float32), ncc.ReplicaGroup([[0, 1]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, t, g: ncc.all_reduce([x], [t[0:2]], g, nl.add), r"dsts\[0\] has shape \(2, 8\)"),
        (lambda x, t, g: ncc.all_reduce([x], [t], g, nl.multiply), "op multiply"),
        (lambda x, t, g: ncc.all_reduce([x], [], g, nl.add), "1 srcs and 0 dsts"),
        (lambda x, t, g: ncc.all_reduce([x], [in_sbuf(t)], g, nl.add), "some tensors are in SBUF"),
        (lambda x, t, g: ncc.all_reduce(x, t, 3, nl.add), "replica_group is int"),
        (lambda x, t, g: ncc.all_reduce(3, t, g, nl.add), "srcs is of type int"),
        (lambda x, t, g: ncc.all_gather([x], [t], g, 1), "collective_dim 1"),
        (lambda x, t, g: ncc.all_gather([x], [t], g, 0), r"allowed: \(8, 8\)"),
        (lambda x, t, g: ncc.all_reduce([x], [t], g, nl.add, priority=1), "gen4"),
        (lambda x, t, g: ncc.all_to_all([in_sbuf(x)], [in_sbuf(t)], g, 0), "is in sbuf"),
        (lambda x, t, g: ncc.all_to_all([x[0:3]], [t[0:3]], g, 0), "a multiple of 2"),
        (lambda x, t, g: ncc.collective_permute([x, x], [t, t], [(0, 1)]), "1 at a time"),
        (lambda x, t, g: ncc.collective_permute([x], [t], [(0, 1), (0, 1)]), "at most once"),
        (lambda x, t, g: ncc.collective_permute([x], [t], [(0, 9)]), "ranks=10"),
        (lambda x, t, g: ncc.collective_permute_implicit([[x, x]], [[t]], g), "exactly one"),
        (
            lambda x, t, g: ncc.collective_permute_implicit([[x]], [[t]], g, channel_ids=[1]),
            "channel_ids",
        ),
        (lambda x, t, g: ncc.all_gather_v([x], [t], g, x), "metadata_tensor is float32"),
        (lambda x, t, g: ncc.all_reduce([x], [t], ncc.ReplicaGroup([[4]]), nl.add), "in no group"),
        (
            lambda x, t, g: ncc.all_reduce([x], [t], ncc.ReplicaGroup([[0, 1, 4]]), nl.add),
            "ranks=5",
        ),
        (lambda x, t, g: ncc.ReplicaGroup([[0, 1], [1]]), "names rank 1 twice"),
        (lambda x, t, g: ncc.ReplicaGroup(3), "lists of ranks"),
    ],
)
def test_what_the_rules_forbid_is_one_error_at_the_users_line(call, message):
    @jit
    def kernel(x, group):
        total = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        call(x, total, group)
        return x

    with pytest.raises(NkiValidationError, match=message) as raised:
        simulate(kernel, ranks=2)(np.ones((4, 8), np.float32), ncc.ReplicaGroup([[0, 1]]))
    assert "test_rank_collectives.py" in str(raised.value.where)


def test_arguments_of_another_number_of_ranks():
    group = ncc.ReplicaGroup([[0]])
    with pytest.raises(InputError, match="PerRank with 3 values"):
        simulate(reduce_all, ranks=2)(PerRank(per_rank(3, 2, 8)), group, nl.add)
    with pytest.raises(InputError, match="ranks=0"):
        simulate(reduce_all, ranks=0)(per_rank(1, 2, 8)[0], group, nl.add)


# -- traces ------------------------------------------------------------------------------------


def test_every_rank_has_a_trace_in_which_the_collective_is_a_row_that_takes_time():
    data, group = per_rank(2, 16, 8), ncc.ReplicaGroup([[0, 1]])
    run = record(reduce_all, (PerRank(data), group, nl.add), ranks=2)
    chip = load_chip("trainium2")
    for trace in (run.trace, *run.other_traces):
        opcodes = [trace.signatures[number].opcode for number in trace.signature]
        assert opcodes == ["dma_copy", "all_reduce"]
        timeline = time_trace(trace, chip)
        assert timeline.duration_ps > time_trace_of_copy(chip)


def time_trace_of_copy(chip):
    @jit
    def kernel(x):
        return in_hbm(x)

    return time_trace(record(kernel, (per_rank(1, 16, 8)[0],)).trace, chip).duration_ps


def test_a_run_is_the_same_every_time():
    data, group = per_rank(8, 16, 8), ncc.ReplicaGroup([list(range(8))])
    runs = [record(reduce_all[2], (PerRank(data), group, nl.add), ranks=8) for _ in range(2)]
    for first, second in zip(*[[r.trace, *r.other_traces] for r in runs], strict=True):
        np.testing.assert_array_equal(first.signature, second.signature)
        np.testing.assert_array_equal(first.access, second.access)
    np.testing.assert_array_equal(runs[0].outputs[3], runs[1].outputs[3])
