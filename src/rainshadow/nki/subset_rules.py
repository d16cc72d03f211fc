"""Knows what Python AWS's NKI compiler takes inside a kernel, one rule at a time.

Source: AWS Neuron docs 2.32: NKI language guide (values, containers, control flow, classes),
migration guide (language restrictions of 0.3, loops of 0.6), dynamic loops deep dive, release
notes. What these refuse is an error; what they only leave out is a warning, unless no compiler of
a flat instruction sequence could do it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rainshadow.findings import Finding

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Severity = Literal["error", "warning"]

#: Classes that a kernel's class may inherit from (language guide, class support, enumerations).
_BASES = {"NKIObject", "Enum", "object"}
_INTEGERS = (-(2**31), 2**32 - 1)
#: Modules whose functions are NKI; others are Python that the compiler does not evaluate.
_NKI_ROOTS = ("nki", "neuronxcc", "nkilib", "nkilib_src")
_OLD_ROOT = "neuronxcc"
#: Standard modules of which kernels use declarations only.
_DECLARATIONS = ("typing", "dataclasses", "enum", "__future__", "abc", "collections.abc")
_FOREIGN = (
    "numpy", "torch", "jax", "scipy", "ml_dtypes", "os", "sys", "time", "random", "itertools",
    "functools", "copy", "json", "pathlib", "logging", "re", "collections", "threading",
    "subprocess", "datetime", "operator", "inspect", "pickle", "warnings",
)  # fmt: skip
_FORBIDDEN_BUILTINS = (
    "eval", "exec", "compile", "open", "input", "globals", "locals", "vars", "id", "iter", "next",
    "memoryview", "bytearray", "bytes", "complex", "__import__", "super", "frozenset", "set",
    "breakpoint", "classmethod", "staticmethod", "property", "delattr",
)  # fmt: skip
#: Names of the older generation and what replaces them (migration guide, 0.2.0).
_REMOVED = {
    "arange": "slices such as t[0:128, 0:512], or .ap(pattern)",
    "mgrid": "slices, or .ap(pattern)",
    "par_dim": "a plain shape: axis 0 of an on-chip tensor is the partition axis",
    "loop_reduce": "a loop with an accumulator tile",
    "static_cast": "nisa.tensor_copy into a tile of the dtype",
}

#: Statements and expressions that the language guide does not have.
_CONSTRUCTS: dict[type[ast.AST], tuple[str, Severity, str, str]] = {
    ast.Try: ("try", "error", "try", "test the condition first, and use assert for what must hold"),
    ast.Raise: ("raise", "warning", "raise", "assert condition, message"),
    ast.Yield: ("generator", "error", "yield", "append to a list and return it"),
    ast.YieldFrom: ("generator", "error", "yield from", "append to a list and return it"),
    ast.Await: ("async", "error", "await", "plain calls: the engines overlap by themselves"),
    ast.AsyncFor: ("async", "error", "async for", "a plain for loop"),
    ast.AsyncWith: ("async", "error", "async with", "plain statements"),
    ast.Global: ("outside-state", "error", "global", "arguments and return values"),
    ast.Nonlocal: ("outside-state", "error", "nonlocal", "a list or an NKIObject that is changed"),
    ast.Import: ("import", "error", "import", "an import at the top of the file"),
    ast.ImportFrom: ("import", "error", "from ... import", "an import at the top of the file"),
    ast.Delete: ("del", "error", "del", "d.pop(key) for a key; names may just be left"),
    ast.Match: ("match", "error", "match", "if and elif"),
    ast.Set: ("value-type", "error", "a set", "a list or a tuple"),
    ast.SetComp: ("comprehension", "error", "a set comprehension", "a for loop with append"),
    ast.ListComp: ("comprehension", "warning", "a list comprehension", "a for loop with append"),
    ast.DictComp: ("comprehension", "warning", "a dict comprehension", "a for loop that sets keys"),
    ast.GeneratorExp: (
        "comprehension", "warning", "a generator expression", "a for loop with append",
    ),
    ast.Lambda: ("lambda", "warning", "lambda", "a named function"),
    ast.NamedExpr: ("walrus", "warning", ":=", "an assignment of its own"),
    ast.MatMult: ("matmult", "error", "@", "nisa.nc_matmul or nl.matmul"),
}  # fmt: skip


@dataclass(frozen=True)
class Scope:
    """Where a definition stands. imports: local name -> (module, name in it)."""

    file: str
    lines: Sequence[str]
    imports: Mapping[str, tuple[str, str]]
    is_kernel: bool

    def finding(
        self, node: ast.AST, rule: str, severity: Severity, message: str, fix: str
    ) -> Finding:
        line = int(getattr(node, "lineno", 1))
        text = self.lines[line - 1].strip() if line <= len(self.lines) else ""
        return Finding(rule, message, fix, self.file, line, severity, text)

    def module_of(self, name: str) -> str:
        """The module that a name is or comes from, "" for names of the file itself."""
        return self.imports.get(name, ("", ""))[0]


def parameters_of(node: Definition) -> list[str]:
    """Names of a function's parameters."""
    if isinstance(node, ast.ClassDef):
        return []
    arguments = node.args
    return [item.arg for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def check_definition(node: Definition, scope: Scope) -> Iterator[Finding]:
    """Everything in a function or class that is not NKI."""
    if isinstance(node, ast.ClassDef):
        yield from _class(node, scope)
        bodies: list[ast.stmt] = [part for part in node.body if isinstance(part, ast.FunctionDef)]
    else:
        yield from _signature(node, scope)
        bodies = node.body
    yield from _loop_bodies(bodies, scope)
    dynamic = set(_dynamic_names(bodies))
    for statement in bodies:
        for item in ast.walk(statement):
            yield from _construct(item, scope)
            for rule in _RULES:
                yield from rule(item, scope)
            yield from _dynamic_use(item, scope, dynamic)


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope) -> Iterator[Finding]:
    if isinstance(node, ast.AsyncFunctionDef):
        yield scope.finding(node, "async", "error", "async def is not NKI", "a plain function")
    if not scope.is_kernel:
        return
    arguments = node.args
    if arguments.kwonlyargs:
        names = ", ".join(item.arg for item in arguments.kwonlyargs)
        yield scope.finding(
            node, "keyword-only", "error",
            f"* before {names} in a kernel's signature is refused since NKI 0.3",
            "parameters with defaults at the end, without the *",
        )  # fmt: skip
    for extra in (arguments.vararg, arguments.kwarg):
        if extra is not None:
            yield scope.finding(
                extra, "variable-arguments", "warning",
                f"*{extra.arg} in a kernel's signature is not in the language guide",
                "a tuple as one argument, or named parameters",
            )  # fmt: skip
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    for item, default in zip(positional, defaults, strict=True):
        kind = ast.unparse(item.annotation) if item.annotation is not None else ""
        if isinstance(default, ast.List) or kind.partition("[")[0] in ("list", "List"):
            yield scope.finding(
                item, "list-argument", "error",
                f"{item.arg} is a list: kernel arguments are hashed since NKI 0.3",
                "a tuple",
            )  # fmt: skip


