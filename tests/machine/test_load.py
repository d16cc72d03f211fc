"""Reading a description: inheritance, names that don't exist, and every fault at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from rainshadow.errors import InputError, MachineDataError, UnknownNameError
from rainshadow.machine import load_chip, load_neuron_chip, load_site, load_system

GPU = """
title = "A GPU"
vendor = "nobody"
family = "gpu"
[peak_flops]
bfloat16 = { value = "100 TFLOPS", source = "rainshadow", grade = "stated" }
[hbm]
capacity = { value = "80 GB", source = "rainshadow", grade = "stated" }
bandwidth = { value = "2 TB/s", source = "rainshadow", grade = "stated" }
"""


def write(folder: Path, text: str, name: str = "mine.toml") -> str:
    (folder / name).write_text(text, "utf-8")
    return str(folder / name)


def faults(folder: Path, text: str) -> tuple[str, ...]:
    """Every fault of a chip that reads as `text`."""
    with pytest.raises(MachineDataError) as caught:
        load_chip(write(folder, text))
    return caught.value.faults


def test_a_users_own_file_is_read_and_named_after_itself(tmp_path):
    chip = load_chip(write(tmp_path, GPU))
    assert chip.name == "mine"
    assert chip.hbm.bandwidth.value == 2e12
    assert chip.hbm.bandwidth.text == "2 TB/s"
    assert chip.hbm.capacity.value == 80e9
    assert chip.core is None


def test_units_are_converted_once_and_binary_prefixes_differ_from_decimal_ones(tmp_path):
    chip = load_chip(write(tmp_path, GPU.replace("80 GB", "80 GiB")))
    assert chip.hbm.capacity.value == 80 * 2**30


def test_extends_changes_one_number_and_inherits_the_rest(tmp_path):
    text = """
extends = "trainium2"
title = "Trainium 2 with twice the SBUF"
[core.sbuf]
bytes_per_partition = { value = "448 KiB", source = "rainshadow", grade = "stated" }
"""
    chip, base = load_chip(write(tmp_path, text)), load_chip("trainium2")
    assert chip.core.sbuf.bytes_per_partition.value == 2 * 224 * 1024
    assert chip.core.sbuf.usable_bytes_per_partition == base.core.sbuf.usable_bytes_per_partition
    assert chip.core.tensor == base.core.tensor
    assert chip.hbm == base.hbm
    assert chip.aliases == (), "an alias names the file it stands in"
    assert base.core.sbuf.bytes_per_partition.value == 224 * 1024


def test_a_figure_that_is_overridden_is_replaced_whole(tmp_path):
    text = """
extends = "trainium2"
title = "Mine"
[hbm]
bandwidth = { value = "9 TB/s", source = "rainshadow", grade = "stated" }
"""
    bandwidth = load_chip(write(tmp_path, text)).hbm.bandwidth
    assert (bandwidth.value, bandwidth.note, bandwidth.alternatives) == (9e12, "", ())


def test_extends_reaches_through_a_chain_of_files(tmp_path):
    write(tmp_path, GPU, "first.toml")
    write(tmp_path, 'extends = "first.toml"\ntitle = "Second"', "second.toml")
    chip = load_chip(write(tmp_path, 'extends = "second.toml"\nvendor = "third"', "third.toml"))
    assert (chip.title, chip.vendor, chip.hbm.capacity.value) == ("Second", "third", 80e9)


@pytest.mark.parametrize("parent", ["mine.toml", "trainium9", "nowhere.toml"])
def test_extends_itself_or_nothing_is_an_error(tmp_path, parent):
    with pytest.raises(InputError, match=r"mine\.toml|nowhere\.toml"):
        load_chip(write(tmp_path, f'extends = "{parent}"\n'))


@pytest.mark.parametrize("parent", ['["trainium2"]', "{ name = 'trainium2' }", "7"])
def test_extends_something_that_is_no_name_is_an_error(tmp_path, parent):
    with pytest.raises(InputError, match="is not a name"):
        load_chip(write(tmp_path, f"extends = {parent}\n"))


def test_shipped_trainium_3_inherits_what_it_does_not_state_from_trainium_2():
    new, old = load_chip("trainium3"), load_chip("trainium2")
    assert new.core.psum == old.core.psum
    assert new.core.tensor.clock == old.core.tensor.clock
    assert new.core.vector.clock.value > old.core.vector.clock.value
    assert new.aliases != old.aliases


def test_a_file_with_many_faults_reports_all_of_them_with_file_and_key(tmp_path):
    text = """
