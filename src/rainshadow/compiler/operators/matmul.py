"""Knows how to print a tiled matrix multiplication with an epilogue as one NKI function.

C[b, M, N] = A[b, M, K] @ B[b, K, N]. A is the stationary operand and B the moving one, so that
a result tile has M on partitions and leaves SBUF in rows of C. Loading is left to `panels`,
block sizes to `matmul_blocks`, and what happens to a finished tile to the epilogue.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from rainshadow import dtypes
from rainshadow.compiler.operators.matmul_blocks import Blocks, Extents, choose_blocks
from rainshadow.compiler.operators.panels import (
    STAGE_BYTES,
    MatmulOperand,
    Panel,
    emit_load,
    emit_panel_buffers,
)
from rainshadow.compiler.operators.tiling import (
    CoreLimits,
    Tiling,
    Writer,
    allocate,
    call,
    inner,
    largest_divisor,
    loop,
    plus,
    power_of_two_at_least,
    split_axis,
    store,
    times,
    tuple_text,
    window,
)

#: PSUM banks that one result tile takes; two such tiles and two groups of transposes fill PSUM.
ACCUMULATOR_BANKS = 2


@dataclass(frozen=True, slots=True)
class OutputTile:
    """A finished tile of C, as an epilogue sees it; every field is NKI source text.

    accumulator: float32 view of C's tile, in PSUM (in SBUF where K is split); read it once.
    result: the SBUF tile of the output dtype that the epilogue must fill.  shape: of both,
    (rows, columns) or (rows, row tiles, columns).
    """

    accumulator: str
    result: str
    shape: str
    batched: bool
    group: int
    row_tile: int
    rows: str
    columns: str
    partitions: int

    def hbm(self, tensor: str) -> str:
        """The same tile of another HBM tensor of C's shape."""
        index = ("b, " if self.batched else "") + f"{self.rows}, {self.columns}"
        view = f"{tensor}[{index}]"
        if self.group == 1:
            return view
        split = f"reshape_dim(0, ({self.group}, {self.row_tile}))"
        return f"{view}.{split}.permute((1, 0, 2))"

    def row_vector(self, tile: str) -> str:
        """This tile's columns of an SBUF tile [128, N] that holds one row vector per partition."""
        rows = self.shape[1:].split(",")[0]
        view = f"{tile}[{window('0', rows, self.partitions)}, {self.columns}]"
        return view if self.group == 1 else f"{view}.expand_dim(1).broadcast(1, {self.group})"


