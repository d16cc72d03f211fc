"""Knows how a user's file with NKI kernels is loaded, or run as a script, under our NKI names."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rainshadow import dtypes
from rainshadow.errors import (
    InputError,
    RainshadowError,
    ScriptError,
    SourceLine,
    UnknownNameError,
)
from rainshadow.isa import mx
from rainshadow.machine import Chip, load_neuron_chip
from rainshadow.nki.install import nki_names
from rainshadow.nki.kernel import TARGETS, Kernel, Run, Shape, observe, record, target_chip
from rainshadow.sim.options import SimOptions

#: Random integers are below this: small enough to be indices of any table.
_INTEGER_END = 8


_FUNCTION = re.compile(r"^(?P<path>.+):(?P<name>[A-Za-z_]\w*)$")


def split_target(text: str) -> tuple[Path, str | None]:
    """File and function of FILE.py:function, or the file and None."""
    match = _FUNCTION.match(text)
    return (Path(match["path"]), match["name"]) if match else (Path(text), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOptions:
    """How a command launches kernels. data: "full", or "none" for shapes only.

    seed: of random arguments.  spill: "reject" or "model", as in `SimOptions`.  lnc: cores that a
    function runs on, else as it says.
    """

    data: str = "full"
    seed: int = 0
    spill: str = "reject"
    lnc: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("data", self.data), ("spill", self.spill)):
            if value not in _CHOICES[name]:
                raise InputError(f"--{name} {value}", allowed=" or ".join(_CHOICES[name]))

    @property
    def simulation(self) -> SimOptions:
        """Without the cores."""
        return replace(
            SimOptions.of_environment(),
            data="none" if self.data == "none" else "full",
            spill="model" if self.spill == "model" else "reject",
            seed=self.seed,
        )


def named_chip(name: str | None) -> Chip:
    """The chip that kernels run on: by its name or AWS's, else what AWS's variable selects.

    Errors: as `target_chip`; `InputError` for a chip without NeuronCores.
    """
    if name is None:
        return target_chip()
    return load_neuron_chip(TARGETS.get(name.lower(), name))


_CHOICES = {"data": ("full", "none"), "spill": ("reject", "model")}


def launch(
    target: str,
    given: Sequence[str],
    arguments: Sequence[str],
    chip: Chip,
    options: LaunchOptions,
) -> list[Run]:
    """The launches of FILE.py:function, called with arguments `given` as NAME=VALUE, or of FILE.py.

    arguments: words that the script FILE.py gets.  What is printed goes to stderr.
    Errors: `InputError` for options that do not go together; what the kernel or script raises.
    """
    path, name = split_target(target)
    if name is None:
        for text, used in (
            ("--arg", given), ("--data none", options.data == "none"), ("--lnc", options.lnc)
        ):  # fmt: skip
            if used:
                raise InputError(
                    f"{text} without a function", allowed="FILE.py:function --arg NAME=VALUE"
                )
        with redirect_stdout(sys.stderr):
            return run_program(path, arguments, chip, options.simulation)
    function = load_kernel(path, name)
    values = bind_arguments(function, given, data=options.data == "full", seed=options.seed)
    kernel = function if isinstance(function, Kernel) else Kernel(function)
    with redirect_stdout(sys.stderr), as_script(path, ()):
        cores = kernel if options.lnc is None else kernel[options.lnc]
        return [record(cores, kwargs=values, chip=chip, options=options.simulation)]
    raise InputError(f"{target} ended the program instead of returning")


def load_kernel(path: Path, name: str) -> Callable[..., Any]:
    """The function `name` of a file, decorated with `@nki.jit` or not.

    Errors: `InputError` without such a file, `UnknownNameError` without such a function,
    `ScriptError` where the file itself raises.
    """
    _check_file(path)
    spec = importlib.util.spec_from_file_location(f"kernels_of_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is no Python file", allowed="FILE.py or FILE.py:function")
    module = importlib.util.module_from_spec(spec)
    with as_script(path, ()):
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    kernels = {key: value for key, value in vars(module).items() if isinstance(value, Kernel)}
    found = kernels.get(name) or getattr(module, name, None)
    if not callable(found) or isinstance(found, type):
        raise UnknownNameError(f"kernel of {path}", name, kernels or _functions(module))
    return found


def run_program(
    path: Path, arguments: Sequence[str], chip: Chip, options: SimOptions | None = None
) -> list[Run]:
    """Run a file as a script on `chip`; the kernel launches it makes, in order.

    options: of the launches that name none.
    Errors: `InputError` where it launches none, `ScriptError` where it raises.
    """
    _check_file(path)
    runs: list[Run] = []
    with observe(runs.append, chip, options=options), as_script(path, arguments):
        runpy.run_path(str(path), run_name="__main__")
    if not runs:
        raise InputError(
            f"{path} launched no kernel",
            allowed="a script that calls one, or FILE.py:function with --arg for its arguments",
        )
    return runs


def bind_arguments(
    kernel: Callable[..., Any], given: Sequence[str], *, data: bool, seed: int
) -> dict[str, Any]:
    """Arguments of a kernel from NAME=VALUE texts.

    VALUE: 128x512 or 128x512:bfloat16 (random numbers; float32 unless said), @FILE.npy, a dtype's
    name, or a Python literal.  data: False gives shapes without numbers.
    Errors: `InputError` for a value that reads as none of these, and for missing arguments.
    """
    function = kernel.function if isinstance(kernel, Kernel) else kernel
    parameters = inspect.signature(function).parameters
    generator = np.random.default_rng(seed)
    values: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--arg {text}", allowed="--arg NAME=VALUE, for example x=128x512")
        if name not in parameters:
            raise UnknownNameError(f"argument of {function.__name__}", name, parameters)
        values[name] = _value(text, value, generator if data else None)
    required = [p.name for p in parameters.values() if p.default is p.empty]
    missing = [name for name in required if name not in values]
    if missing:
        raise InputError(
            f"{function.__name__}{inspect.signature(function)} needs {', '.join(missing)}",
            fix=" ".join(f"--arg {name}=128x512:float32" for name in missing)
            + " (a tensor's shape and dtype, or a Python value)",
        )
    return values


def _value(argument: str, text: str, generator: np.random.Generator | None) -> Any:
    if text.startswith("@"):
        try:
            array = np.load(text[1:])
        except (OSError, ValueError) as error:
            raise InputError(f"--arg {argument}: {error}", allowed="an .npy file") from None
        return array if generator else Shape(array.shape, dtypes.from_numpy(array.dtype))
    shape_text, _, dtype = text.partition(":")
    extents = shape_text.split("x")
    if all(extent.isdecimal() for extent in extents) and (len(extents) > 1 or dtype):
        if dtype and not dtypes.is_dtype(dtype):
            raise UnknownNameError("dtype", dtype, dtypes.names())
        shape = tuple(int(extent) for extent in extents)
        if 0 in shape:
            raise InputError(f"--arg {argument}", allowed="axes of 1 or more")
        return _tensor(shape, dtype or "float32", generator)
    if dtypes.is_dtype(text):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise InputError(
            f"--arg {argument}: {text!r} is no value",
            allowed="128x512, 128x512:bfloat16, @FILE.npy, a dtype's name, or a Python literal",
        ) from None


def _tensor(shape: tuple[int, ...], dtype: str, generator: np.random.Generator | None) -> Any:
    if generator is None:
        return Shape(shape, dtype)
    kind = dtypes.given_dtype(dtype)
    try:
        if kind.kind in "iub":
            return generator.integers(0, _INTEGER_END, shape).astype(kind)
        if kind.names:
            elements = generator.standard_normal((*shape[:-1], mx.PACKED * shape[-1]))
            return mx.pack(elements, dtype).view(kind)
        return generator.standard_normal(shape, dtype=np.float32).astype(kind)
    except (MemoryError, ValueError):
        raise InputError(
            f"a {dtype} tensor of shape {shape}",
            allowed="what this computer has memory for",
            fix="make it smaller, or give --data none, which holds no numbers",
        ) from None


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder", allowed="FILE.py or FILE.py:function")
    if not path.is_file():
        raise InputError(f"no file {path}", allowed="FILE.py or FILE.py:function")


def _functions(module: Any) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__
    ]


@contextmanager
def as_script(path: Path, arguments: Sequence[str]) -> Iterator[None]:
    """NKI names, argv and the import path as `python FILE` would have them."""
    argv, import_path = sys.argv, list(sys.path)
    sys.argv, sys.path[:] = [str(path), *arguments], [str(path.resolve().parent), *sys.path]
    try:
        with nki_names():
            yield
    except RainshadowError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and not error.code:
            return
        raise _script_error(path, error) from error
    finally:
        sys.argv, sys.path[:] = argv, import_path


def _script_error(path: Path, error: BaseException) -> ScriptError:
    """The user's own error, at the deepest line of the user's file."""
    frames = traceback.extract_tb(error.__traceback__)
    mine = [frame for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    where = None
    if mine:
        where = SourceLine(str(path), mine[-1].lineno or 0, mine[-1].line or "")
    elif isinstance(error, SyntaxError):
        where = SourceLine(str(path), error.lineno or 0, (error.text or "").strip())
    kind = type(error).__name__
    return ScriptError(f"{path.name} raised {kind}: {error}", where=where)
