"""The folders are the registries: what lies in them is complete, named by the rules, in budget."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rainshadow.cli import command_names
from rainshadow.isa.instruction import REGISTRY, Instruction, load_instructions
from rainshadow.isa.operators import ACTIVATION_FUNCTIONS, ALU_OPERATORS
from rainshadow.nki import collectives as ncc
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "rainshadow"
INSTRUCTIONS = sorted(
    path.stem for path in (SOURCE / "isa/instructions").glob("*.py") if path.stem != "__init__"
)
MODULES = sorted(SOURCE.rglob("*.py"))
#: Fields that are the same for every instruction of a core.
_OF_THE_CORE = {"generators"}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}


def of_file(name: str) -> list[type[Instruction]]:
    """The instructions that a file of isa/instructions defines."""
    module = importlib.import_module(f"rainshadow.isa.instructions.{name}")
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Instruction)
        and value.__module__ == module.__name__
    ]


def tracked_files() -> Iterator[Path]:
    """Every file of the repository that git knows."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    yield from (ROOT / name for name in listed.stdout.split("\0") if name)


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_an_instruction_file_registers_one_instruction_under_its_own_name(name):
    (cls,) = of_file(name)
    assert cls.opcode == name
    assert REGISTRY[name] is cls
    assert cls.__name__ == "".join(word.capitalize() for word in name.split("_"))


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_an_instruction_has_rules_a_meaning_and_a_cost_of_its_own(name):
    (cls,) = of_file(name)
    for method in ("check", "meaning", "work"):
        assert method in vars(cls), f"{name} inherits {method}, which is NotModelled"


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_an_instruction_says_what_it_does_and_where_its_rules_come_from(name):
    (cls,) = of_file(name)
    document = sys.modules[cls.__module__].__doc__ or ""
    first_line = document.partition("\n")[0]
    assert first_line.endswith(".") and len(first_line) > 15
    assert re.search(r"Source of (the )?rules", document)
    assert cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}("), "operands and shapes"


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_an_instructions_operands_and_options_are_fields_of_it(name):
    (cls,) = of_file(name)
    fields = set(cls.__dataclass_fields__)
    assert set(cls.READS) | set(cls.WRITES) | set(cls.PARAMS) <= fields
    assert "engine" in fields and (cls.WRITES or cls.READS)


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_what_rules_depend_on_is_checked_again_when_it_changes(name):
    """Rules are checked once per engine, `PARAMS` and kinds of operands."""
    cls = load_instructions()[name]
    known = {*cls.PARAMS, *cls.READS, *cls.WRITES, "engine", *_OF_THE_CORE}
    used = set(re.findall(r"self\.(\w+)", inspect.getsource(cls.check)))
    assert used & {field.name for field in dataclasses.fields(cls)} <= known


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_nki_has_the_instruction_and_its_example_is_a_call_that_binds(name):
    (cls,) = of_file(name)
    module, prefix = {"isa": (nisa, "nisa"), "collectives": (ncc, "ncc")}[cls.MODULE]
    function = getattr(module, name)
    assert function.__module__.startswith(module.__name__) and function.__doc__
    call = ast.parse(cls.EXAMPLE, mode="eval").body
    assert isinstance(call, ast.Call) and ast.unparse(call.func) == f"{prefix}.{name}"
    names = {keyword.arg: None for keyword in call.keywords}
    inspect.signature(function).bind(*call.args, **names)


def test_every_instruction_file_is_loaded_and_nothing_else_is_registered():
    assert sorted(load_instructions()) == INSTRUCTIONS


#: Operators that only their alias in `nl`, or only a string, can name.
BY_STRING_ONLY = {"identity", "logical_shift_left", "logical_shift_right"}


@pytest.mark.parametrize("name", sorted({*ALU_OPERATORS, *ACTIVATION_FUNCTIONS} - BY_STRING_ONLY))
def test_every_operator_and_function_has_a_name_in_nki_language(name):
    assert callable(getattr(nl, name))


@pytest.mark.parametrize("name", command_names())
def test_a_command_has_help_and_a_function_called_command(name):
    tree = ast.parse((SOURCE / "cli" / f"{name.replace('-', '_')}.py").read_text("utf-8"))
    document = ast.get_docstring(tree)
    assert document and document.partition("\n")[0].endswith(".")
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert ast.get_docstring(functions["command"])


def test_every_file_of_the_command_folder_is_a_command():
    files = {path.stem for path in (SOURCE / "cli").glob("*.py")} - {"__init__"}
    assert files == {name.replace("-", "_") for name in command_names()}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_says_what_it_knows_and_has_a_name_that_says_something(path):
    document = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert document, "every module begins with a docstring"
    words = set(path.relative_to(SOURCE).with_suffix("").parts)
    assert not words & FORBIDDEN_NAMES


def test_no_file_no_function_and_no_instruction_is_over_its_budget():
    done = subprocess.run(
        [sys.executable, "tools/budgets.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "lines per layer:" in done.stdout


def test_the_budgets_do_fail_what_is_too_long(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    budgets = importlib.import_module("budgets")
    monkeypatch.setattr(budgets, "ROOT", tmp_path)
    body = "    x = 1\n" * budgets.FUNCTION_LINES
    path = tmp_path / "instructions" / "long.py"
    path.parent.mkdir()
    path.write_text(f"def long():\n{body}" + "y = 1\n" * budgets.INSTRUCTION_LINES)
    _, faults = budgets.faults_of(path)
    assert len(faults) == 2 and "at most 60" in faults[1]


def test_no_tracked_file_names_a_folder_of_one_machine():
    folders = ["/" + "work/", "/" + "home/", "/" + "Users/"]
    found = []
    for path in tracked_files():
        try:
            text = path.read_text("utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        found += [f"{path.relative_to(ROOT)}: {folder}" for folder in folders if folder in text]
    assert found == []


def test_no_package_called_nki_is_shipped():
    assert not any(path.name == "nki" and path.parent.name == "src" for path in ROOT.rglob("nki"))


def test_the_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text("utf-8")


def test_the_table_of_rules_is_current():
    command = [sys.executable, "tools/rules_table.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, check=False)
    assert done.returncode == 0, "docs/rules.md is old: run `python tools/rules_table.py`"
