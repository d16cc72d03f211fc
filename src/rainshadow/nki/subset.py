"""Knows which of a kernel file's code AWS's compiler would see, and checks that it is NKI.

A plain run executes any Python; the compiler takes a subset. The check reads the source only: it
starts at the functions with `@nki.jit` (or the one named), follows the calls to functions and
classes of the same file and of files that it imports from beside it, and hands each to
`nki.subset_rules`. Source of the subset: AWS Neuron docs 2.32, NKI language guide, migration guide
and release notes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rainshadow.errors import InputError, SourceLine, UnknownNameError
from rainshadow.findings import Finding, in_order
from rainshadow.nki.subset_rules import Definition, Scope, check_definition, parameters_of

#: Decorators that hand a function to AWS's compiler.
_JIT_NAMES = ("jit",)


def check_subset(path: Path, name: str | None = None) -> list[Finding]:
    """What AWS's compiler would refuse in a file's kernels, in order of file and line.

    name: only this function and what it calls.
    Errors: `InputError` for a file that is no Python or has no kernel, `UnknownNameError`.
    """
    module = _Module.of(path, {})
    if name is None:
        starts = [item for item in module.functions.values() if _is_kernel(item)]
        if not starts:
            raise InputError(
                f"{path} has no function decorated with @nki.jit",
                allowed=f"{path}:function for one without the decorator",
            )
    elif name in module.functions:
        starts = [module.functions[name]]
    else:
        raise UnknownNameError(f"function of {path}", name, module.functions)
    return in_order(_walk(module, starts))


@dataclass(frozen=True)
class _Module:
    """A parsed file: its top-level functions and classes, and what its imported names mean."""

    path: Path
    lines: list[str]
    functions: dict[str, Definition]
    imports: dict[str, tuple[str, str]]
    known: dict[Path, _Module]

    @staticmethod
    def of(path: Path, known: dict[Path, _Module]) -> _Module:
        """Errors: `InputError` where the file cannot be read or parsed."""
        try:
            text = path.read_text("utf-8")
            tree = ast.parse(text, filename=str(path))
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise InputError(f"{path}: {error}", allowed="a Python file") from None
        except SyntaxError as error:
            where = SourceLine(str(path), error.lineno or 0, (error.text or "").strip())
            raise InputError(f"{path} is no Python: {error.msg}", where=where) from None
        functions: dict[str, Definition] = {}
        imports: dict[str, tuple[str, str]] = {}
        for node in _statements(tree.body):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                functions[node.name] = node
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    imports[alias.asname or alias.name.partition(".")[0]] = (alias.name, "")
            elif isinstance(node, ast.ImportFrom):
                origin = "." * node.level + (node.module or "")
                for alias in node.names:
                    imports[alias.asname or alias.name] = (origin, alias.name)
        module = _Module(path, text.splitlines(), functions, imports, known)
        known[path.resolve()] = module
        return module

    def imported(self, name: str) -> tuple[_Module, Definition] | None:
        """The function or class that an imported name means, where its file is to be found."""
        origin, inner = self.imports.get(name, ("", ""))
        if not origin or not inner:
            return None
        path = self._file_of(origin)
        if path is None:
            return None
        try:
            other = self.known.get(path.resolve()) or _Module.of(path, self.known)
        except InputError:  # what cannot be read cannot be followed
            return None
        found = other.functions.get(inner)
        return (other, found) if found is not None else other.imported(inner)

    def _file_of(self, origin: str) -> Path | None:
        level = len(origin) - len(origin.lstrip("."))
        folder = self.path.resolve().parent
        for _ in range(level - 1):
            folder = folder.parent
        inside = folder.joinpath(*[part for part in origin.lstrip(".").split(".") if part])
        for path in (inside.with_suffix(".py"), inside / "__init__.py"):
            if path.is_file():
                return path
        return None


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, those under `if` and `try` included."""
    for node in body:
        yield node
        if isinstance(node, ast.If):
            yield from _statements([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            handlers = [statement for handler in node.handlers for statement in handler.body]
            yield from _statements([*node.body, *handlers, *node.orelse, *node.finalbody])


def _is_kernel(node: Definition) -> bool:
    return not isinstance(node, ast.ClassDef) and any(
        _last_name(decorator) in _JIT_NAMES for decorator in node.decorator_list
    )


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        return _last_name(node.func)
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _walk(module: _Module, starts: list[Definition]) -> Iterator[Finding]:
    """Findings of the start functions and of all that they call."""
    waiting = [(module, node, True) for node in starts]
    seen = {id(node) for node in starts}
    while waiting:
        owner, node, is_start = waiting.pop()
        is_kernel = is_start or _is_kernel(node)
        scope = Scope(str(owner.path), owner.lines, owner.imports, _is_kernel(node) or is_kernel)
        yield from check_definition(node, scope)
        for name in _names_used(node):
            found = owner.functions.get(name)
            target = (owner, found) if found is not None else owner.imported(name)
            if target is not None and id(target[1]) not in seen:
                seen.add(id(target[1]))
                waiting.append((*target, False))
    yield from _recursion(module, starts)


def _names_used(node: Definition) -> set[str]:
    """Names that a function's or class's code reads, its annotations and decorators left out."""
    return {
        item.id
        for part in _code(node)
        for item in ast.walk(part)
        if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Load)
    }


def _code(node: Definition) -> list[ast.AST]:
    if isinstance(node, ast.ClassDef):
        methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
        return [statement for method in methods for statement in method.body]
    return [*node.body, *node.args.defaults]


def _recursion(module: _Module, starts: list[Definition]) -> Iterator[Finding]:
    """Functions of the kernel's own file that call themselves, at once or in a circle."""
    calls = {
        name: {
            item.func.id
            for part in _code(node)
            for item in ast.walk(part)
            if isinstance(item, ast.Call) and isinstance(item.func, ast.Name)
        }
        & set(module.functions) - set(parameters_of(node))
        for name, node in module.functions.items()
        if not isinstance(node, ast.ClassDef)
    }
    reachable = _closure({node.name for node in starts}, calls)
    for name in sorted(reachable & set(calls)):
        if name in _closure(calls[name], calls):
            node = module.functions[name]
            yield Finding(
                rule="recursion",
                message=f"{name} calls itself; the compiler inlines every call",
                fix="write a loop; a recursion that only compile-time values end may still compile",
                file=str(module.path),
                line=node.lineno,
                severity="warning",
                text=module.lines[node.lineno - 1].strip(),
            )


def _closure(starts: set[str], calls: dict[str, set[str]]) -> set[str]:
    reached, waiting = set(starts), list(starts)
    while waiting:
        for name in calls.get(waiting.pop(), set()) - reached:
            reached.add(name)
            waiting.append(name)
    return reached
