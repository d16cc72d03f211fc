"""Layout and price of a step: scaling, ranges, missing prices."""

from __future__ import annotations

import pytest

from rainshadow.cluster.step import StepProfile, step_on
from rainshadow.cost.layout import DEFAULT_SYSTEMS, lay_out
from rainshadow.cost.price import chip_price, parse_prices
from rainshadow.errors import InputError, NotModelled, UnknownNameError
from rainshadow.machine import load_chip, load_site, load_system

PROFILE = StepProfile(
    name="gpt", step_s=2e-3, backward_s=1e-3, flops=4e9, tokens=1024, num_parameters=600_000
)


def rows(prices=None):
    systems = [load_system(name) for name in DEFAULT_SYSTEMS["trainium2"]]
    return lay_out(
        PROFILE,
        systems,
        seen_on=load_chip("trainium2"),
        site=load_site("aws_fleet"),
        prices=prices or {},
    )


def test_every_row_has_ordered_ranges_and_a_grade():
    for row in rows():
        for estimate in (
            row.step.step_s,
            row.step.tokens_per_s,
            row.usd_per_million_tokens,
            row.kwh_per_million_tokens,
        ):
            assert 0 < estimate.low <= estimate.value <= estimate.high
            assert estimate.grade in ("derived", "assumed")


def test_data_parallel_degree_is_chips_times_cores():
    by_name = {row.system.name: row.step.workers for row in rows()}
    assert by_name["trn2_chip"] == 8
    assert by_name["trn2_48xlarge"] == 128
    assert by_name["rainier"] == 16384 * 8
    assert by_name["p5_48xlarge"] == 8


def test_trn2_has_no_list_price_so_spot_is_shown_as_spot():
    price = chip_price(load_system("trn2_48xlarge"), {})
    assert price.kind == "spot"
    assert price.usd_per_hour == pytest.approx(23.0631 / 16)


def test_the_users_price_counts_per_chip_or_per_instance():
    assert parse_prices(["trn2=2.0"]) == {"trainium2": 2.0}
    assert parse_prices(["trn2.48xlarge=32"]) == {"trn2.48xlarge": 2.0}
    doubled = rows(parse_prices(["trn2=4.0"]))[0].usd_per_million_tokens.value
    single = rows(parse_prices(["trn2=2.0"]))[0].usd_per_million_tokens.value
    assert doubled == pytest.approx(2 * single)


@pytest.mark.parametrize("word", ["trn2", "trn2=", "trn2=x", "trn2=-1"])
def test_malformed_prices_say_what_to_type(word):
    with pytest.raises(InputError, match=r"--price trn2"):
        parse_prices([word])


def test_unknown_chip_in_a_price():
    with pytest.raises(UnknownNameError, match="tnr2"):
        parse_prices(["tnr2=1"])


def test_a_system_without_price_says_what_to_type():
    with pytest.raises(NotModelled, match=r"--price trn3=USD/h"):
        chip_price(load_system("trn3_gen1_ultraserver"), {})


def test_another_generation_needs_its_own_port():
    with pytest.raises(NotModelled, match="--chip trainium1"):
        step_on(PROFILE, load_system("trn1_32xlarge"), load_chip("trainium2"))
