"""Checking a run: reads of unwritten memory count where the results depend on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rainshadow.machine import load_chip
from rainshadow.nki import Shape, jit, record
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.nki.check import check_launches
from rainshadow.sim.options import SimOptions

CHIP = load_chip("trainium2")
X = np.linspace(0, 1, 128 * 512, dtype=np.float32).reshape(128, 512)


def check(kernel: Any, *arguments: Any, **options: Any) -> list[Any]:
    settings = SimOptions(**options)
    given = arguments or (X.copy(),)
    return check_launches(
        lambda: record(kernel, given, chip=CHIP, options=settings), CHIP, Path("mine.py")
    )


def half_loaded(x, rows_stored, address=None):
    """Loads half of the rows, doubles all of them, stores some."""
    out = nl.ndarray((rows_stored, x.shape[1]), dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf, address=address)
    nisa.dma_copy(dst=tile[:64], src=x[:64])
    doubled = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=doubled, data=tile, op0=nl.multiply, operand0=2.0)
    nisa.dma_copy(dst=out, src=doubled[:rows_stored])
    return out


@pytest.mark.parametrize("address", [None, (0, 0)])
def test_unwritten_rows_that_no_result_depends_on_are_no_finding(address):
    assert check(lambda x: half_loaded(x, 64, address)) == []


@pytest.mark.parametrize("address", [None, (0, 0)])
def test_unwritten_rows_that_reach_the_result_are_an_error(address):
    (finding,) = check(lambda x: half_loaded(x, 65, address))
    assert (finding.rule, finding.severity) == ("uninitialized-read", "error")
    assert finding.text.startswith("nisa.tensor_scalar")


def test_without_data_it_is_a_warning():
    (finding,) = check(lambda x: half_loaded(x, 64), Shape(X.shape, "float32"), data="none")
    assert (finding.rule, finding.severity) == ("uninitialized-read", "warning")


def test_only_the_line_that_matters_is_named():
    def both(x):
        harmless = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf, name="harmless")
        guilty = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf, name="guilty")
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        for tile in (harmless, guilty):
            nisa.tensor_copy(dst=tile[:1], src=x_row(x))
            nisa.tensor_scalar(dst=tile, data=tile, op0=nl.add, operand0=1.0)
        nisa.dma_copy(dst=out, src=guilty)
        return out

    def x_row(x):
        row = nl.ndarray((1, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=row, src=x[:1])
        return row

    (finding,) = check(both)
    assert "guilty" in finding.message


@pytest.mark.parametrize(
    ("then", "rules"),
    [("stored", ["unwritten-operand"]), ("overwritten", ["unwritten-operand"]), ("left", [])],
)
def test_an_operand_of_which_nothing_is_written_is_a_warning_where_it_is_not_just_left(then, rules):
    """NaN is no 3, and zero isn't either: the result is the same, and was not meant."""

    def kernel(x):
        unwritten, tile = (nl.ndarray(x.shape, x.dtype, nl.sbuf) for _ in range(2))
        nisa.tensor_scalar(dst=tile, data=unwritten, op0=nl.equal, operand0=3.0)
        if then == "overwritten":
            nisa.dma_copy(dst=tile, src=x)
        if then == "left":
            tile = nl.ndarray(x.shape, x.dtype, nl.sbuf)
            nisa.dma_copy(dst=tile, src=x)
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=tile)
        return out

    found = check(kernel)
    assert [finding.rule for finding in found] == rules
    assert all(finding.severity == "warning" for finding in found)
    assert all(finding.text.startswith("nisa.tensor_scalar") for finding in found)


def test_a_copy_by_predicate_leaves_the_rest_of_its_target_as_it_is():
    def kernel(x):
        tile, chosen = (nl.ndarray(x.shape, d, nl.sbuf) for d in (x.dtype, nl.uint8))
        source = nl.ndarray(x.shape, x.dtype, nl.sbuf)
        nisa.dma_copy(dst=source, src=x)
        nisa.tensor_scalar(dst=chosen, data=source, op0=nl.greater, operand0=0.5)
        nisa.tensor_copy_predicated(dst=tile, src=source, predicate=chosen)
        nisa.tensor_copy_predicated(dst=tile, src=1.0, predicate=chosen, reverse_pred=True)
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=tile)
        return out

    assert check(kernel) == []


@pytest.mark.parametrize(("rows", "rules"), [(128, []), (64, ["partly-uninitialized"])])
def test_what_only_an_indirect_write_may_have_written_counts_where_the_results_depend_on_it(
    rows, rules
):
    def kernel(x):
        index = nl.ndarray((rows, 1), dtype=nl.int32, buffer=nl.sbuf)
        nisa.iota(dst=index, pattern=[[1, 1]], offset=0, channel_multiplier=1)
        tile = nl.ndarray((rows, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[:rows])
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        width = x.shape[1]
        nisa.dma_copy(dst=out.ap([[width, rows], [1, width]], vector_offset=index), src=tile)
        return out

    found = check(kernel)
    assert [finding.rule for finding in found] == rules


def test_what_another_tile_left_counts_like_nothing():
    def kernel(x):
        first = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf, address=(0, 0))
        nisa.dma_copy(dst=first, src=x)
        return half_loaded(x, 128, address=(0, 0))

    (finding,) = check(kernel)
    assert finding.rule == "leftover-read"


def test_an_argument_that_the_kernel_changes_is_not_changed_by_the_check():
    def kernel(x):
        tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile[:64], src=x[:64])
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.add, operand0=1.0)
        nisa.dma_copy(dst=x[:64], src=tile[:64])
        return x

    given = X.copy()
    assert check(kernel, given) == []
    np.testing.assert_array_equal(given[:64], X[:64] + 1)
    np.testing.assert_array_equal(given[64:], X[64:])


def test_cores_that_store_in_turns_what_both_know():
    @jit
    def kernel(x, other):
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
        nisa.memset(dst=tile, value=0.0)
        nisa.dma_copy(dst=out, src=tile)
        nisa.dma_copy(dst=tile, src=other if nl.program_id() else x)
        nisa.dma_copy(dst=out, src=tile)
        return out

    assert check(kernel[2], X.copy(), X.copy()) == []
    assert [finding.rule for finding in check(kernel[2], X.copy(), X + 1)] == ["core-race"] * 2


@pytest.mark.parametrize("what", ["same", "other"])
def test_cores_that_store_the_same_at_addresses_known_when_they_run(what):
    """And read it back after the last of them: whichever core is first, bytes are the same."""

    @jit
    def kernel(x):
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        tile = nl.ndarray((32, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
        row = nl.ndarray((1, 1), dtype=nl.int32, buffer=nl.sbuf)
        nisa.memset(dst=row, value=0)
        width = x.shape[1]
        for step in range(4):
            nisa.dma_copy(dst=tile, src=x[step * 32 : step * 32 + 32])
            if what == "other" and nl.program_id():
                nisa.tensor_scalar(dst=tile, data=tile, op0=nl.add, operand0=1.0)
            nisa.dma_copy(
                dst=out.ap([[width, 32], [1, width]], scalar_offset=row, indirect_dim=0), src=tile
            )
            nisa.tensor_scalar(dst=row, data=row, op0=nl.add, operand0=32)
        nisa.dma_copy(dst=out, src=out)
        return out

    found = {finding.rule for finding in check(kernel[2], X.copy())}
    assert found == ({"core-race"} if what == "other" else set())