title = "Broken"
family = "gpu"
colour = "red"
[peak_flops]
bfloat16 = { value = "100 TFLOPS", source = "nobody", grade = "stated" }
bfloat17 = { value = "100 TFLOPS", source = "rainshadow", grade = "stated" }
float16 = { value = "100 TFLOPS", grade = "stated" }
float32 = { value = "100 TFLOPS", source = "rainshadow", grade = "guessed" }
[hbm]
capacity = { value = "80 parsecs", source = "rainshadow", grade = "stated" }
bandwidth = { value = "3 GHz", source = "rainshadow", grade = "stated" }
[tdp]
value = "500 W"
source = "rainshadow"
grade = "assumed"
low = "600 W"
high = "700 W"
[achievable_matmul_fraction]
value = "80 %"
source = "rainshadow"
grade = "assumed"
[launch]
lnc1 = { value = "0 W", source = "rainshadow", grade = "stated", unit = "W" }
"""
    found = faults(tmp_path, text)
    expected = {
        "colour: unknown key": "title",
        "vendor: missing": "",
        "peak_flops.bfloat16.source: 'nobody'": "sources.toml",
        "peak_flops.bfloat17: not an NKI dtype": "",
        "peak_flops.float16.source: missing": "",
        "peak_flops.float32.grade: 'guessed'": "measured, stated, derived, assumed",
        "hbm.capacity: '80 parsecs' has unit 'parsecs'": "GiB",
        "hbm.bandwidth: '3 GHz' has unit 'GHz'": "TB/s",
        "tdp: value 500 W is outside low..high": "",
        "achievable_matmul_fraction: an assumed figure needs low and high": "",
        "launch.lnc1.unit: unknown key": "",
        "launch.lnc1: '0 W' has unit 'W'": "ns",
        "launch.lnc2: missing": "",
    }
    path = str(tmp_path / "mine.toml")
    for start, also in expected.items():
        matching = [fault for fault in found if fault.startswith(f"{path}: {start}")]
        assert len(matching) == 1, (start, found)
        assert also in matching[0]
    assert len(found) == len(expected)


def test_the_message_of_a_broken_file_holds_every_fault_and_their_number(tmp_path):
    text = GPU.replace('vendor = "nobody"', "").replace("2 TB/s", "2 apples")
    with pytest.raises(MachineDataError) as caught:
        load_chip(write(tmp_path, text))
    message = str(caught.value)
    assert "2 faults" in message
    assert "vendor: missing" in message and "hbm.bandwidth: '2 apples'" in message


@pytest.mark.parametrize(
    ("figure", "fault"),
    [
        ('{ value = "0 TB/s", source = "rainshadow", grade = "stated" }', "not above zero"),
        ('{ value = "-1 TB/s", source = "rainshadow", grade = "stated" }', "not above zero"),
        ('{ value = "2,9 TB/s", source = "rainshadow", grade = "stated" }', "not a quantity"),
        ('{ value = true, source = "rainshadow", grade = "stated" }', "not a quantity"),
        ('"2 TB/s"', "expected { value, source, grade }"),
        ('{ value = "2 TB/s", source = ["rainshadow"], grade = "stated" }', "sources.toml"),
        ('{ value = "2 TB/s", source = "rainshadow", grade = "stated", '
         'alternatives = [{ value = "2 TB/s", source = "rainshadow" }] }', "agrees"),
        ('{ value = "2 TB/s", source = "rainshadow", grade = "stated", '
         'alternatives = ["3 TB/s"] }', "expected { value, source }"),
        ('{ value = "2 TB/s", source = "rainshadow", grade = "stated", '
         "alternatives = 3 }", "alternatives"),
    ],
)  # fmt: skip
def test_a_figure_that_makes_no_sense_is_one_fault_at_its_key(tmp_path, figure, fault):
    good = '{ value = "2 TB/s", source = "rainshadow", grade = "stated" }'
    found = faults(tmp_path, GPU.replace(good, figure))
    assert len(found) == 1
    assert "hbm.bandwidth" in found[0] and fault in found[0]


def test_a_systems_file_reports_bad_axes_and_an_unknown_chip_together(tmp_path):
    text = """
title = "Odd"
chip = "trainium9"
chips_per_instance = 0
domains = "many"
[[axes]]
name = "x"
size = 4
kind = "moebius"
bandwidth = { value = "128 GB/s", source = "rainshadow", grade = "stated" }
"""
    with pytest.raises(MachineDataError) as caught:
        load_system(write(tmp_path, text))
    found = "\n".join(caught.value.faults)
    assert "chip: unknown chip 'trainium9'" in found and "trainium2" in found
    assert "chips_per_instance: expected 1 or more, got 0" in found
    assert "domains: expected int, got 'many'" in found
    assert "axes[0].kind: 'moebius' is not one of ring, line, switch" in found
    assert "axes[0].latency: missing" in found
    assert len(caught.value.faults) == 5


def test_text_that_is_not_toml_is_said_to_be_none(tmp_path):
    (fault,) = faults(tmp_path, "title = ")
    assert "mine.toml: not TOML" in fault


@pytest.mark.parametrize(
    ("load", "typed", "meant"),
    [
        (load_chip, "tranium2", "trainium2"),
        (load_chip, "h10", "h100"),
        (load_system, "ranier", "rainier"),
        (load_site, "new_carlile", "new_carlisle"),
    ],
)
def test_an_unknown_name_suggests_the_nearest_and_lists_all(load, typed, meant):
    with pytest.raises(UnknownNameError) as caught:
        load(typed)
    message = str(caught.value)
    assert f"unknown {load.__name__.removeprefix('load_')} '{typed}'" in message
    assert "did you mean" in message and meant in message.split("did you mean")[1]
    assert caught.value.exit_code == 1


def test_a_chip_without_neuron_cores_cannot_run_kernels_and_the_message_says_which_can():
    with pytest.raises(InputError, match=r"h100_sxm has no NeuronCore") as caught:
        load_neuron_chip("h100")
    assert "trainium1, trainium2, trainium3" in str(caught.value)


def test_a_path_to_no_file_names_the_path_and_what_is_shipped():
    with pytest.raises(InputError, match=r"no file 'nowhere\.toml'") as caught:
        load_chip("nowhere.toml")
    assert "trainium2" in str(caught.value)
