"""User files with kernels: loaded, run as scripts, and their faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rainshadow.errors import InputError, NkiValidationError, ScriptError, UnknownNameError
from rainshadow.machine import load_chip
from rainshadow.nki import Shape
from rainshadow.nki.program import (
    LaunchOptions,
    as_script,
    bind_arguments,
    launch,
    load_kernel,
    run_program,
)
from rainshadow.sim.options import SimOptions

KERNELS = Path(__file__).parents[1] / "report" / "kernels.py"
CHIP = load_chip("trainium2")


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.py"
    path.write_text("import nki\nimport nki.isa as nisa\nimport nki.language as nl\n" + text)
    return path


def test_a_script_hands_over_every_launch_in_order():
    runs = run_program(KERNELS, ["256"], load_chip("trainium3"))
    assert [run.trace.kernel for run in runs] == ["scale", "product"]
    assert {run.trace.chip for run in runs} == {"trainium3"}


def test_arguments_of_every_form(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6.0).reshape(2, 3))
    kernel = load_kernel(KERNELS, "scale")
    given = bind_arguments(kernel, ["x=4x8:bfloat16", "factor=1.5"], data=True, seed=0)
    assert given["x"].shape == (4, 8) and given["x"].dtype.name == "bfloat16"
    assert given["factor"] == 1.5
    again = bind_arguments(kernel, ["x=4x8:bfloat16"], data=True, seed=0)
    assert np.array_equal(again["x"], given["x"])
    loaded = bind_arguments(kernel, [f"x=@{tmp_path}/x.npy"], data=True, seed=0)
    assert loaded["x"].shape == (2, 3)
    shapes = bind_arguments(kernel, ["x=16:int32"], data=False, seed=0)
    assert shapes["x"] == Shape((16,), "int32")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("x", "NAME=VALUE"),
        ("y=128x512", "x, factor|factor, x"),
        ("x=128x512:float17", "float17"),
        ("x=@none.npy", "none.npy"),
        ("x=a b", "no value"),
    ],
)
def test_wrong_arguments_say_what_is_right(argument, message):
    with pytest.raises((InputError, NkiValidationError), match=message):
        bind_arguments(load_kernel(KERNELS, "scale"), [argument], data=True, seed=0)


def test_a_missing_argument_shows_what_to_type():
    with pytest.raises(InputError, match=r"--arg x=128x512:float32"):
        bind_arguments(load_kernel(KERNELS, "scale"), [], data=True, seed=0)


def test_an_unknown_kernel_lists_the_files_kernels():
    with pytest.raises(UnknownNameError, match="product, scale"):
        load_kernel(KERNELS, "scael")


def test_a_missing_file_is_said():
    with pytest.raises(InputError, match="no file"):
        load_kernel(Path("nowhere.py"), "scale")


def test_an_error_of_the_file_names_its_line(tmp_path):
    with pytest.raises(ScriptError, match="raised NameError") as caught:
        load_kernel(write(tmp_path, "undefined_name\n"), "scale")
    assert caught.value.where.line == 4
    with pytest.raises(ScriptError, match="SyntaxError"):
        load_kernel(write(tmp_path, "def broken(:\n"), "scale")


def test_an_error_inside_a_kernel_names_its_line():
    with (
        pytest.raises(ScriptError, match="ValueError: my mistake") as caught,
        as_script(KERNELS, ()),
    ):
        load_kernel(KERNELS, "breaks")()
    assert "my mistake" in caught.value.where.text


def test_a_script_without_launches_is_an_error(tmp_path):
    with pytest.raises(InputError, match="launched no kernel"):
        run_program(write(tmp_path, "raise SystemExit(0)\n"), [], CHIP)


def test_the_import_path_and_arguments_are_restored(tmp_path):
    import sys

    before = list(sys.argv), list(sys.path)
    with pytest.raises(ScriptError):
        run_program(write(tmp_path, "import sys\nsys.path.append('x')\n1/0\n"), ["a"], CHIP)
    assert (sys.argv, sys.path) == before


@pytest.mark.parametrize("options", [{"data": "none"}, {"lnc": 2}])
def test_options_of_a_function_are_refused_for_a_script(options):
    with pytest.raises(InputError, match="without a function"):
        launch(str(KERNELS), [], [], CHIP, LaunchOptions(**options))


def test_how_tiles_that_do_not_fit_are_treated_is_an_option(tmp_path):
    path = write(
        tmp_path,
        "@nki.jit\ndef hold(x):\n"
        "    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)\n"
        "    tiles = []\n"
        "    for i in range(6):\n"
        "        tiles.append(nl.ndarray((128, 10000), dtype=x.dtype, buffer=nl.sbuf))\n"
        "        nisa.dma_copy(dst=tiles[i], src=x[i * 128 : (i + 1) * 128])\n"
        "    for i in range(6):\n"
        "        nisa.dma_copy(dst=out[i * 128 : (i + 1) * 128], src=tiles[i])\n"
        "    return out\n",
    )
    words = (f"{path}:hold", ["x=768x10000"], [], CHIP)
    with pytest.raises(
        NkiValidationError, match=r"largest free stretch[\s\S]*RAINSHADOW_SPILL=model"
    ):
        launch(*words, LaunchOptions(data="none"))
    (run,) = launch(*words, LaunchOptions(data="none", spill="model"))
    assert run.trace.num_rows > 12
    with pytest.raises(InputError, match="reject or model"):
        LaunchOptions(spill="some")


def test_a_variable_has_a_suite_start_with_zeros(monkeypatch):
    assert SimOptions.of_environment().uninitialized == "nan"
    monkeypatch.setenv("RAINSHADOW_UNINITIALIZED", "zero")
    assert SimOptions.of_environment().uninitialized == "zero"
    monkeypatch.setenv("RAINSHADOW_UNINITIALIZED", "one")
    with pytest.raises(InputError, match=r"RAINSHADOW_UNINITIALIZED=one[\s\S]*nan or zero"):
        SimOptions.of_environment()


def test_a_variable_has_a_suite_model_spilling(monkeypatch):
    monkeypatch.setenv("RAINSHADOW_SPILL", "model")
    assert SimOptions.of_environment().spill == "model"
    monkeypatch.setenv("RAINSHADOW_SPILL", "some")
    with pytest.raises(InputError, match=r"RAINSHADOW_SPILL=some[\s\S]*reject or model"):
        SimOptions.of_environment()
