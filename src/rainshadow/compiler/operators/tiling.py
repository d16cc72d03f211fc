"""Knows the limits one NeuronCore puts on tiles, how axes split into them, and how loops print.

What is computed on the tiles is left to the operator emitters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rainshadow.machine import Chip

#: An index that selects everything.
_WHOLE = re.compile(r"\[:(, :)*\]")
#: A name, or a sum in parentheses, times a number.
_PRODUCT = re.compile(r"(\w+|\([^()]*\)) \* (\d+)")
#: A tile may be this much narrower than the partition count if that makes all tiles equal.
_EVEN_TILE_ALLOWANCE = 1.25
#: Longest call printed on one line; loops indent it further.
_LINE_LENGTH = 68


class Writer(Protocol):
    """Where emitted source goes: one line at a time, and blocks of deeper indentation."""

    def line(self, text: str = "") -> None: ...

    def indent(self) -> AbstractContextManager[object]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreLimits:
    """What a tile must fit into, from the machine data; bytes are per partition.

    stationary_max, moving_max: free sizes of nc_matmul's operands.
    """

    partitions: int
    stationary_max: int
    moving_max: int
    psum_banks: int
    psum_bank_bytes: int
    sbuf_bytes: int
    generation: str

    @classmethod
    def of(cls, chip: Chip) -> CoreLimits:
        """The limits of a chip that has NeuronCores."""
        core = chip.core
        assert core is not None, f"{chip.name} has no NeuronCore"
        return cls(
            partitions=int(core.partitions.value),
            stationary_max=int(core.tensor.stationary_free_max.value),
            moving_max=int(core.tensor.moving_free_max.value),
            psum_banks=int(core.psum.banks.value),
            psum_bank_bytes=int(core.psum.bank_bytes_per_partition.value),
            sbuf_bytes=int(core.sbuf.usable_bytes_per_partition.value),
            generation=str(chip.generation),
        )

    @property
    def bank_floats(self) -> int:
        """float32 elements of one PSUM bank in one partition."""
        return self.psum_bank_bytes // 4

    @property
    def has_dma_transpose(self) -> bool:
        """DMA transposes of 2-byte elements came with NeuronCore-v3 (Trainium 2 guide)."""
        return self.generation != "gen2"

    @property
    def row_tile(self) -> int:
        """Smallest group of TensorE rows that works alone: 64 on v2, 32 later (nc_matmul)."""
        return 64 if self.generation == "gen2" else 32


@dataclass(frozen=True, slots=True)
class Tiling:
    """An axis of `total` cut into `count` tiles of `tile`; only a ragged axis' last is shorter."""

    total: int
    tile: int
    count: int

    @property
    def ragged(self) -> bool:
        return self.tile * self.count != self.total