def _class(node: ast.ClassDef, scope: Scope) -> Iterator[Finding]:
    for base in node.bases:
        name = ast.unparse(base).rpartition(".")[2]
        if name not in _BASES:
            yield scope.finding(
                node, "class-base", "error",
                f"class {node.name} inherits from {ast.unparse(base)}",
                "a class that inherits from nl.NKIObject and nothing else, or an Enum",
            )  # fmt: skip
    if not node.bases:
        yield scope.finding(
            node, "class-base", "error", f"class {node.name} does not inherit from nl.NKIObject",
            f"class {node.name}(nl.NKIObject)",
        )  # fmt: skip
    if len(node.bases) > 1:
        yield scope.finding(
            node, "class-base", "error", f"class {node.name} has {len(node.bases)} base classes",
            "one base class: nl.NKIObject",
        )  # fmt: skip


def _construct(node: ast.AST, scope: Scope) -> Iterator[Finding]:
    found = _CONSTRUCTS.get(type(node.op if isinstance(node, ast.BinOp) else node))
    if found is not None and hasattr(node, "lineno"):
        rule, severity, what, instead = found
        yield scope.finding(node, rule, severity, f"{what} is not in the language guide", instead)
    if isinstance(node, ast.For | ast.While) and node.orelse:
        yield scope.finding(
            node, "loop-else", "warning", "else after a loop is not in the language guide",
            "a flag that the loop sets",
        )  # fmt: skip
    if isinstance(node, ast.ClassDef):
        yield scope.finding(
            node, "class", "error", "a class declared inside a function",
            "a class at the top of the file, inheriting from nl.NKIObject",
        )  # fmt: skip


