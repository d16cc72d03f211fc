"""Each hazard is found where it happens, with both accesses; correct kernels have none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rainshadow.errors import NotModelled
from rainshadow.machine import load_chip
from rainshadow.nki import isa as nisa
from rainshadow.nki import jit, record
from rainshadow.nki import language as nl
from rainshadow.sim.hazards import find_hazards

X = np.ones((128, 512), dtype=np.float32)


def hazards(kernel: Any, chip: str = "trainium2") -> list[Any]:
    machine = load_chip(chip)
    run = record(kernel, (X,), chip=machine)
    return find_hazards((run.trace, *run.other_traces), machine)


def sbuf(**options: Any) -> Any:
    return nl.ndarray(X.shape, dtype=nl.float32, buffer=nl.sbuf, **options)


def bank(**options: Any) -> Any:
    return nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.psum, **options)


def result(x: Any, tile: Any) -> Any:
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=tile)
    return out


def test_a_read_of_what_nothing_has_written():
    def kernel(x):
        tile = sbuf(name="half")
        nisa.dma_copy(dst=tile[:64], src=x[:64])
        return result(x, tile)

    (finding,) = hazards(kernel)
    assert finding.rule == "uninitialized-read"
    assert "dma_copy reads 131,072 bytes of half in sbuf" in finding.message
    assert finding.text == "nisa.dma_copy(dst=out, src=tile)"
    assert [other.what for other in finding.others] == ["half made"]


def test_a_result_that_is_not_written_in_full():
    def kernel(x):
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm, name="out")
        tile = sbuf()
        nisa.dma_copy(dst=tile, src=x)
        nisa.dma_copy(dst=out[:, :511], src=tile[:, :511])
        return out

    (finding,) = hazards(kernel)
    assert (finding.rule, finding.severity) == ("uninitialized-result", "error")
    assert "512 bytes of the result out" in finding.message


def test_tiles_at_overlapping_addresses_while_both_are_in_use():
    def kernel(x):
        for _ in range(3):
            left = sbuf(address=(0, 0), name="left")
            right = sbuf(address=(0, 1024), name="right")
            nisa.dma_copy(dst=left, src=x)
            nisa.dma_copy(dst=right, src=x)
            nisa.tensor_tensor(dst=right, data1=left, data2=right, op=nl.add)
        return result(x, right)

    (finding,) = hazards(kernel)
    assert (finding.rule, finding.severity) == ("overwritten", "error")
    assert "131,072 bytes of left in sbuf that right in sbuf" in finding.message
    assert finding.message.endswith("(3 times)")
    assert [(other.what, other.text) for other in finding.others[:1]] == [
        ("written over", "nisa.dma_copy(dst=right, src=x)")
    ]


def test_a_tile_that_takes_over_what_another_wrote():
    def kernel(x):
        tile = sbuf(address=(0, 0))
        nisa.dma_copy(dst=tile, src=x)
        alias = nl.ndarray((128, 1024), dtype=nl.bfloat16, buffer=nl.sbuf, address=(0, 0))
        copy = nl.ndarray((128, 1024), dtype=nl.bfloat16, buffer=nl.sbuf)
        nisa.tensor_copy(dst=copy, src=alias)
        return result(x, copy.view(nl.float32))

    (finding,) = hazards(kernel)
    assert (finding.rule, finding.severity) == ("leftover-read", "warning")
    assert finding.others[0].text == "nisa.dma_copy(dst=tile, src=x)"


def test_a_bank_that_another_group_takes_too_early():
    def kernel(x):
        tile = sbuf()
        nisa.dma_copy(dst=tile, src=x)
        groups = [bank(address=(0, 2048 * number), name=f"group{number}") for number in (0, 0)]
        for k in range(2):
            for group in groups:
                nisa.nc_matmul(group, tile[:, :128], tile, accumulate=k > 0)
        nisa.tensor_copy(dst=tile, src=groups[1])
        return result(x, tile)

    found = hazards(kernel)
    assert {finding.rule for finding in found} == {"overwritten"}
    assert "nc_matmul reads" in found[0].message


@pytest.mark.parametrize(
    ("chip", "rules"), [("trainium2", ["accumulate-foreign"]), ("trainium3", [])]
)
def test_a_matmul_that_adds_to_a_memset(chip, rules):
    def kernel(x):
        tile, total = sbuf(), bank()
        nisa.dma_copy(dst=tile, src=x)
        nisa.memset(dst=total, value=0.0)
        nisa.nc_matmul(total, tile[:, :128], tile, accumulate=True)
        nisa.tensor_copy(dst=tile, src=total)
        return result(x, tile)

    found = hazards(kernel, chip)
    assert [finding.rule for finding in found] == rules
    assert all(finding.others[0].text.startswith("nisa.memset") for finding in found)


@pytest.mark.parametrize("chip", ["trainium2", "trainium3"])
def test_a_matmul_that_adds_to_nothing(chip):
    def kernel(x):
        tile, total = sbuf(), bank()
        nisa.dma_copy(dst=tile, src=x)
        nisa.nc_matmul(total, tile[:, :128], tile, accumulate=True)
        nisa.tensor_copy(dst=tile, src=total)
        return result(x, tile)

    assert [finding.rule for finding in hazards(kernel, chip)] == ["accumulate-uninitialized"]


def test_matmuls_that_leave_accumulate_out_start_their_group():
    def kernel(x):
        tile = sbuf()
        nisa.dma_copy(dst=tile, src=x)
        for _ in range(2):
            total = bank(address=(0, 0))
            for _ in range(3):
                nisa.nc_matmul(total, tile[:, :128], tile)
            nisa.tensor_copy(dst=tile, src=total)
        return result(x, tile)

    assert hazards(kernel) == []


def exchange(x, barrier_on):
    """Each core writes a row of shared memory and reads the other's."""
    shared = nl.ndarray((2, 512), dtype=x.dtype, buffer=nl.shared_hbm, name="shared")
    other = nl.ndarray((2, 512), dtype=x.dtype, buffer=nl.shared_hbm, name="other")
    me = nl.program_id()
    tile = nl.ndarray((1, 512), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x[me : me + 1])
    nisa.dma_copy(dst=shared[me : me + 1], src=tile)
    if barrier_on is not None:
        nisa.core_barrier(data=(shared, other)[barrier_on], cores=(0, 1))
    nisa.dma_copy(dst=tile, src=shared[1 - me : 2 - me])
    nisa.dma_copy(dst=other[me : me + 1], src=tile)
    return other


