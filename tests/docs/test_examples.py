"""The examples run and show what they say."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rainshadow.machine import load_chip

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def tiny():
    spec = importlib.util.spec_from_file_location(
        "tiny_neuroncore", EXAMPLES / "tiny_neuroncore.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_tiny_core_is_one_page_of_numpy():
    text = (EXAMPLES / "tiny_neuroncore.py").read_text("utf-8")
    assert text.count("\n") <= 200
    nodes = ast.walk(ast.parse(text))
    imported = {
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    }
    assert imported == {"numpy"}


def test_the_tiny_core_computes_and_overlaps(tiny):
    ends = {}
    for banks in (1, 2):
        tiles = tiny.layer_tiles(4, banks)
        events = tiny.run(tiny.layer_program(4, banks), tiles)
        assert tiny.is_right(tiles, 4)
        ends[banks] = max(event.end_ns for event in events)
        for engine in tiny.CLOCK_GHZ:
            own = [e for e in events if tiny.OPCODES[e.instruction.opcode].engine == engine]
            assert all(a.end_ns <= b.start_ns for a, b in itertools.pairwise(own))
    assert ends[2] < ends[1]


def test_a_forgotten_semaphore_shows(tiny):
    tiles = tiny.layer_tiles(4, 2)
    program = [tiny.Instruction(i.opcode, i.out, i.inputs) for i in tiny.layer_program(4, 2)]
    tiny.run(program, tiles)
    assert not tiny.is_right(tiles, 4)


def test_waiting_for_ever_and_broken_rules_are_errors(tiny):
    tiles = {"a": np.ones((4, 4)), "wide": np.ones((256, 4)), "psum_0": np.ones((4, 600))}
    with pytest.raises(RuntimeError, match="deadlock"):
        tiny.run([tiny.Instruction("relu", "a", ("a",), wait=(("never", 1),))], tiles)
    for tile in ("wide", "psum_0"):
        with pytest.raises(ValueError, match=r"128|512"):
            tiny.run([tiny.Instruction("relu", tile, (tile,))], tiles)


def test_the_tiny_cores_figures_are_those_of_the_machine_data(tiny):
    core = load_chip("trainium2").core
    assert tiny.CLOCK_GHZ["tensor"] * 1e9 == core.tensor.clock.value
    assert tiny.CLOCK_GHZ["vector"] * 1e9 == core.vector.clock.value
    assert pytest.approx(core.semaphore_latency.value) == tiny.SEMAPHORE_NS * 1e-9
    assert core.tensor.fp32_passes.value == tiny.FP32_PASSES
    assert core.partitions.value == tiny.PARTITIONS


@pytest.mark.parametrize("words", [["tiny_neuroncore.py"]])
def test_examples_run_as_scripts(words):
    path = EXAMPLES / words[0]
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "without semaphores: right False" in done.stdout


def test_the_training_example_knows_nothing_of_rainshadow():
    text = (EXAMPLES / "train_gpt_cuda.py").read_text("utf-8").lower()
    assert "rainshadow" not in text and "neuron" not in text and "trainium" not in text
