"""Every description that is shipped: it loads, and every figure says where it is from."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest

from rainshadow.cost.price import KINDS, price_rows
from rainshadow.machine import (
    Chip,
    data_faults,
    list_chips,
    list_sites,
    list_systems,
    load_chip,
    load_site,
    load_sources,
    load_system,
)
from rainshadow.sources import GRADES, Figure

DATA = resources.files("rainshadow") / "data"
DESCRIPTIONS = [
    *((load_chip, name) for name in list_chips()),
    *((load_system, name) for name in list_systems()),
    *((load_site, name) for name in list_sites()),
]
NEURON_CHIPS = [name for name in list_chips() if load_chip(name).core is not None]


def figures_of(value: Any, path: str = "") -> Iterator[tuple[str, Figure]]:
    """Every figure of a description, by walking all of it."""
    if isinstance(value, Figure):
        yield path, value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from figures_of(entry, f"{path}.{key}")
    elif isinstance(value, tuple):
        for index, entry in enumerate(value):
            yield from figures_of(entry, f"{path}[{index}]")
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from figures_of(getattr(value, field.name), f"{path}.{field.name}")


def test_no_shipped_description_has_a_fault():
    assert data_faults() == []


def test_the_folders_hold_the_machines_the_project_speaks_of():
    assert {"trainium1", "trainium2", "trainium3", "h100_sxm"} <= set(list_chips())
    assert {"trn2_48xlarge", "trn2_ultraserver", "rainier"} <= set(list_systems())
    assert {"new_carlisle", "france"} <= set(list_sites())


@pytest.mark.parametrize(("load", "name"), DESCRIPTIONS, ids=[name for _, name in DESCRIPTIONS])
def test_every_figure_has_a_known_source_a_grade_and_a_range_around_it(load, name):
    description = load(name)
    assert description.name == name
    assert description.title
    found = dict(figures_of(description))
    assert len(found) >= 4
    for path, figure in found.items():
        assert figure.source in load_sources(), path
        assert figure.grade in GRADES, path
        assert figure.low <= figure.value <= figure.high, path
        assert all(other.source in load_sources() for other in figure.alternatives), path


@pytest.mark.parametrize(("load", "name"), DESCRIPTIONS, ids=[name for _, name in DESCRIPTIONS])
def test_our_own_word_is_never_passed_off_as_a_makers_or_a_measurement(load, name):
    for path, figure in figures_of(load(name)):
        if figure.source == "rainshadow":
            assert figure.grade in ("assumed", "derived"), path
            assert figure.note, path


@pytest.mark.parametrize(("load", "name"), DESCRIPTIONS, ids=[name for _, name in DESCRIPTIONS])
def test_every_alias_loads_the_same_description(load, name):
    description = load(name)
    for alias in description.aliases:
        assert load(alias) == description
        assert load(alias.upper()) == description


def test_no_two_descriptions_of_a_kind_share_a_name_or_an_alias():
    for load, names in ((load_chip, list_chips()), (load_system, list_systems())):
        words = [word for name in names for word in (name, *load(name).aliases)]
        assert len(words) == len(set(words))


def test_every_source_is_used_by_some_data_file():
    files = [entry for folder in DATA.iterdir() if folder.is_dir() for entry in folder.iterdir()]
    text = "\n".join(entry.read_text("utf-8") for entry in files)
    unused = [key for key in load_sources() if not re.search(rf"(?<![\w-]){key}(?![\w-])", text)]
    assert unused == []


def test_every_source_has_a_title_an_address_and_the_day_it_was_read():
    for key, source in load_sources().items():
        assert source["title"], key
        assert re.match(r"(https://|rainshadow$|file:|[a-z])", source["url"]), key
        assert re.match(r"20\d\d", source["read"]), key


def test_every_price_names_a_known_chip_source_grade_and_kind():
    rows = price_rows()
    assert rows
    for row in rows:
        assert row.chip in list_chips(), row
        assert row.source in load_sources(), row
        assert row.grade in GRADES, row
        assert row.kind in KINDS, row
        assert row.value > 0 and row.num_chips >= 1, row
        assert row.region and re.match(r"20\d\d", row.date), row


def test_every_price_item_of_a_system_has_rows_for_its_chip():
    priced = [load_system(name) for name in list_systems() if load_system(name).price_item]
    assert priced
    for system in priced:
        rows = [row for row in price_rows() if row.item == system.price_item]
        assert {row.chip for row in rows} == {system.chip.name}, system.name


@pytest.mark.parametrize("name", NEURON_CHIPS)
def test_the_tensor_engines_rate_agrees_with_the_chips_stated_bf16_peak(name):
    chip = load_chip(name)
    stated = chip.peak_flops["bfloat16"]
    derived = chip.core_peak_flops * chip.core.count.value
    assert derived == pytest.approx(stated.value, rel=0.07)
    nearest = min([stated.value, *(other.value for other in stated.alternatives)],
                  key=lambda value: abs(value - derived))  # fmt: skip
    assert derived == pytest.approx(nearest, rel=0.01)


def test_core_peak_is_rows_times_columns_times_two_times_the_clock():
    assert load_chip("trainium2").core_peak_flops == pytest.approx(128 * 128 * 2 * 2.4e9)


def test_where_aws_pages_disagree_about_trainium_2_both_numbers_are_kept():
    chip = load_chip("trainium2")
    for figure, chosen, other in (
        (chip.hbm.bandwidth, 2.9e12, 3e12),
        (chip.peak_flops["bfloat16"], 667e12, 632e12),
    ):
        assert figure.value == pytest.approx(chosen)
        assert [entry.value for entry in figure.alternatives] == [pytest.approx(other)]
        assert figure.alternatives[0].source != figure.source
        assert figure.note, "one sentence says why this one was chosen"


@pytest.mark.parametrize("name", NEURON_CHIPS)
def test_the_memories_of_a_core_add_up(name):
    core = load_chip(name).core
    psum, sbuf = core.psum, core.sbuf
    assert psum.banks.value * psum.bank_bytes_per_partition.value == psum.bytes_per_partition.value
    assert sbuf.usable_bytes_per_partition.value <= sbuf.bytes_per_partition.value


@pytest.mark.parametrize("name", list_systems())
def test_a_systems_axes_multiply_to_the_chips_of_a_domain(name):
    system = load_system(name)
    product = 1
    for axis in system.axes:
        product *= axis.size
    assert system.chips_per_domain == product
    assert system.num_chips == product * system.domains
    assert system.instances * system.chips_per_instance == pytest.approx(system.num_chips)


def test_rainier_is_made_of_trainium_2_ultraservers():
    rainier, server = load_system("rainier"), load_system("trn2_ultraserver")
    assert rainier.chip is load_chip("trainium2")
    assert rainier.chips_per_domain == server.chips_per_domain == 64


def test_descriptions_cannot_be_changed():
    chip: Any = load_chip("trainium2")
    assert isinstance(chip, Chip)
    with pytest.raises(dataclasses.FrozenInstanceError):
        chip.hbm.bandwidth.value = 1.0