@pytest.mark.parametrize(("barrier_on", "rules"), [(0, []), (None, ["core-race"] * 2),
                                                   (1, ["core-race"] * 2)])  # fmt: skip
def test_cores_need_a_barrier_on_the_memory_they_share(barrier_on, rules):
    found = hazards(jit(lambda x: exchange(x, barrier_on))[2])
    # Without a barrier core 1 reads what core 0 has written, and core 0 what nobody has yet.
    assert [finding.rule for finding in found] == rules[: len(found)]
    assert bool(found) == bool(rules)
    for finding in found:
        assert "2,048 bytes of shared in hbm" in finding.message
        assert finding.others[0].text == "nisa.dma_copy(dst=shared[me : me + 1], src=tile)"


def test_cores_may_both_store_a_result_that_both_compute():
    @jit
    def kernel(x):
        tile = sbuf()
        nisa.dma_copy(dst=tile, src=x)
        return result(x, tile)

    assert hazards(kernel[2]) == []


def test_cores_must_not_store_different_results_at_one_place():
    @jit
    def kernel(x):
        tile = sbuf()
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=tile, src=x)
        if nl.program_id() == 0:
            nisa.dma_copy(dst=out, src=tile)
        else:
            nisa.dma_copy(dst=out[64:], src=tile[64:])
        return out

    (finding,) = hazards(kernel[2])
    assert finding.rule == "core-race"
    assert finding.others[0].text == "nisa.dma_copy(dst=out, src=tile)"


@pytest.mark.parametrize(("through", "rules"), [("chain", []), ("nothing", ["core-race"])])
def test_orders_reach_through_other_memory_along_chains(through, rules):
    """Two buffers in turns: a barrier on one orders the other where instructions depend on both."""

    @jit
    def kernel(x):
        me = nl.program_id()
        first, second = (nl.ndarray((2, 512), x.dtype, nl.shared_hbm) for _ in range(2))
        tile, other = (nl.ndarray((1, 512), x.dtype, nl.sbuf) for _ in range(2))
        nisa.dma_copy(dst=tile, src=x[me : me + 1])
        nisa.dma_copy(dst=first[me : me + 1], src=tile)
        nisa.core_barrier(data=first, cores=(0, 1))
        nisa.dma_copy(dst=other, src=first[1 - me : 2 - me])
        nisa.dma_copy(dst=second[me : me + 1], src=other if through == "chain" else tile)
        nisa.core_barrier(data=second, cores=(0, 1))
        last = nl.ndarray((1, 512), x.dtype, nl.sbuf)
        nisa.dma_copy(dst=last, src=second[1 - me : 2 - me])
        nisa.tensor_tensor(dst=last, data1=last, data2=other, op=nl.add)
        nisa.dma_copy(dst=first[me : me + 1], src=tile if through == "nothing" else last)
        return first

    assert [finding.rule for finding in hazards(kernel[2])] == rules


@pytest.mark.parametrize(("sent", "rules"), [("read", []), ("other", ["core-race"] * 2)])
def test_a_message_orders_what_its_tiles_depend_on(sent, rules):
    """Core 0 writes shared memory and reads it again; core 1 writes it once it has the message."""

    @jit
    def kernel(x):
        me = nl.program_id()
        shared = nl.ndarray((1, 512), dtype=x.dtype, buffer=nl.shared_hbm, name="shared")
        out = nl.ndarray((2, 512), dtype=x.dtype, buffer=nl.shared_hbm)
        read, other, got = (nl.ndarray((1, 512), x.dtype, nl.sbuf) for _ in range(3))
        for tile in (read, other):
            nisa.dma_copy(dst=tile, src=x[:1])
        if me == 0:
            nisa.dma_copy(dst=shared, src=other)
            nisa.dma_copy(dst=read, src=shared)
        nisa.sendrecv(src={"read": read, "other": other}[sent], dst=got, send_to_rank=1 - me,
                      recv_from_rank=1 - me, pipe_id=0)  # fmt: skip
        if me == 1:
            nisa.tensor_scalar(dst=got, data=got, op0=nl.add, operand0=1.0)
            nisa.dma_copy(dst=shared, src=got)
        nisa.dma_copy(dst=out[me : me + 1], src=got)
        return out

    assert [finding.rule for finding in hazards(kernel[2])] == rules


def test_more_cores_than_two_are_not_modelled():
    machine = load_chip("trainium2")
    trace = record(lambda x: result(x, x), (X,), chip=machine).trace
    with pytest.raises(NotModelled, match="3 cores"):
        find_hazards([trace] * 3, machine)
