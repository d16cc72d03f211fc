"""Chips with changed figures."""

from __future__ import annotations

import pytest

from rainshadow.errors import InputError, UnknownNameError
from rainshadow.machine import load_chip
from rainshadow.machine.what_if import what_if

CHIP = load_chip("trainium2")


def test_figures_by_full_name_and_within_the_core():
    chip = what_if(CHIP, "hbm.bandwidth=4TB/s, vector.clock=1.4 GHz,core.dma.engines=32")
    assert chip.hbm.bandwidth.value == 4e12
    assert chip.core is not None and chip.core.vector.clock.value == 1.4e9
    assert chip.core.dma.engines.value == 32
    assert (chip.hbm.bandwidth.grade, chip.hbm.bandwidth.low) == ("assumed", 4e12)
    assert CHIP.hbm.bandwidth.text in chip.hbm.bandwidth.note
    assert chip.core.scalar == CHIP.core.scalar


def test_sbuf_and_psum_are_whole_memories():
    chip = what_if(CHIP, "sbuf=48MiB,psum=4MiB")
    sbuf, before = chip.core.sbuf, CHIP.core.sbuf
    assert sbuf.bytes_per_partition.value == 384 * 1024
    kept = before.bytes_per_partition.value - before.usable_bytes_per_partition.value
    assert sbuf.usable_bytes_per_partition.value == 384 * 1024 - kept
    assert (chip.core.psum.banks.value, chip.core.psum.bytes_per_partition.value) == (16, 32768)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("sbuf", InputError, "FIGURE=VALUE"),
        ("sbuf=", InputError, "FIGURE=VALUE"),
        ("sbuf=1KiB", InputError, "more than"),
        ("sbuf=4TB/s", InputError, "units of B"),
        ("psum=3MB", InputError, "multiple"),
        ("hbm.bandwidth=-1TB/s", InputError, "no less than 0"),
        ("hbm.bandwith=4TB/s", UnknownNameError, "hbm.bandwidth"),
    ],
)
def test_what_cannot_be_is_one_message(text, error, message):
    with pytest.raises(error, match=message.replace(".", r"\.")) as caught:
        what_if(CHIP, text)
    assert "Traceback" not in str(caught.value)