def _identity(node: ast.AST, scope: Scope) -> Iterator[Finding]:
    if not isinstance(node, ast.Compare):
        return
    operands = [node.left, *node.comparators]
    for index, op in enumerate(node.ops):
        if not isinstance(op, ast.Is | ast.IsNot):
            continue
        with_none = any(
            isinstance(side, ast.Constant) and side.value is None
            for side in operands[index : index + 2]
        )
        word, instead = ("is", "==") if isinstance(op, ast.Is) else ("is not", "!=")
        yield scope.finding(
            node, "identity", "warning" if with_none else "error",
            f"{word} is refused by the release notes of NKI 0.3"
            + (", though AWS's own library compares with None by it" if with_none else ""),
            f"{instead}",
        )  # fmt: skip


def _constant(node: ast.AST, scope: Scope) -> Iterator[Finding]:
    if isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, bytes | complex):
            yield scope.finding(
                node, "value-type", "error", f"a {type(value).__name__} is no NKI value",
                "None, booleans, 32-bit integers and floats, strings, tensors",
            )  # fmt: skip
        elif isinstance(value, int) and not _INTEGERS[0] <= value <= _INTEGERS[1]:
            yield scope.finding(
                node, "value-type", "error", f"{value} has more than 32 bits",
                f"integers from {_INTEGERS[0]} to {_INTEGERS[1]}",
            )  # fmt: skip
    elif isinstance(node, ast.Dict):
        for key in node.keys:
            if isinstance(key, ast.Constant) and not isinstance(key.value, str):
                yield scope.finding(
                    node, "dict-key", "error", f"key {key.value!r} of a dictionary",
                    "keys that are strings",
                )  # fmt: skip


def _with(node: ast.AST, scope: Scope) -> Iterator[Finding]:
    if not isinstance(node, ast.With):
        return
    for item in node.items:
        call = ast.unparse(item.context_expr)
        if "no_reorder" not in call:
            yield scope.finding(
                node, "with", "error", f"with {call} is not in the language guide",
                "with nl.no_reorder(), the only block there is",
            )  # fmt: skip
            continue
        for inner in ast.walk(node):
            if isinstance(inner, ast.Call) and _called(inner) in (
                "dynamic_range", "fori_loop", "while_loop",
            ):  # fmt: skip
                yield scope.finding(
                    inner, "no-reorder", "error",
                    f"{_called(inner)} inside nl.no_reorder() is refused",
                    "put with nl.no_reorder() inside the loop's body",
                )  # fmt: skip


def _call(node: ast.AST, scope: Scope) -> Iterator[Finding]:
    if not isinstance(node, ast.Call):
        return
    function = node.func
    name = function.id if isinstance(function, ast.Name) else ""
    if name in _FORBIDDEN_BUILTINS and not scope.module_of(name):
        yield scope.finding(
            node, "builtin", "error", f"{name}() is not in the language guide",
            "lists, dictionaries, ranges and NKIObject classes",
        )  # fmt: skip
    root = _root(function)
    module = scope.module_of(root) if root else ""
    if module.partition(".")[0] in _FOREIGN and module not in _DECLARATIONS:
        yield scope.finding(
            node, "foreign-call", "error", f"{ast.unparse(function)} is Python's, not NKI's",
            "compute it outside the kernel and pass it as an argument, or use nl and nisa",
        )  # fmt: skip
    yield from _keywords(node, scope)