class Epilogue(Protocol):
    """What becomes of each finished tile.

    arguments: further HBM parameters of the emitted function.  num_tiles: float32 tiles of C's
    tile size that `finish` allocates.  resident_bytes: SBUF bytes per partition that `prepare`
    keeps for the whole function.
    """

    @property
    def arguments(self) -> tuple[str, ...]: ...

    @property
    def num_tiles(self) -> int: ...

    @property
    def resident_bytes(self) -> int: ...

    def formula(self, product: str) -> str:
        """The result in words of the docstring."""
        ...

    def prepare(self, writer: Writer) -> None:
        """Write what comes before all loops."""
        ...

    def finish(self, writer: Writer, tile: OutputTile) -> None:
        """Write the lines that fill `tile.result` from `tile.accumulator`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BiasActivationEpilogue:
    """result = activation(product + bias) + residual, each part optional.

    bias: parameter [N] of `columns` elements.  activation: a name in nl, or "".  residual:
    parameter of C's shape and dtype `residual_dtype`.
    """

    columns: int
    bias: str = ""
    activation: str = ""
    residual: str = ""
    residual_dtype: str = "float32"
    partitions: int = 128

    @property
    def arguments(self) -> tuple[str, ...]:
        return tuple(name for name in (self.bias, self.residual) if name)

    @property
    def num_tiles(self) -> int:
        return bool(self.bias) + bool(self.activation) + bool(self.residual)

    @property
    def resident_bytes(self) -> int:
        return 4 * self.columns if self.bias else 0

    def formula(self, product: str) -> str:
        """As a docstring says it."""
        inner = f"{product} + {self.bias}" if self.bias else product
        inner = f"{self.activation}({inner})" if self.activation else inner
        return f"{inner} + {self.residual}" if self.residual else inner

    def prepare(self, writer: Writer) -> None:
        """Every partition gets its own copy of the bias row."""
        if self.bias:
            shape = tuple_text(self.partitions, self.columns)
            allocate(writer, f"{self.bias}_rows", shape, "float32", "sbuf")
            source = f"{self.bias}.expand_dim(0).broadcast(0, {self.partitions})"
            writer.line(f"nisa.dma_copy(dst={self.bias}_rows, src={source})")

    def finish(self, writer: Writer, tile: OutputTile) -> None:
        """Bias and residual on VectorE, the activation on ScalarE; the last step casts."""
        steps = [step for step in ("bias", "activation", "residual") if getattr(self, step)]
        if not steps:
            call(writer, "nisa.tensor_copy", f"dst={tile.result}", f"src={tile.accumulator}")
        data = tile.accumulator
        for step in steps:
            target = tile.result
            if step != steps[-1]:
                target = {"bias": "biased", "activation": "activated"}[step]
                allocate(writer, target, tile.shape, "float32", "sbuf")
            if step == "activation":
                op = f"op=nl.{self.activation}"
                call(writer, "nisa.activation", f"dst={target}", op, f"data={data}")
            else:
                other = tile.row_vector(f"{self.bias}_rows")
                if step == "residual":
                    other = self._load_residual(writer, tile)
                call(writer, "nisa.tensor_tensor", target, data, other, "op=nl.add")
            data = target

    def _load_residual(self, writer: Writer, tile: OutputTile) -> str:
        name = f"{self.residual}_tile"
        allocate(writer, name, tile.shape, self.residual_dtype, "sbuf")
        call(writer, "nisa.dma_copy", f"dst={name}", f"src={tile.hbm(self.residual)}")
        return name


@dataclass(frozen=True, slots=True, kw_only=True)
class MatmulSpec:
    """One matrix multiplication to emit.

    name: of the function.  m, n, k, batch: sizes; with batch > 1 the output and every batched
    operand have a leading batch axis.  compute_dtype: what TensorE multiplies (operands are cast
    by the DMA that loads them).  out: the output parameter's name.  comment: lines that say what
    in the user's program this is.
    """

    name: str
    m: int
    n: int
    k: int
    a: MatmulOperand
    b: MatmulOperand
    limits: CoreLimits
    out_dtype: str
    compute_dtype: str = "bfloat16"
    batch: int = 1
    out: str = "out"
    epilogue: Epilogue | None = None
    comment: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MatmulPlan:
    """Tiles and blocks of a MatmulSpec.

    rows: M on partitions.  row_tiles: row tiles per block.  group: row tiles that share one
    accumulator.  span: columns of one accumulator; moving: columns of one nc_matmul.
    """

    rows: Tiling
    row_tiles: int
    group: int
    span: int
    moving: int
    spans: int
    blocks: Blocks
    num_a_blocks: int
    num_b_blocks: int
    num_k_blocks: int
    a: Panel
    b: Panel


def plan_matmul(spec: MatmulSpec) -> MatmulPlan:
    """Choose tiles and blocks.

    Errors: `InputError` if SBUF can't hold the smallest panels.
    """
    limits = spec.limits
    rows = split_axis(spec.m, limits.stationary_max)
    depth = split_axis(spec.k, limits.partitions)
    moving = min(spec.n, limits.moving_max)
    widest = min(rows.count, max(1, limits.moving_max // rows.tile))
    widths = [width for width in (widest, widest // 2, widest // 4) if width]
    choices = [_extents(spec, rows, depth, width, moving) for width in widths]
    extents, blocks = choose_blocks(choices, limits.sbuf_bytes - _working_bytes(spec))
    tiles_per_chunk = widths[choices.index(extents)]
    a_chunk = tiles_per_chunk * rows.tile
    a_chunks, b_chunks = extents.a_chunks, extents.b_chunks

    def panel(operand: MatmulOperand, columns: int, chunk: int, chunks: int, buffers: int) -> Panel:
        row_tile = rows.tile if operand is spec.a else split_axis(chunk, limits.partitions).tile
        return Panel(
            operand=operand,
            dtype=spec.compute_dtype,
            columns=columns,
            row_tile=row_tile,
            chunk=chunk,
            num_chunks=chunks,
            depth=depth,
            num_slabs=blocks.slabs,
            buffers=buffers,
        )

    row_tiles = min(rows.count, blocks.a_chunks * tiles_per_chunk)
    return MatmulPlan(
        rows=rows,
        row_tiles=row_tiles,
        blocks=blocks,
        num_a_blocks=a_chunks // blocks.a_chunks,
        num_b_blocks=b_chunks // blocks.b_chunks,
        num_k_blocks=depth.count // blocks.slabs,
        a=panel(spec.a, spec.m, a_chunk, blocks.a_chunks, blocks.a_buffers),
        b=panel(spec.b, spec.n, moving, blocks.b_chunks, blocks.b_buffers),
        **_accumulator(spec, rows, row_tiles, blocks.b_chunks, moving),
    )


def _extents(
    spec: MatmulSpec, rows: Tiling, depth: Tiling, tiles_per_chunk: int, moving: int
) -> Extents:
    """The problem with chunks of A of `tiles_per_chunk` row tiles."""
    item = dtypes.itemsize(spec.compute_dtype)
    return Extents(
        a_chunks=-(-rows.count // tiles_per_chunk),
        b_chunks=-(-spec.n // moving),
        slabs=depth.count,
        batch=spec.batch,
        a_chunk_bytes=tiles_per_chunk * rows.tile * item,
        b_chunk_bytes=moving * item,
        sum_bytes=tiles_per_chunk * moving * 4,
        a_turned=not spec.a.k_major,
        b_turned=not spec.b.k_major,
    )


def _working_bytes(spec: MatmulSpec) -> int:
    """SBUF for staging tiles, result tiles and the epilogue, each twice as loops overlap."""
    floats = ACCUMULATOR_BANKS * spec.limits.bank_floats
    epilogue_tiles = spec.epilogue.num_tiles if spec.epilogue else 0
    resident = spec.epilogue.resident_bytes if spec.epilogue else 0
    return 2 * STAGE_BYTES + resident + 2 * 4 * floats * (1 + epilogue_tiles)


def _accumulator(
    spec: MatmulSpec, rows: Tiling, row_tiles: int, b_chunks: int, moving: int
) -> dict[str, int]:
    """Shape of the PSUM tile: several row tiles where C is narrow, several moving tiles else."""
    capacity = ACCUMULATOR_BANKS * spec.limits.bank_floats
    if spec.n > moving or rows.count == 1 or rows.ragged or rows.count % row_tiles:
        pairs = spec.n % (ACCUMULATOR_BANKS * moving) == 0 and b_chunks % ACCUMULATOR_BANKS == 0
        per_span = ACCUMULATOR_BANKS if pairs and moving == spec.limits.bank_floats else 1
        return {
            "group": 1,
            "moving": moving,
            "span": per_span * moving,
            "spans": b_chunks // per_span,
        }
    slots = capacity // power_of_two_at_least(spec.n)
    return {
        "group": largest_divisor(row_tiles, slots),
        "moving": moving,
        "span": spec.n,
        "spans": 1,
    }


def emit_matmul(spec: MatmulSpec, writer: Writer) -> MatmulPlan:
    """Write the function `spec.name(a, b, *epilogue arguments, out)`; returns the plan used."""
    plan = plan_matmul(spec)
    epilogue = spec.epilogue or BiasActivationEpilogue(columns=spec.n)
    names = [spec.a.name, spec.b.name, *epilogue.arguments, spec.out]
    writer.line(f"def {spec.name}({', '.join(dict.fromkeys(names))}):")
    with writer.indent():
        _emit_docstring(spec, plan, epilogue, writer)
        emit_panel_buffers(writer, plan.a)
        emit_panel_buffers(writer, plan.b)
        epilogue.prepare(writer)
        if plan.blocks.sums:
            shape = tuple_text(plan.rows.tile, plan.row_tiles, plan.spans * plan.span)
            writer.line("# K does not fit into SBUF at once: partial sums wait here.")
            allocate(writer, "sums", shape, "float32", "sbuf")
        with loop(writer, "b", spec.batch):
            _emit_blocks(spec, plan, epilogue, writer)
    return plan


def _emit_docstring(spec: MatmulSpec, plan: MatmulPlan, epilogue: Epilogue, writer: Writer) -> None:
    batch = f"{spec.batch}, " if spec.batch > 1 else ""
    left = f"{spec.a.name}" + (".T" if spec.a.k_major else "")
    right = f"{spec.b.name}" + ("" if spec.b.k_major else ".T")
    formula = epilogue.formula(f"{left} @ {right}")
    writer.line(f'"""{spec.out}[{batch}{spec.m}, {spec.n}] = {formula}, summed over {spec.k}.')
    writer.line()
    for text in spec.comment:
        writer.line(text)
    for panel in (plan.a, plan.b):
        how = {
            "": "lies in HBM with the summed axis first and is loaded as it lies",
            "dma": "lies with the summed axis last; the DMA turns it",
            "tensor": "lies with the summed axis last; TensorE turns it",
        }[panel.transposer(spec.limits)]
        writer.line(f"{panel.operand.name} {how}.")
    writer.line(f"Operands are {spec.compute_dtype}, sums float32.")
    writer.line('"""')


