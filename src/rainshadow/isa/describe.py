"""Knows how to read an instruction's class: its rules, cost and engines, as the code states them.

For documents only. Rules are read from the source of `check`: calls of `isa.rules`, whose
docstrings say what they demand, and errors raised at the place.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rainshadow.isa import costs, rules
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction

_ERRORS = ("NkiValidationError", "OutOfBoundsError", "CapacityError", "UninitializedReadError")


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that the hardware demands.

    text: the rule, or what is refused; names in braces stand for what was asked.  operands: which
    it is about, as the code names them.  allowed: the limit, where the text does not say it.
    """

    text: str
    operands: tuple[str, ...] = ()
    allowed: str = ""


def summary_of(cls: type[Instruction]) -> str:
    """What the instruction does, in a sentence."""
    return (sys.modules[cls.__module__].__doc__ or "").partition("\n")[0]


def source_of(cls: type[Instruction]) -> str:
    """Where its rules, numbers and costs come from, and what the model leaves out."""
    document = inspect.cleandoc(sys.modules[cls.__module__].__doc__ or "")
    return " ".join(document.partition("\n")[2].split())


def operands_of(cls: type[Instruction]) -> str:
    """What its operands are."""
    return " ".join(inspect.cleandoc(cls.__doc__ or "").split())


def engines_of(cls: type[Instruction]) -> list[str]:
    """Names of the engines that can run it, the default first."""
    default = fields_of(cls)["engine"].default
    found = [default.name] if isinstance(default, Engine) else []
    for node in ast.walk(_tree_of(cls.check)):
        if isinstance(node, ast.Call) and _called(node) == "require_engine":
            # A list that the call unpacks is made in the same function.
            is_listed = any(isinstance(argument, ast.Starred) for argument in node.args)
            named = _tree_of(cls.check) if is_listed else node
            members = [
                item.attr
                for item in ast.walk(named)
                if isinstance(item, ast.Attribute) and _is_member(item, "Engine")
            ]
            found += [member for member in dict.fromkeys(members) if member not in found]
    return found


def rules_of(cls: type[Instruction]) -> list[Rule]:
    """Its rules in the order in which they are checked, each once."""
    return list(dict.fromkeys(_rules_in(cls.check, cls, set())))


def cost_of(cls: type[Instruction]) -> str:
    """The source of its cost rule, without the signature."""
    tree = _tree_of(cls.work)
    body = list(tree.body[0].body)  # type: ignore[attr-defined]
    if ast.get_docstring(tree.body[0]):  # type: ignore[arg-type]
        body = body[1:]
    return "\n".join(ast.unparse(statement) for statement in body)


def cost_terms(cls: type[Instruction]) -> dict[str, str]:
    """What the functions that its cost rule calls stand for."""
    names = {node.id for node in ast.walk(_tree_of(cls.work)) if isinstance(node, ast.Name)}
    module = vars(sys.modules[cls.__module__])
    terms: dict[str, str] = {}
    own = inspect.getdoc(cls.work)
    if own:
        terms["in words"] = " ".join(own.split())
    for name in sorted(names):
        function = module.get(name)
        origin = getattr(function, "__module__", "")
        if inspect.isfunction(function) and origin in (costs.__name__, "rainshadow.isa.collective"):
            terms[name] = " ".join((inspect.getdoc(function) or "").split())
    return terms


def raised_in(module: Any) -> list[Rule]:
    """What the functions of a module refuse."""
    tree = ast.parse(inspect.getsource(module))
    context = _Context.of(tree, vars(module))
    return list(
        dict.fromkeys(
            _raised_rule(node, context)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and _called(node) in _ERRORS and node.args
        )
    )


# -- reading source ----------------------------------------------------------------------------


def _tree_of(function: Callable[..., Any]) -> ast.Module:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