def split_axis(total: int, limit: int) -> Tiling:
    """Tiles of at most `limit`; all equal where a little more of them make them so.

    Equal tiles let one instruction or DMA take several tiles at once.
    """
    fewest = -(-total // limit)
    for count in range(fewest, int(fewest * _EVEN_TILE_ALLOWANCE) + 1):
        if total % count == 0:
            return Tiling(total, total // count, count)
    return Tiling(total, limit, fewest)


def power_of_two_at_least(value: int) -> int:
    """The smallest power of two that is not less than `value`."""
    return 1 << (value - 1).bit_length()


def largest_divisor(value: int, limit: int) -> int:
    """The largest divisor of `value` that is at most `limit` (at least 1)."""
    return next(d for d in range(max(1, min(value, limit)), 0, -1) if value % d == 0)


@contextmanager
def loop(writer: Writer, variable: str, count: int | str) -> Iterator[str]:
    """`for variable in range(count):`; a single iteration prints no loop and yields "0"."""
    if count == 1:
        yield "0"
        return
    writer.line(f"for {variable} in range({count}):")
    with writer.indent():
        yield variable


def pipelined(
    writer: Writer,
    count: int | str,
    variable: str,
    carried: str,
    first: Callable[[str], None],
    second: Callable[[str], None],
) -> None:
    """A loop in which step n's `second` half comes after step n + 1's `first` half.

    Each engine works through its instructions in order, so without this it would wait for the
    other engines' part of a step before it could begin its own part of the next.
    carried: names that the first half of a step leaves for its second half.
    """
    if count == 1:
        first("0")
        second("0")
        return
    total = f"{count} + 1" if isinstance(count, str) else count + 1
    last = count if isinstance(count, int) else f"({count})" if " " in count else count
    writer.line("# The second half of a step runs beside the first half of the next one.")
    writer.line("halves = []")
    writer.line(f"for step in range({total}):")
    with writer.indent():
        writer.line(f"if step < {last}:")
        with writer.indent():
            writer.line(f"{variable} = step")
            first(variable)
            writer.line(f"halves.append({f'({carried})' if ',' in carried else carried})")
        writer.line("if step > 0:")
        with writer.indent():
            writer.line(f"{variable} = step - 1")
            writer.line(f"{carried} = halves[{variable}]")
            second(variable)


def times(index: str, size: int | str) -> str:
    """Text of index * size."""
    if index == "0" or size == 0:
        return "0"
    factor = _PRODUCT.fullmatch(index)
    if factor and isinstance(size, int):
        return f"{factor[1]} * {int(factor[2]) * size}"
    return index if size == 1 else f"{inner(index)} * {size}"


def window(start: str, size: int | str, whole: int | str | None = None) -> str:
    """Text of a slice of `size` from `start`; ":" where it is the `whole` axis."""
    if start == "0":
        return ":" if str(size) == str(whole) else f"0:{size}"
    return f"nl.ds({start}, {size})"


def tuple_text(*items: int | str) -> str:
    """Text of a tuple of sizes."""
    inner = ", ".join(str(item) for item in items)
    return f"({inner},)" if len(items) == 1 else f"({inner})"


def plus(*terms: str) -> str:
    """Text of a sum; "0" terms vanish."""
    return " + ".join(term for term in terms if term != "0") or "0"


def number_text(value: float) -> str:
    """A number as source; infinities and NaN have no literal."""
    return repr(value) if math.isfinite(value) else f'float("{value}")'


def inner(text: str) -> str:
    """`text` in parentheses if it is a sum, to stand inside a product or a difference."""
    return f"({text})" if " + " in text else text


def store(writer: Writer, limits: CoreLimits, target: str, source: str) -> None:
    """A DMA to HBM. SyncE starts it where it can, so that no load queues behind it."""
    hardware = () if limits.generation == "gen2" else ("dge_mode=nisa.dge_mode.hwdge",)
    call(writer, "nisa.dma_copy", f"dst={target}", f"src={source}", *hardware)


def allocate(writer: Writer, name: str, shape: str, dtype: str, space: str) -> None:
    """`name = nl.ndarray(shape, nl.dtype, buffer=nl.space)`."""
    call(writer, f"{name} = nl.ndarray", shape, f"nl.{dtype}", f"buffer=nl.{space}")


def call(writer: Writer, function: str, *arguments: str) -> None:
    """`function(arguments)`, one argument a line where one line would be too long."""
    arguments = tuple(_WHOLE.sub("", argument) for argument in arguments)
    text = f"{function}({', '.join(arguments)})"
    if len(text) <= _LINE_LENGTH:
        writer.line(text)
        return
    writer.line(f"{function}(")
    with writer.indent():
        for argument in arguments:
            _write_argument(writer, argument)
    writer.line(")")


def _write_argument(writer: Writer, argument: str) -> None:
    """One argument; the views of a long one each on a line of their own."""
    links = [argument] if len(argument) <= _LINE_LENGTH else argument.split("].", 1)
    if len(links) == 1:
        writer.line(f"{argument},")
        return
    writer.line(f"{links[0]}]")
    views = links[1].replace(").", ")\n.").split("\n.")
    with writer.indent():
        for view in views[:-1]:
            writer.line(f".{view}")
        writer.line(f".{views[-1]},")