def _emit_blocks(spec: MatmulSpec, plan: MatmulPlan, epilogue: Epilogue, writer: Writer) -> None:
    """The block loops: each panel is loaded in the outermost loop that it depends on."""
    blocks = plan.blocks
    outer, inner = (
        (("mb", plan.num_a_blocks), ("nb", plan.num_b_blocks))
        if blocks.a_outer
        else (("nb", plan.num_b_blocks), ("mb", plan.num_a_blocks))
    )
    with loop(writer, *outer) as first:
        if not blocks.sums:
            _emit_panel(spec, plan, writer, outer[0], {outer[0]: first}, [outer])
        with loop(writer, *inner) as second:
            index = {outer[0]: first, inner[0]: second}
            if not blocks.sums:
                _emit_panel(spec, plan, writer, inner[0], index, [outer, inner])
                _emit_products(spec, plan, epilogue, writer, index, "0")
                return
            k_loop = ("kb", plan.num_k_blocks)
            with loop(writer, *k_loop) as kb:
                for letter in ("mb", "nb"):
                    _emit_panel(spec, plan, writer, letter, index, [outer, inner, k_loop], kb)
                _emit_products(spec, plan, None, writer, index, kb)
            _emit_finish_sums(spec, plan, epilogue, writer, index)


def _emit_panel(
    spec: MatmulSpec,
    plan: MatmulPlan,
    writer: Writer,
    letter: str,
    index: dict[str, str],
    loops: list[tuple[str, int]],
    kb: str = "0",
) -> None:
    """Load the panel whose block number is `letter`; turn by turn into its buffers."""
    panel = plan.a if letter == "mb" else plan.b
    if panel.buffers > 1:
        loops = [("b", spec.batch), *loops]
        writer.line(f"{panel.name} = {panel.name}s[{_turn(loops)} % 2]")
    emit_load(
        writer, panel, spec.limits, times(index[letter], panel.num_chunks),
        times(kb, panel.num_slabs),
    )  # fmt: skip


