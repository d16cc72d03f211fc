"""The `rainshadow` command: one file per sub-command; the folder is the list.

A command's module docstring gives its help, its function `command` the arguments. Only the module
of the command that runs is imported, so that `rainshadow --help` is quick.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from pathlib import Path
from typing import NoReturn

import typer

from rainshadow import __version__
from rainshadow.errors import RainshadowError, UnknownNameError

_FOLDER = Path(__file__).parent
#: Exit codes that typer gives of itself.
_TYPER_USAGE, _TYPER_INTERRUPTED = 2, 130
_HELP = """A software AWS Trainium 2: run, time and price AI code written for Nvidia.

Start with:  rainshadow port SCRIPT.py
"""
_SETTINGS = {"help_option_names": ["-h", "--help"]}
#: Words after `--` belong to the user's script.
_SCRIPT_SETTINGS = {**_SETTINGS, "allow_extra_args": True, "ignore_unknown_options": False}


def command_names() -> list[str]:
    """Every command: the modules of this folder, typed with hyphens."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules([str(_FOLDER)]))


def _module(name: str) -> str:
    return name.replace("-", "_")


def _docstring(name: str) -> str:
    """A command's help, read without importing it."""
    return ast.get_docstring(ast.parse((_FOLDER / f"{_module(name)}.py").read_text("utf-8"))) or ""


def _placeholder() -> None:
    """Stands for a command that is not the one that runs."""


def build_app(chosen: str | None) -> typer.Typer:
    """The command line with `chosen` imported and every other command listed only."""
    app = typer.Typer(
        help=_HELP,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=_SETTINGS,
    )
    app.callback()(_options)
    for name in command_names():
        text = _docstring(name)
        if name == chosen:
            function = importlib.import_module(f"rainshadow.cli.{_module(name)}").command
            app.command(name, help=text, context_settings=_SCRIPT_SETTINGS)(function)
        else:
            app.command(name, help=text.partition("\n")[0])(_placeholder)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rainshadow {__version__}")
        raise typer.Exit


def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Options before the command."""


def main() -> None:
    """Entry point. Exit code: 0 done, 1 bad input, 2 not modelled, 3 a check failed."""
    chosen = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    try:
        if chosen is not None and chosen not in command_names():
            raise UnknownNameError("command", chosen, command_names())
        build_app(chosen)()
    except RainshadowError as error:
        print(f"rainshadow: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as stop:
        if stop.code == _TYPER_INTERRUPTED:
            _interrupted()
        # Usage errors are bad input: exit code 1 by this project's convention, not 2.
        sys.exit(1 if stop.code == _TYPER_USAGE else stop.code)


def _interrupted() -> NoReturn:
    print("rainshadow: interrupted", file=sys.stderr)
    sys.exit(1)
