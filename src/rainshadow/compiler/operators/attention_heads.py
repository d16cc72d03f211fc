"""Knows how attention heads are gathered, loaded and turned: what forward and backward share.

A (batch, head) couple is called a pair. The softmax and the products are left to `attention`
and `attention_backward`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rainshadow import dtypes
from rainshadow.compiler.operators.tiling import (
    CoreLimits,
    Writer,
    allocate,
    call,
    largest_divisor,
    loop,
    plus,
    store,
    times,
    tuple_text,
    window,
)
from rainshadow.errors import InputError, NotModelled

#: Added to scores that causality hides: far below any score, far from float32's limit.
HIDDEN = "-1.0e30"
#: Head sizes of which several fit under each other on the rows of TensorE, by its row tiles.
_STACKED_HEAD_SIZES = (32, 64)
#: SBUF share that one set of heads may take while the next set is loaded beside it.
_SHARED_FRACTION = 0.3
#: SBUF share that a set may take when it is alone.
_ALONE_FRACTION = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSpec:
    """softmax(scale * q @ k.T) @ v for every batch entry and head.

    q: [batch, heads, q_len, head_dim], k, v: [batch, heads, kv_len, head_dim] in HBM, any
    strides; lse: [batch, heads, q_len] float32.  dtype: of q, k, v and their gradients in HBM;
    out_dtype: of the output and its gradient.  compute_dtype: what TensorE multiplies.  causal:
    query t sees keys 0..t (q_len = kv_len).
    """

    name: str
    batch: int
    heads: int
    q_len: int
    kv_len: int
    head_dim: int
    scale: float
    limits: CoreLimits
    causal: bool = True
    dtype: str = "bfloat16"
    out_dtype: str = "bfloat16"
    compute_dtype: str = "bfloat16"
    comment: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.head_dim > self.limits.partitions:
            raise NotModelled(
                f"{self.name}: head size {self.head_dim}",
                allowed=f"head sizes up to {self.limits.partitions}",
                fix="split the head size over two matmuls in compiler/operators/attention.py",
            )
        if self.causal and self.q_len != self.kv_len:
            raise NotModelled(
                f"{self.name}: causal attention of {self.q_len} queries over {self.kv_len} keys",
                allowed="causal attention with as many queries as keys",
            )

    @property
    def q_tile(self) -> int:
        return min(self.q_len, self.limits.partitions)

    @property
    def kv_tile(self) -> int:
        return min(self.kv_len, self.limits.partitions)

    @property
    def q_tiles(self) -> int:
        return -(-self.q_len // self.q_tile)

    @property
    def kv_tiles(self) -> int:
        return -(-self.kv_len // self.kv_tile)

    @property
    def q_ragged(self) -> bool:
        """The last query tile is shorter than the others."""
        return self.q_len % self.q_tile != 0

    @property
    def kv_ragged(self) -> bool:
        """The last key tile is shorter; it is padded with zeros."""
        return self.kv_len % self.kv_tile != 0

    @property
    def item(self) -> int:
        """Bytes of an operand element."""
        return dtypes.itemsize(self.compute_dtype)

    @property
    def bank_blocks(self) -> int:
        """Transposed tiles of 128 columns that one PSUM bank holds."""
        return self.limits.psum_bank_bytes // (self.limits.partitions * self.item)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSets:
    """Which pairs are in SBUF together, and how turned heads are stacked.

    batches x heads: pairs of one set; either all heads of some batch entries, or some heads of
    one.  stacked: heads under each other in a turned tile (rows pair % stacked * head_dim).
    double: the next set's tiles lie beside this one's.
    """

    spec: AttentionSpec
    batches: int
    heads: int
    stacked: int
    double: bool

    @property
    def pairs(self) -> int:
        return self.batches * self.heads

    @property
    def blocks(self) -> int:
        """Turned blocks of one set."""
        return self.pairs // self.stacked

    @property
    def block_rows(self) -> int:
        """Partitions of a turned block."""
        return self.stacked * self.spec.head_dim

    @contextmanager
    def loops(self, writer: Writer) -> Iterator[None]:
        """The loops over sets: batch entry (or group of entries) b, first head h."""
        spec = self.spec
        with (
            loop(writer, "b", spec.batch // self.batches),
            loop(writer, "h", spec.heads // self.heads),
        ):
            yield

    @property
    def count(self) -> int:
        return self.spec.batch * self.spec.heads // self.pairs

    def rows_of(self, tensor: str, rows: str) -> str:
        """Text of [rows, pairs..., head_dim] (or [rows, pairs...] of lse) of an HBM tensor."""
        spec = self.spec
        trailing = "" if tensor == "lse" else ", :"
        heads = window(times("h", self.heads) if self.heads < spec.heads else "0", self.heads)
        heads = ":" if self.heads == spec.heads else heads
        if self.batches == 1:
            entry = "b" if spec.batch > 1 else "0"
            order = "(1, 0, 2)" if trailing else "(1, 0)"
            return f"{tensor}[{entry}, {heads}, {rows}{trailing}].permute({order})"
        start = times("b", self.batches) if self.batches < spec.batch else "0"
        entries = window(start, self.batches, spec.batch)
        order = "(2, 0, 1, 3)" if trailing else "(2, 0, 1)"
        return f"{tensor}[{entries}, {heads}, {rows}{trailing}].permute({order})"

    def pair_rows(self, tensor: str, pair: str, rows: str) -> str:
        """Text of [rows, head_dim] of one pair of an HBM tensor."""
        spec = self.spec
        if self.batches == 1:
            entry = "b" if spec.batch > 1 else "0"
            head = plus(times("h", self.heads) if self.heads < spec.heads else "0", pair)
        else:
            first = times("b", self.batches) if self.batches < spec.batch else "0"
            entry = plus(first, f"{pair} // {self.heads}")
            head = f"{pair} % {self.heads}"
        return f"{tensor}[{entry}, {head}, {rows}, :]"

    def on_chip(self, tile: str) -> str:
        """An SBUF tile [rows, pairs, ...] as `rows_of` shapes it."""
        return (
            tile if self.batches == 1 else f"{tile}.reshape_dim(1, ({self.batches}, {self.heads}))"
        )

    def head(self, writer: Writer, pair: str) -> tuple[str, str, tuple[str, ...]]:
        """(partitions, block, extra nc_matmul arguments) of a pair in turned tiles, as text."""
        size = self.spec.head_dim
        if self.stacked == 1:
            return ":", pair, ()
        if pair.isdigit():
            row, block = str(int(pair) % self.stacked * size), str(int(pair) // self.stacked)
        else:
            row, block = "row", "block"
            writer.line(f"row, block = {pair} % {self.stacked} * {size}, {pair} // {self.stacked}")
        place = (f"tile_position=({row}, 0)", f"tile_size=({size}, {self.spec.limits.partitions})")
        return f"nl.ds({row}, {size})", block, place


def choose_sets(
    spec: AttentionSpec, row_bytes: int, turned_bytes: int, fixed_bytes: int = 0
) -> HeadSets:
    """The largest sets whose tiles take a fair share of SBUF.

    row_bytes: SBUF bytes per partition of one pair's tiles [row, tile, head_dim]; turned_bytes:
    of its turned tiles, which stacked heads share; fixed_bytes: what all pairs need once.
    Errors: `InputError` if one pair alone does not fit.
    """
    available = spec.limits.sbuf_bytes - fixed_bytes
    for batches, heads in _set_sizes(spec):
        stacked = _stacked_heads(spec, batches * heads)
        needed = batches * heads * (row_bytes + turned_bytes // stacked)
        all_at_once = batches * heads == spec.batch * spec.heads
        share = _ALONE_FRACTION if all_at_once else _SHARED_FRACTION
        if needed <= share * available:
            return HeadSets(spec=spec, batches=batches, heads=heads, stacked=stacked, double=True)
    needed = row_bytes + turned_bytes
    if needed > _ALONE_FRACTION * available:
        raise InputError(
            f"{spec.name}: one head of {spec.kv_len} keys needs {needed} bytes of SBUF "
            "per partition",
            allowed=f"{int(_ALONE_FRACTION * available)} bytes",
            fix="use a shorter sequence, or split it over cores",
        )
    return HeadSets(spec=spec, batches=1, heads=1, stacked=1, double=False)


def _set_sizes(spec: AttentionSpec) -> Iterator[tuple[int, int]]:
    """(batch entries, heads) of possible sets, largest first."""
    for batches in range(spec.batch, 0, -1):
        if spec.batch % batches == 0:
            yield batches, spec.heads
    for heads in range(spec.heads - 1, 0, -1):
        if spec.heads % heads == 0:
            yield 1, heads


def _stacked_heads(spec: AttentionSpec, pairs: int) -> int:
    """Heads under each other in a turned tile: as many as TensorE's row tiles allow."""
    if spec.head_dim not in _STACKED_HEAD_SIZES or spec.head_dim < spec.limits.row_tile:
        return 1
    return largest_divisor(pairs, spec.limits.partitions // spec.head_dim)


def fill_banks(pairs: int, most: int, per_bank: int) -> int:
    """The largest group that divides `pairs`, is at most `most`, and fills its PSUM banks."""
    return next(
        group
        for group in range(min(pairs, most), 0, -1)
        if pairs % group == 0 and (group <= per_bank or group % per_bank == 0)
    )


def emit_row_window(
    writer: Writer, index: str, tile: int, total: int, name: str
) -> tuple[str, str]:
    """(window of row tile `index`, its size) as text; writes the line a ragged axis needs."""
    if total % tile:
        writer.line(f"{name} = min({tile}, {total} - {times(index, tile)})")
        return window(times(index, tile), name), name
    return window(times(index, tile), tile, total), str(tile)


def emit_causal_mask(writer: Writer, spec: AttentionSpec) -> None:
    """The tiles by which TensorE adds the causal mask to a diagonal tile of scores."""
    size = spec.q_tile
    writer.line("# TensorE adds the mask: identity.T @ mask onto a diagonal tile of scores.")
    writer.line("# Key k is hidden from query q where q - k < 0.")
    for name, start, hidden, compare in (
        ("identity", "1.0", "0.0", "equal"),
        ("mask", "0.0", HIDDEN, "greater_equal"),
    ):
        allocate(writer, name, f"({size}, {size})", "bfloat16", "sbuf")
        writer.line(f"nisa.memset({name}, {start})")
        call(
            writer, "nisa.affine_select", f"dst={name}", f"pattern=[[-1, {size}]]",
            "channel_multiplier=1", f"on_true_tile={name}", f"on_false_value={hidden}",
            f"cmp_op=nl.{compare}",
        )  # fmt: skip


def emit_mask(
    writer: Writer, scores: str, group: int, rows: str, columns: str, spec: AttentionSpec
) -> None:
    """Add the mask to the diagonal tile `columns` of `group` heads' scores in one PSUM bank.

    scores: text of the tile up to the column index, e.g. "scores[:, nl.ds(b * 4, 4)".
    """
    corner = window("0", rows, spec.q_tile)
    mask = f"mask[{corner}, {corner}]"
    if group > 1:
        mask += f".expand_dim(1).broadcast(1, {group})"
    target = f"{scores}, {columns}]"
    call(writer, "nisa.nc_matmul", target, f"identity[{corner}, {corner}]", mask, "accumulate=True")


def emit_load_rows(writer: Writer, sets: HeadSets, tensor: str, rows: str, target: str) -> None:
    """One DMA: a row tile of every pair of the set."""
    call(
        writer, "nisa.dma_copy", f"dst={sets.on_chip(target)}", f"src={sets.rows_of(tensor, rows)}"
    )


def emit_store_rows(writer: Writer, sets: HeadSets, tensor: str, rows: str, source: str) -> None:
    """One DMA: a row tile of every pair of the set, back to HBM."""
    store(writer, sets.spec.limits, sets.rows_of(tensor, rows), sets.on_chip(source))


def emit_turn(
    writer: Writer, sets: HeadSets, stage: str, rows: str, target: str, columns: str
) -> None:
    """Transpose a row tile [rows, pairs, head_dim] into target[head_dim, block, columns].

    stage: text of the row tile up to its pair index, e.g. "k_rows[:, 0".

    Several blocks share a PSUM bank, so that one copy takes them all.
    """
    spec = sets.spec
    at_once = largest_divisor(sets.blocks, spec.bank_blocks)
    width = spec.limits.partitions
    with loop(writer, "t", sets.blocks // at_once) as t:
        shape = tuple_text(sets.block_rows, at_once, width)
        allocate(writer, "turned", shape, spec.compute_dtype, "psum")
        kept = window("0", rows, width)
        with loop(writer, "u", at_once) as u:
            first = times(t, at_once * sets.stacked)
            inner = times(u, sets.stacked)
            start = " + ".join(part for part in (first, inner) if part != "0") or "0"
            pairs = window(start, sets.stacked, sets.pairs)
            call(
                writer, "nisa.nc_transpose", f"dst=turned[:, {u}, {kept}]",
                f"data={stage}, {pairs}, :]",
            )  # fmt: skip
        blocks = window(times(t, at_once), at_once, sets.blocks)
        call(
            writer, "nisa.tensor_copy", f"dst={target}[:, {blocks}, {columns}]",
            f"src=turned[:, :, {kept}]",
        )  # fmt: skip


def emit_padded(
    writer: Writer, spec: AttentionSpec, name: str, lead: str, columns: str, tiles: int | str
) -> str:
    """Allocate a tile [lead..., columns] of operands; returns text of its real part.

    The last key tile is filled up with zeros, so that every key tile can be treated as full.
    lead: the leading sizes, e.g. "128, 4".  tiles: key tiles in `columns`.
    """
    if not spec.kv_ragged:
        allocate(writer, name, f"({lead}, {columns})", spec.compute_dtype, "sbuf")
        return name
    index = ":, " * (lead.count(",") + 1)
    writer.line(f"padded = {tiles} * {spec.kv_tile}")
    allocate(writer, name, f"({lead}, padded)", spec.compute_dtype, "sbuf")
    writer.line(f"if padded > {columns}:")
    with writer.indent():
        writer.line(f"nisa.memset({name}[{index}nl.ds({columns}, padded - {columns})], 0.0)")
    return f"{name}[{index}0:{columns}]"


def emit_key_tiles(writer: Writer, spec: AttentionSpec, columns: str) -> int | str:
    """The number of key tiles in `columns` keys; writes the line that finds a varying one."""
    if columns.isdigit():
        return -(-int(columns) // spec.kv_tile)
    writer.line(f"tiles = -(-{columns} // {spec.kv_tile})")
    return "tiles"


def emit_docstring(writer: Writer, spec: AttentionSpec, first_line: str, *notes: str) -> None:
    """The emitted function's docstring."""
    writer.line(f'"""{first_line}')
    writer.line()
    for text in (*spec.comment, *notes):
        writer.line(text)
    size = f"batch {spec.batch}, {spec.heads} heads of {spec.head_dim}"
    writer.line(f"{size}, {spec.q_len} queries, {spec.kv_len} keys; {spec.compute_dtype} operands.")
    writer.line('"""')