def _turn(loops: list[tuple[str, int]]) -> str:
    """Text whose parity changes with every iteration of nested loops (name, count), outer first."""
    terms: list[str] = []
    inner = 1
    for name, count in reversed(loops):
        if count > 1 and inner % 2:
            terms.append(name)
        inner *= count
    return terms[0] if len(terms) == 1 else "(" + " + ".join(reversed(terms)) + ")"


@contextmanager
def _result_tiles(
    spec: MatmulSpec, plan: MatmulPlan, writer: Writer, index: dict[str, str]
) -> Iterator[OutputTile]:
    """Loops over the result tiles of a block; yields the tile without accumulator."""
    rows = plan.rows
    count: int | str = plan.row_tiles // plan.group
    if rows.count % plan.row_tiles:
        count = f"min({plan.row_tiles}, {rows.count} - {times(index['mb'], plan.row_tiles)})"
    with loop(writer, "i", count) as i, loop(writer, "j", plan.spans) as j:
        m = plus(times(index["mb"], plan.row_tiles * rows.tile), times(i, plan.group * rows.tile))
        n = plus(times(index["nb"], plan.spans * plan.span), times(j, plan.span))
        if " + " in m:
            writer.line(f"row = {m}")
            m = "row"
        if " + " in n:
            writer.line(f"column = {n}")
            n = "column"
        height: int | str = rows.tile
        if rows.ragged:
            writer.line(f"rows = min({rows.tile}, {rows.total} - {inner(m)})")
            height = "rows"
        width: int | str = plan.span
        if spec.n % plan.span:
            writer.line(f"columns = min({plan.span}, {spec.n} - {inner(n)})")
            width = "columns"
        grouped = plan.group > 1
        yield OutputTile(
            accumulator="",
            result="result",
            shape=tuple_text(height, plan.group, width) if grouped else tuple_text(height, width),
            batched=spec.batch > 1,
            group=plan.group,
            row_tile=rows.tile,
            rows=window(m, plan.group * rows.tile if grouped else height, spec.m),
            columns=window(n, width, spec.n),
            partitions=spec.limits.partitions,
        )


