"""Laws of every instruction between cores and ranks: what NumPy makes of all data, or an error."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_programs import ABSURD

from rainshadow import dtypes
from rainshadow.errors import NkiValidationError
from rainshadow.nki import PerRank, jit, simulate
from rainshadow.nki import collectives as ncc
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl

SEEDS = st.integers(0, 2**40)
few = settings(max_examples=max(3, settings.default.max_examples // 8))
FOLDS = {"add": np.add, "maximum": np.maximum, "minimum": np.minimum}


@dataclass
class Ranks:
    """A random launch: groups of equal size, every rank's data, cores a rank."""

    rng: np.random.Generator

    def __post_init__(self) -> None:
        self.draw(int(self.rng.integers(1, 5)))

    def draw(self, size: int) -> None:
        """Groups of `size` ranks."""
        self.size = size
        self.count = self.size * int(self.rng.integers(1, 4))
        order = self.rng.permutation(self.count).reshape(-1, self.size)
        self.groups = [[int(rank) for rank in row] for row in order]
        self.group = ncc.ReplicaGroup(self.groups)
        self.lnc = int(self.rng.integers(1, 3))
        self.dtype = str(self.rng.choice(["float32", "bfloat16", "int32"]))
        self.rows = self.size * int(self.rng.integers(1, 4))
        kind = dtypes.numpy_dtype(self.dtype)
        values = self.rng.integers(-9, 10, (self.count, self.rows, 8))
        self.data = [value.astype(kind) for value in values]

    def members(self, rank: int) -> list[int]:
        return next(row for row in self.groups if rank in row)

    def run(self, kernel: Any, *args: Any) -> list[Any]:
        results = simulate(jit(kernel)[self.lnc], ranks=self.count)(PerRank(self.data), *args)
        return results if self.count > 1 else [results]


def in_hbm(x: Any) -> Any:
    copy = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=copy, src=x)
    return copy


def new(shape: tuple[int, ...], dtype: str) -> Any:
    return nl.ndarray(shape, dtype=dtype, buffer=nl.shared_hbm)


def same(results: list[Any], wanted: Callable[[int], Any]) -> None:
    for rank, result in enumerate(results):
        expected = np.asarray(wanted(rank), dtype=result.dtype)
        np.testing.assert_array_equal(result, expected)


LAWS: dict[str, Callable[[Ranks], None]] = {}


def law(function: Callable[[Ranks], None]) -> Callable[[Ranks], None]:
    """Register the law of an opcode."""
    LAWS[function.__name__] = function
    return function


@law
def all_reduce(r: Ranks) -> None:
    name = str(r.rng.choice(list(FOLDS)))

    def kernel(x):
        total = new(x.shape, x.dtype)
        ncc.all_reduce([in_hbm(x)], [total], r.group, getattr(nl, name))
        return total

    def wanted(rank: int) -> Any:
        return FOLDS[name].reduce([r.data[m].astype(np.float32) for m in r.members(rank)])

    same(r.run(kernel), wanted)


@law
def all_gather(r: Ranks) -> None:
    def kernel(x):
        whole = new((x.shape[0] * r.size, x.shape[1]), x.dtype)
        ncc.all_gather([in_hbm(x)], [whole], r.group, collective_dim=0)
        return whole

    same(r.run(kernel), lambda rank: np.concatenate([r.data[m] for m in r.members(rank)]))


