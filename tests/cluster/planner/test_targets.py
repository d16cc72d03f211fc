"""What users type for systems, sizes, amounts and times."""

from __future__ import annotations

import pytest

from rainshadow.cluster.planner.targets import chip_counts, quantity, span_s, system_names
from rainshadow.errors import InputError, UnknownNameError
from rainshadow.machine import load_system


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("512", [512]),
        ("64..512", [64, 128, 256, 512]),
        ("64..200/64", [64, 128, 192]),
        ("96, 64", [64, 96]),
    ],
)
def test_sizes(text, counts):
    assert chip_counts(text) == counts


@pytest.mark.parametrize("text", ["", "a", "0", "8..4", "4..8/0", "1..100000/1"])
def test_what_is_no_size(text):
    with pytest.raises(InputError, match="--chips"):
        chip_counts(text)


def test_amounts_and_times():
    assert quantity("15T", "--tokens") == 15e12
    assert quantity("2.5m", "--budget") == 2.5e6
    assert span_s("36h", "--deadline") == 129600
    for wrong in ("-1T", "T", "0"):
        with pytest.raises(InputError, match="--tokens"):
            quantity(wrong, "--tokens")
    with pytest.raises(InputError, match="30d"):
        span_s("30", "--deadline")


def test_a_chip_stands_for_the_system_it_is_rented_in():
    (name,) = system_names("h200")
    assert load_system(name).price_item == "p5en.48xlarge"
    assert system_names("trn2-ultraserver, tpu-v6e,trn2-ultraserver")[0] == "trn2_ultraserver"
    with pytest.raises(UnknownNameError, match="did you mean h200"):
        system_names("h20")


@pytest.mark.parametrize("name", ["grace", "rhea1"])
def test_a_host_is_no_accelerator(name):
    with pytest.raises(InputError, match="no accelerator"):
        system_names(name)