def _emit_products(
    spec: MatmulSpec,
    plan: MatmulPlan,
    epilogue: Epilogue | None,
    writer: Writer,
    index: dict[str, str],
    kb: str,
) -> None:
    """All result tiles of one block: products accumulated in PSUM over its slabs of K."""
    with _result_tiles(spec, plan, writer, index) as tile:
        height, width = tile.shape[1:-1].split(", ")[0], tile.shape[1:-1].split(", ")[-1]
        if plan.group > 1:
            slot = power_of_two_at_least(plan.span)
            allocate(writer, "acc", f"({height}, {plan.group}, {slot})", "float32", "psum")
            accumulator = f"acc[:, :, {window('0', width, slot)}]" if slot != plan.span else "acc"
        else:
            allocate(writer, "acc", tile.shape, "float32", "psum")
            accumulator = "acc"
        _emit_accumulation(plan, writer, height, width)
        ready = replace(tile, accumulator=accumulator)
        if epilogue is not None:
            _emit_store(spec, epilogue, writer, ready)
            return
        target = _sums_view(plan)
        writer.line(f"if {kb} == 0:")
        with writer.indent():
            call(writer, "nisa.tensor_copy", f"dst={target}", f"src={accumulator}")
        writer.line("else:")
        with writer.indent():
            call(writer, "nisa.tensor_tensor", target, target, accumulator, "op=nl.add")


def _sums_view(plan: MatmulPlan) -> str:
    """This result tile's place in the partial sums, for the loop variables i and j."""
    i = "0" if plan.row_tiles // plan.group == 1 and not plan.rows.count % plan.row_tiles else "i"
    j = "0" if plan.spans == 1 else "j"
    height = window("0", "rows") if plan.rows.ragged else ":"
    ragged = plan.b.columns % plan.span != 0
    columns = window(
        times(j, plan.span), "columns" if ragged else plan.span, plan.spans * plan.span
    )
    tiles = window(times(i, plan.group), plan.group, plan.row_tiles) if plan.group > 1 else i
    return f"sums[{height}, {tiles}, {columns}]"


def _emit_finish_sums(
    spec: MatmulSpec, plan: MatmulPlan, epilogue: Epilogue, writer: Writer, index: dict[str, str]
) -> None:
    with _result_tiles(spec, plan, writer, index) as tile:
        ready = replace(tile, accumulator=_sums_view(plan))
        _emit_store(spec, epilogue, writer, ready)


def _emit_store(spec: MatmulSpec, epilogue: Epilogue, writer: Writer, tile: OutputTile) -> None:
    allocate(writer, "result", tile.shape, spec.out_dtype, "sbuf")
    epilogue.finish(writer, tile)
    store(writer, spec.limits, tile.hbm(spec.out), "result")


def _emit_accumulation(plan: MatmulPlan, writer: Writer, height: str, width: str) -> None:
    """The nc_matmul calls of one accumulator, K innermost."""
    rows, depth = plan.rows, plan.a.depth
    many = plan.row_tiles // plan.group > 1 or rows.count % plan.row_tiles != 0
    per_chunk = plan.a.chunk // rows.tile
    moving_tiles = plan.span // plan.moving
    with loop(writer, "g", plan.group) as g:
        t = plus(times("i", plan.group) if many else "0", g)
        if "+" in t:
            writer.line(f"t = {t}")
            t = "t"
        chunk = "0" if plan.a.num_chunks == 1 else t if per_chunk == 1 else f"{t} // {per_chunk}"
        within = "0" if per_chunk == 1 else t if plan.a.num_chunks == 1 else f"{t} % {per_chunk}"
        with loop(writer, "n", moving_tiles) as n, loop(writer, "k", plan.a.num_slabs) as k:
            deep = ":"
            if depth.ragged:
                kb = times("kb", plan.a.num_slabs) if plan.num_k_blocks > 1 else "0"
                start = times(inner(plus(kb, k)), depth.tile)
                writer.line(f"depth = min({depth.tile}, {depth.total} - {start})")
                deep = window("0", "depth")
            stationary = (
                f"{plan.a.name}[{deep}, {chunk}, {k}, "
                f"{window(times(within, rows.tile), height, plan.a.chunk)}]"
            )
            j = "j" if plan.spans > 1 else "0"
            wide: int | str = width if moving_tiles == 1 else plan.moving
            moving = (
                f"{plan.b.name}[{deep}, {plus(times(j, moving_tiles), n)}, {k}, "
                f"{window('0', wide, plan.moving)}]"
            )
            slot = power_of_two_at_least(plan.span)
            target = f"acc[:, {g}, {window('0', width, slot)}]" if plan.group > 1 else "acc"
            if moving_tiles > 1:
                target = f"acc[:, {window(times(n, plan.moving), plan.moving)}]"
            accumulate = "False" if k == "0" else "k > 0"
            call(writer, "nisa.nc_matmul", target, stationary, moving, f"accumulate={accumulate}")