@law
def reduce_scatter(r: Ranks) -> None:
    def kernel(x):
        part = new((x.shape[0] // r.size, x.shape[1]), x.dtype)
        ncc.reduce_scatter([in_hbm(x)], [part], r.group, collective_dim=0, op=nl.add)
        return part

    def wanted(rank: int) -> Any:
        total = np.add.reduce([r.data[m].astype(np.float32) for m in r.members(rank)])
        return np.split(total, r.size)[r.members(rank).index(rank)]

    same(r.run(kernel), wanted)


@law
def all_to_all(r: Ranks) -> None:
    def kernel(x):
        result = new(x.shape, x.dtype)
        ncc.all_to_all([in_hbm(x)], [result], r.group, collective_dim=0)
        return result

    def wanted(rank: int) -> Any:
        place = r.members(rank).index(rank)
        return np.concatenate([np.split(r.data[m], r.size)[place] for m in r.members(rank)])

    same(r.run(kernel), wanted)


@law
def collective_permute(r: Ranks) -> None:
    chosen = int(r.rng.integers(0, r.count)) + 1
    senders = [int(n) for n in r.rng.permutation(r.count)[:chosen]]
    receivers = [int(n) for n in r.rng.permutation(r.count)[:chosen]]
    pairs = tuple(zip(senders, receivers, strict=True))

    def kernel(x):
        result = in_hbm(x)
        ncc.collective_permute([in_hbm(x)], [result], pairs)
        return result

    origin = {receiver: sender for sender, receiver in pairs}
    same(r.run(kernel), lambda rank: r.data[origin.get(rank, rank)])


def _before(r: Ranks, rank: int, steps: int) -> int:
    """The rank that is `steps` before this one in its ring."""
    row = r.members(rank)
    return row[(row.index(rank) - steps) % r.size]


@law
def collective_permute_implicit(r: Ranks) -> None:
    steps = int(r.rng.integers(0, 2 * r.size))

    def kernel(x):
        here, there = in_hbm(x), new(x.shape, x.dtype)
        for _ in range(steps):
            ncc.collective_permute_implicit([[here]], [[there]], r.group)
            here, there = there, here
        return here

    same(r.run(kernel), lambda rank: r.data[_before(r, rank, steps)])


@law
def collective_permute_implicit_reduce(r: Ranks) -> None:
    def kernel(x):
        mine, arrived = in_hbm(x), in_hbm(x)
        total = new(x.shape, x.dtype)
        ncc.collective_permute_implicit_reduce([[mine]], [[arrived]], [[total]], r.group, nl.add)
        return total

    def wanted(rank: int) -> Any:
        return 2 * r.data[_before(r, rank, 1)].astype(np.float32)

    same(r.run(kernel), wanted)


def _chunks(r: Ranks, collective: Any, column: Callable[[int, int], int]) -> None:
    """Chunks of random sizes; column(sender, receiver): which of the sender's it is."""
    slots = r.rows * 8
    tables = []
    for _ in range(r.count):
        counts = r.rng.integers(0, slots // 2, r.size)
        starts = r.rng.integers(0, slots - slots // 2, r.size)
        tables.append(np.array([counts, starts, counts * 0], dtype=np.uint32))

    def kernel(x, table):
        tile = nl.ndarray((r.size, slots), dtype=x.dtype, buffer=nl.sbuf)
        nisa.memset(dst=tile, value=0)
        result = new((r.size, slots), x.dtype)
        nisa.dma_copy(dst=result, src=tile)
        collective([in_hbm(x)], [result], r.group, in_hbm(table))
        return result

    def wanted(rank: int) -> Any:
        expected = np.zeros((r.size, slots), r.data[0].dtype)
        row = r.members(rank)
        for place, sender in enumerate(row):
            which = column(place, row.index(rank))
            count, start = (int(n) for n in tables[sender][:2, which])
            expected[place, :count] = r.data[sender].reshape(-1)[start : start + count]
        return expected

    same(r.run(kernel, PerRank(tables)), wanted)


@law
def all_gather_v(r: Ranks) -> None:
    r.draw(4)
    r.lnc = 2
    _chunks(r, ncc.all_gather_v, lambda sender, receiver: 0)


@law
def all_to_all_v(r: Ranks) -> None:
    _chunks(r, ncc.all_to_all_v, lambda sender, receiver: receiver)


@law
def sendrecv(r: Ranks) -> None:
    r.lnc = 2

    def kernel(x):
        me = nl.program_id()
        mine, theirs = (nl.ndarray((1, 8), dtype=x.dtype, buffer=nl.sbuf) for _ in range(2))
        nisa.dma_copy(dst=mine, src=x[0:1, ::1] if me == 0 else x[r.rows - 1 : r.rows])
        for pipe in range(2):
            nisa.sendrecv(mine, theirs, send_to_rank=1 - me, recv_from_rank=1 - me, pipe_id=pipe)
        result = new((2, 8), x.dtype)
        nisa.dma_copy(dst=result[me : me + 1], src=theirs)
        return result

    same(r.run(kernel), lambda rank: r.data[rank][[-1, 0]])


@law
def core_barrier(r: Ranks) -> None:
    r.lnc = 2

    def kernel(x):
        me, shared, result = nl.program_id(), new((2, 8), x.dtype), new((2, 8), x.dtype)
        nisa.dma_copy(dst=shared[me : me + 1], src=x[me % r.rows : me % r.rows + 1])
        nisa.core_barrier(shared, (0, 1))
        nisa.dma_copy(dst=result[me : me + 1], src=shared[1 - me : 2 - me])
        return result

    same(r.run(kernel), lambda rank: r.data[rank][[1 % r.rows, 0]])


@pytest.mark.parametrize("opcode", sorted(LAWS))
@few
@given(SEEDS)
def test_ranks_get_what_numpy_makes_of_all_their_data(opcode, seed):
    LAWS[opcode](Ranks(np.random.default_rng(seed)))


def _legal(opcode: str, x: Any, out: Any, group: Any, table: Any) -> dict[str, Any]:
    """A legal call on two ranks of two cores."""
    tile = nl.ndarray((1, 8), dtype=x.dtype, buffer=nl.sbuf)
    me, reduces = nl.program_id(), {"op": nl.add}
    usual = {"srcs": [x], "dsts": [out], "replica_group": group}
    ring = {"srcs_by_channel": [[x]], "dsts_by_channel": [[out]], "replica_group": group}
    other = {"send_to_rank": 1 - me, "recv_from_rank": 1 - me, "pipe_id": 0}
    calls: dict[str, Any] = {
        "all_reduce": usual | reduces,
        "all_gather": {**usual, "dsts": [new((8, 8), x.dtype)], "collective_dim": 0},
        "reduce_scatter": {**usual, "dsts": [out[0:2]], "collective_dim": 0} | reduces,
        "all_to_all": {**usual, "collective_dim": 0},
        "all_gather_v": {**usual, "metadata_tensor": table},
        "all_to_all_v": {**usual, "metadata_tensor": table},
        "collective_permute": {
            "srcs": [x], "dsts": [out], "source_target_pairs": ((0, 1), (1, 0))
        },
        "collective_permute_implicit": ring,
        "collective_permute_implicit_reduce": (
            {"srcs0_by_channel": [[x]], "srcs1_by_channel": [[x]]}
            | {"dsts_by_channel": [[out]], "replica_group": group} | reduces
        ),
        "sendrecv": {"src": tile, "dst": tile, **other},
        "core_barrier": {"data": out, "cores": (0, 1)},
    }  # fmt: skip
    return calls[opcode]


@pytest.mark.parametrize("opcode", sorted(LAWS))
@few
@given(SEEDS)
def test_one_absurd_argument_ends_in_a_validation_error(opcode, seed):
    """Or is accepted; whether all cores give it or the first alone."""
    rng = np.random.default_rng(seed)
    function = getattr(nisa if opcode in ("sendrecv", "core_barrier") else ncc, opcode)
    name = str(rng.choice(list(inspect.signature(function).parameters)))
    value, alone = ABSURD[int(rng.integers(len(ABSURD)))], bool(rng.random() < 0.3)

    def kernel(x, table, group):
        out = new(x.shape, x.dtype)
        call = _legal(opcode, in_hbm(x), out, group, in_hbm(table))
        first = nl.program_id() == 0 and int(ncc.rank_id()) == 0
        function(**call, **{}) if alone and not first else function(**{**call, name: value})
        return out

    x, table = np.zeros((4, 8), np.float32), np.ones((3, 2), np.uint32)
    try:
        simulate(jit(kernel)[2], ranks=2)(x, table, ncc.ReplicaGroup([[1, 0]]))
    except NkiValidationError as error:
        assert error.what
    except Exception as error:
        pytest.fail(f"{opcode} with {name}={value!r}: {error!r}")