def _keywords(node: ast.Call, scope: Scope) -> Iterator[Finding]:
    module = scope.module_of(_root(node.func)) if _root(node.func) else ""
    if module.partition(".")[0] not in _NKI_ROOTS:
        return
    for keyword in node.keywords:
        if keyword.arg == "mask":
            yield scope.finding(
                node, "removed-name", "error", "mask= is gone since NKI 0.2",
                "slices that end where the data end",
            )  # fmt: skip
        value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
        if keyword.arg == "buffer" and isinstance(value, str):
            yield scope.finding(
                node, "buffer-name", "error",
                f"buffer={value!r}: strings are refused since NKI 0.3",
                f"buffer=nl.{value}",
            )  # fmt: skip


def _name(node: ast.AST, scope: Scope) -> Iterator[Finding]:
    if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
        return
    module = scope.module_of(node.value.id)
    if module.partition(".")[0] == _OLD_ROOT:
        yield scope.finding(
            node, "old-namespace", "error",
            f"{module} inside a kernel is refused since NKI 0.4",
            "import nki, nki.language and nki.isa; see AWS's migration guide",
        )  # fmt: skip
    elif module.partition(".")[0] == "nki" and node.attr in _REMOVED:
        yield scope.finding(
            node, "removed-name", "error", f"{ast.unparse(node)} is gone since NKI 0.2",
            _REMOVED[node.attr],
        )  # fmt: skip


def _loop_bodies(statements: Sequence[ast.stmt], scope: Scope) -> Iterator[Finding]:
    """Functions given to fori_loop return nothing; checked where both stand in one definition."""
    nodes = [node for statement in statements for node in ast.walk(statement)]
    bodies = {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}
    calls = [n for n in nodes if isinstance(n, ast.Call) and _called(n) == "fori_loop"]
    given = [v for call in calls for v in (*call.args, *(k.value for k in call.keywords))]
    names = {value.id for value in given if isinstance(value, ast.Name)}
    for name in sorted(names & bodies.keys()):
        for inner in ast.walk(bodies[name]):
            if isinstance(inner, ast.Return) and inner.value is not None:
                yield scope.finding(
                    inner, "loop-body", "error", "the body of nl.fori_loop returns a value",
                    "keep what goes from one iteration to the next in SBUF or HBM",
                )  # fmt: skip


def _dynamic_names(bodies: Sequence[ast.stmt]) -> Iterator[str]:
    """Loop variables that are registers: those of dynamic_range."""
    for statement in bodies:
        for node in ast.walk(statement):
            if (
                isinstance(node, ast.For)
                and isinstance(node.target, ast.Name)
                and isinstance(node.iter, ast.Call)
                and _called(node.iter) == "dynamic_range"
            ):
                yield node.target.id


def _dynamic_use(node: ast.AST, scope: Scope, dynamic: set[str]) -> Iterator[Finding]:
    if isinstance(node, ast.Call) and _called(node) == "dynamic_range":
        yield scope.finding(
            node, "dynamic-range", "warning", "dynamic_range is deprecated since NKI 0.6",
            "nl.fori_loop(start, stop, body)",
        )  # fmt: skip
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        used = {item.id for item in ast.walk(node.test) if isinstance(item, ast.Name)} & dynamic
        for name in sorted(used):
            yield scope.finding(
                node, "dynamic-index", "error",
                f"{name} is a register on the device: the compiler cannot branch on it",
                "a mask computed on the device, or nl.static_range",
            )  # fmt: skip
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AugAssign):
        targets = [node.target]
    for target in targets:
        if isinstance(target, ast.Name) and target.id in dynamic:
            yield scope.finding(
                node, "dynamic-index", "error", f"{target.id} is the loop's own register",
                "a register of your own: nisa.register_alloc",
            )  # fmt: skip


def _called(node: ast.Call) -> str:
    """The last name of what is called."""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _root(node: ast.expr) -> str:
    """The first name of a dotted expression."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


_RULES: tuple[Callable[[ast.AST, Scope], Iterator[Finding]], ...] = (
    _identity,
    _constant,
    _with,
    _call,
    _name,
)
