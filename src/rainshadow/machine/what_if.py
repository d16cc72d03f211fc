"""A chip with some of its figures changed: "sbuf=48MiB,hbm.bandwidth=4TB/s".

A figure is named as in data/machines, those of the core without "core." too; `sbuf` and `psum`
alone are the size of the whole memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from rainshadow.errors import InputError, UnknownNameError
from rainshadow.machine.chip import Chip
from rainshadow.sources import Figure
from rainshadow.units import parse_quantity

#: Source of a changed figure; its grade is "assumed".
_SOURCE = "rainshadow"


def what_if(chip: Chip, changes: str) -> Chip:
    """The chip with `changes`, FIGURE=VALUE with commas between.

    Errors: `InputError` for a text of another form or an impossible value; `UnknownNameError`.
    """
    result = chip
    for change in changes.split(","):
        name, equals, text = (part.strip() for part in change.partition("="))
        if not equals or not name or not text:
            raise InputError(
                f"--what-if {change!r}", allowed="FIGURE=VALUE, for example hbm.bandwidth=4TB/s"
            )
        result = _SIZES[name](result, name, text) if name in _SIZES else _set(result, name, text)
    return replace(result, name=f"{chip.name} if {changes}")


def figure_names(chip: Chip) -> list[str]:
    """What can be changed."""
    return [*_SIZES, *(name for name, _ in _figures(chip))]


def with_figure(chip: Chip, name: str, change: Callable[[Figure], Figure]) -> Chip:
    """The chip with one figure, by its full name, changed."""
    result: Chip = _replaced(chip, name.split("."), change)
    return result


def _figures(part: Any, prefix: str = "") -> Iterator[tuple[str, Figure]]:
    """All figures of a description with their names."""
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, Figure):
            yield prefix + field.name, value
        elif is_dataclass(value):
            yield from _figures(value, f"{prefix}{field.name}.")


def _set(chip: Chip, name: str, text: str) -> Chip:
    known = dict(_figures(chip))
    full = name if name in known else f"core.{name}"
    if full not in known:
        raise UnknownNameError(f"figure of {chip.name}", name, figure_names(chip))
    value = _value(name, text, known[full].dimension)
    return with_figure(chip, full, lambda figure: _assumed(figure, value, text))


def _value(name: str, text: str, dimension: str) -> float:
    value = parse_quantity(text, dimension)
    if value < 0:
        raise InputError(f"--what-if {name}={text}", allowed="no less than 0")
    return value


def _assumed(figure: Figure, value: float, text: str) -> Figure:
    return replace(
        figure, value=value, text=text, source=_SOURCE, grade="assumed", low=value, high=value,
        note=f"what if, instead of {figure.text}", alternatives=(),
    )  # fmt: skip


def _replaced(part: Any, path: list[str], change: Callable[[Figure], Figure]) -> Any:
    value = getattr(part, path[0])
    inner = change(value) if len(path) == 1 else _replaced(value, path[1:], change)
    return replace(part, **{path[0]: inner})


def _set_sbuf(chip: Chip, name: str, text: str) -> Chip:
    """All of SBUF; what the system keeps of it stays as large."""
    assert chip.core is not None, "a chip with NeuronCores"
    sbuf, partitions = chip.core.sbuf, chip.core.partitions.value
    size = _value(name, text, "B") / partitions
    kept = sbuf.bytes_per_partition.value - sbuf.usable_bytes_per_partition.value
    if size <= kept:
        raise InputError(
            f"--what-if {name}={text}", allowed=f"more than {kept * partitions:,.0f} B"
        )
    changed = with_figure(
        chip, "core.sbuf.bytes_per_partition", lambda figure: _assumed(figure, size, text)
    )
    return with_figure(
        changed,
        "core.sbuf.usable_bytes_per_partition",
        lambda figure: _assumed(figure, size - kept, text),
    )


def _set_psum(chip: Chip, name: str, text: str) -> Chip:
    """All of PSUM, in banks of the same size."""
    assert chip.core is not None, "a chip with NeuronCores"
    psum, partitions = chip.core.psum, chip.core.partitions.value
    size = _value(name, text, "B") / partitions
    bank = psum.bank_bytes_per_partition.value
    if size < bank or size % bank:
        raise InputError(
            f"--what-if {name}={text}", allowed=f"a multiple of {bank * partitions:,.0f} B"
        )
    changed = with_figure(
        chip, "core.psum.bytes_per_partition", lambda figure: _assumed(figure, size, text)
    )
    return with_figure(
        changed, "core.psum.banks", lambda figure: _assumed(figure, size / bank, text)
    )


_SIZES: dict[str, Callable[[Chip, str, str], Chip]] = {"sbuf": _set_sbuf, "psum": _set_psum}