@dataclass(frozen=True, slots=True)
class _Context:
    """What a function's source refers to: its module's names, and names written out in it."""

    namespace: Mapping[str, Any]
    loops: Mapping[str, tuple[str, ...]]
    tables: Mapping[str, tuple[str, ...]]

    @staticmethod
    def of(tree: ast.AST, namespace: Mapping[str, Any]) -> _Context:
        loops: dict[str, tuple[str, ...]] = {}
        tables: dict[str, tuple[str, ...]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple):
                pairs = isinstance(node.target, ast.Tuple)
                first = node.target.elts[0] if isinstance(node.target, ast.Tuple) else node.target
                items = [
                    item.elts[0] if pairs and isinstance(item, ast.Tuple) else item
                    for item in node.iter.elts
                ]
                if isinstance(first, ast.Name):
                    loops[first.id] = _texts(items)
            elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [target.id for target in targets if isinstance(target, ast.Name)]
                tables |= dict.fromkeys(names, _texts(node.value.keys))
        return _Context(namespace, loops, tables)

    def text(self, node: ast.expr) -> str:
        """An expression as a reader wants it: a constant's value, or the code in braces."""
        names = {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}
        if all(name.startswith("_") and name in self.namespace for name in names) and not any(
            isinstance(item, ast.Attribute) and ast.unparse(item.value) == "self"
            for item in ast.walk(node)
        ):
            code = compile(ast.Expression(node), "<rule>", "eval")
            return str(eval(code, dict(self.namespace)))
        return "{" + ast.unparse(node).replace("self.", "") + "}"

    def message(self, node: ast.expr) -> str:
        """A message of an error."""
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.JoinedStr):
            parts = [
                self.text(part.value) if isinstance(part, ast.FormattedValue) else str(part.value)
                for part in node.values
                if isinstance(part, ast.FormattedValue | ast.Constant)
            ]
            text = "".join(parts)
            for prefix in ("{opcode}: ", "{what}: ", "{opcode} "):
                text = text.removeprefix(prefix)
            return text
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self.message(node.left) + self.message(node.right)
        return self.text(node)


def _texts(nodes: Iterable[ast.expr | None]) -> tuple[str, ...]:
    """Strings written out; nothing where one is no string."""
    items = list(nodes)
    texts = [item.value for item in items if isinstance(item, ast.Constant)]
    is_complete = len(texts) == len(items) and all(isinstance(text, str) for text in texts)
    return tuple(map(str, texts)) if is_complete else ()


def _rules_in(
    function: Callable[..., Any], cls: type[Instruction], seen: set[Any]
) -> Iterator[Rule]:
    """Rules of a function and of those that it calls, in order of their lines."""
    function = inspect.unwrap(function)
    if function in seen:
        return
    seen.add(function)
    tree = _tree_of(function)
    context = _Context.of(tree, function.__globals__)
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for node in sorted(nodes, key=lambda item: (item.lineno, item.col_offset)):
        name = _called(node)
        owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        if name in _ERRORS:
            yield _raised_rule(node, context)
        elif owner == "rules":
            yield _shared_rule(node, getattr(rules, name), context)
        elif owner == "self" and inspect.isfunction(getattr(cls, name, None)):
            yield from _rules_in(getattr(cls, name), cls, seen)
        elif not owner and inspect.isfunction(context.namespace.get(name)):
            called = context.namespace[name]
            if called.__module__.startswith("rainshadow.isa."):
                yield from _rules_in(called, cls, seen)


def _shared_rule(node: ast.Call, function: Callable[..., Any], context: _Context) -> Rule:
    """A call of a function of `isa.rules`: its docstring is the rule."""
    document = " ".join((inspect.getdoc(function) or "").split())
    given = dict(zip(inspect.signature(function).parameters, node.args, strict=False))
    named: list[str] = []
    name = given.get("name")
    if isinstance(name, ast.Constant):
        named.append(str(name.value))
    elif isinstance(name, ast.Name):
        named.extend(context.loops.get(name.id, ()))
    for keyword in node.keywords:
        if keyword.arg:
            named.append(keyword.arg)
        elif isinstance(keyword.value, ast.Name):
            named.extend(context.tables.get(keyword.value.id, ()))
    allowed = ", ".join(_member(item) for item in node.args if _is_member(item, "Space", "Engine"))
    if "fewest" in given and "most" in given:
        fewest, most = context.text(given["fewest"]), context.text(given["most"])
        allowed = fewest if fewest == most else f"{fewest} to {most}"
    return Rule(document, tuple(dict.fromkeys(named)), allowed)


def _is_member(node: ast.AST, *enums: str) -> bool:
    """`Space.sbuf`, `Engine.vector`, or the name of a generation."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and node.value.startswith("gen")
    return isinstance(node, ast.Attribute) and ast.unparse(node.value) in enums


def _member(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node).split(".")[-1]


def _raised_rule(node: ast.Call, context: _Context) -> Rule:
    allowed = next((item.value for item in node.keywords if item.arg == "allowed"), None)
    return Rule(
        text=f"refused: {context.message(node.args[0])}",
        allowed=context.message(allowed) if allowed is not None else "",
    )


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def fields_of(cls: type[Instruction]) -> Mapping[str, Any]:
    """Its dataclass fields by name."""
    return cls.__dataclass_fields__  # type: ignore[attr-defined,no-any-return]
