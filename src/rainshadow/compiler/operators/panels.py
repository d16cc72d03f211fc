"""Knows how a matmul operand gets from HBM into SBUF with the contraction axis on partitions.

Which part of the operand is wanted when is left to `matmul`; block sizes to `matmul_blocks`.
"""

from __future__ import annotations

from dataclasses import dataclass

from rainshadow import dtypes
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
    times,
    tuple_text,
    window,
)

#: SBUF bytes per partition that one staging tile of an operand under transposition may take.
STAGE_BYTES = 8 * 1024
#: PSUM banks that one group of TensorE transposes fills before it is copied out.
TURNED_BANKS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class MatmulOperand:
    """One operand as it lies in HBM, F being its other axis (M or N).

    name: the parameter's name.  dtype: of the HBM tensor.  k_major: the view is [K, F] (K may be
    laid on partitions as it is); otherwise [F, K], which must be turned.  batched: the view has
    a leading batch axis.
    """

    name: str
    dtype: str
    k_major: bool
    batched: bool = False

    def view(self, *slices: str) -> str:
        """Text of a window of the operand, for the current batch index `b`."""
        index = ", ".join((("b",) if self.batched else ()) + slices)
        return f"{self.name}[{index}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """The SBUF copy of a block of one operand: [K within slab, chunk, slab, column].

    columns: the operand's F axis.  row_tile: F rows turned at a time.  chunk: F columns that one
    load brings and that lie together in a partition.  num_chunks, num_slabs: in one block.
    depth: the K axis in slabs.  buffers: 2 where the next block loads while this one is used.
    """

    operand: MatmulOperand
    dtype: str
    columns: int
    row_tile: int
    chunk: int
    num_chunks: int
    depth: Tiling
    num_slabs: int
    buffers: int

    @property
    def name(self) -> str:
        return f"{self.operand.name}_panel"

    @property
    def buffer_bytes(self) -> int:
        """Bytes per partition of one buffer."""
        return self.num_chunks * self.num_slabs * self.chunk * dtypes.itemsize(self.dtype)

    @property
    def even(self) -> bool:
        """Every chunk is full."""
        return self.columns % self.chunk == 0

    @property
    def turned_by(self) -> str:
        """ "" if it can be loaded as it lies, else "dma" or "tensor" for who transposes."""
        if self.operand.k_major:
            return ""
        same = self.operand.dtype == self.dtype
        return "dma" if same and dtypes.itemsize(self.dtype) == 2 else "tensor"

    def transposer(self, limits: CoreLimits) -> str:
        """As `turned_by`, on a chip that may lack DMA transposes."""
        return (
            "tensor" if self.turned_by == "dma" and not limits.has_dma_transpose else self.turned_by
        )


def emit_panel_buffers(writer: Writer, panel: Panel) -> None:
    """Write the allocation of a panel's buffers."""
    shape = tuple_text(panel.depth.tile, panel.num_chunks, panel.num_slabs, panel.chunk)
    allocation = f"nl.ndarray({shape}, nl.{panel.dtype}, buffer=nl.sbuf)"
    writer.line(f"# {panel.name}[k, chunk, slab, column]: slabs of {panel.depth.tile} along K,")
    if panel.buffers == 1:
        writer.line(f"# chunks of {panel.chunk} columns.")
        writer.line(f"{panel.name} = {allocation}")
        return
    writer.line(f"# chunks of {panel.chunk} columns. There are two, so that the next block is")
    writer.line("# loaded while this one is multiplied.")
    writer.line(f"{panel.name}s = []")
    writer.line(f"for _ in range({panel.buffers}):")
    with writer.indent():
        writer.line(f"{panel.name}s.append({allocation})")


def emit_load(writer: Writer, panel: Panel, limits: CoreLimits, block: str, slab: str) -> None:
    """Write the loads of one block.

    block: text of its first chunk's number; slab: text of its first slab's number.
    """
    with loop(writer, "c", panel.num_chunks) as chunk:
        start = times(plus(block, chunk), panel.chunk)
        if " + " in start:
            writer.line(f"start = {start}")
            start = "start"
        columns: int | str = min(panel.chunk, panel.columns)
        if not panel.even and panel.columns > panel.chunk:
            writer.line(f"columns = min({panel.chunk}, {panel.columns} - {inner(start)})")
            columns = "columns"
        load = _Load(writer, panel, limits, chunk, start, columns, slab)
        match panel.transposer(limits):
            case "":
                load.as_it_lies()
            case "dma":
                load.by_dma_transpose()
            case _:
                load.by_tensor_transpose()


@dataclass(frozen=True, slots=True)
class _Load:
    """One chunk on its way: its number, first column, columns and first slab, as text."""

    writer: Writer
    panel: Panel
    limits: CoreLimits
    chunk: str
    start: str
    columns: int | str
    slab: str

    def _depth(self, k: str) -> int | str:
        """Partitions of slab k of this block; writes the line that finds a shorter last one."""
        depth = self.panel.depth
        if not depth.ragged:
            return depth.tile
        start = self._k(k)
        self.writer.line(f"depth = min({depth.tile}, {depth.total} - {inner(start)})")
        return "depth"

    def _source(self, start: str, rows: int | str, k_start: str, deep: int | str) -> str:
        """Text of a window of the operand in HBM: F from `start`, K from `k_start`."""
        panel = self.panel
        f, k = window(start, rows, panel.columns), window(k_start, deep, panel.depth.total)
        order = (k, f) if panel.operand.k_major else (f, k)
        whole = order == (":", ":") and not panel.operand.batched
        return panel.operand.name if whole else panel.operand.view(*order)

    def _k(self, k: str) -> str:
        """Text of the first K index of slab k of this block."""
        return times(plus(self.slab, k), self.panel.depth.tile)

    def as_it_lies(self) -> None:
        """One DMA for all slabs; one each where the last slab is shorter."""
        panel, depth = self.panel, self.panel.depth
        into = window("0", self.columns, panel.chunk)
        if depth.ragged or panel.num_slabs == 1:
            with loop(self.writer, "k", panel.num_slabs) as k:
                deep = self._depth(k)
                source = self._source(self.start, self.columns, self._k(k), deep)
                target = f"{panel.name}[{window('0', deep, depth.tile)}, {self.chunk}, {k}, {into}]"
                call(self.writer, "nisa.dma_copy", f"dst={target}", f"src={source}")
            return
        total = panel.num_slabs * depth.tile
        source = self._source(self.start, self.columns, times(self.slab, depth.tile), total)
        shape = tuple_text(panel.num_slabs, depth.tile)
        source += f".reshape_dim(0, {shape}).permute((1, 0, 2))"
        target = f"{panel.name}[:, {self.chunk}, :, {into}]"
        call(self.writer, "nisa.dma_copy", f"dst={target}", f"src={source}")

    def by_dma_transpose(self) -> None:
        """One transposing DMA per slab."""
        panel, depth = self.panel, self.panel.depth
        into = window("0", self.columns, panel.chunk)
        with loop(self.writer, "k", panel.num_slabs) as k:
            deep = self._depth(k)
            source = self._source(self.start, self.columns, self._k(k), deep)
            target = f"{panel.name}[{window('0', deep, depth.tile)}, {self.chunk}, {k}, {into}]"
            call(self.writer, "nisa.dma_transpose", f"dst={target}", f"src={source}")

    def by_tensor_transpose(self) -> None:
        """Rows of F into a staging tile, then 128x128 transposes through PSUM.

        Several row tiles and slabs go through PSUM together, so that one copy takes them all.
        """
        panel, depth = self.panel, self.panel.depth
        item = dtypes.itemsize(panel.dtype)
        even = panel.columns % panel.row_tile == 0 and panel.chunk % panel.row_tile == 0
        fixed = isinstance(self.columns, int) and even
        in_chunk = self.columns // panel.row_tile if fixed and isinstance(self.columns, int) else 1
        row_bytes = panel.num_slabs * depth.tile * item
        tiles = largest_divisor(in_chunk, max(1, STAGE_BYTES // row_bytes))
        limit = max(1, STAGE_BYTES // (depth.tile * item)) if tiles == 1 else panel.num_slabs
        stages = -(-panel.num_slabs // (1 if depth.ragged else limit))
        slabs = -(-panel.num_slabs // stages)
        count: int | str = in_chunk // tiles
        if not fixed and isinstance(self.columns, int):
            count = -(-self.columns // panel.row_tile)
        elif not fixed:
            count = f"columns // {panel.row_tile}" if even else f"-(-columns // {panel.row_tile})"
        with loop(self.writer, "r", count) as r:
            rows: int | str = panel.row_tile
            if not even:
                left = f"{self.columns} - {times(r, panel.row_tile)}"
                self.writer.line(f"rows = min({panel.row_tile}, {left})")
                rows = "rows"
            with loop(self.writer, "s", stages) as s:
                first = times(s, slabs)
                staged: int | str = slabs
                if panel.num_slabs % slabs:
                    self.writer.line(f"slabs = min({slabs}, {panel.num_slabs} - {first})")
                    staged = "slabs"
                stage = _Stage(rows, tiles, times(r, tiles * panel.row_tile), first, staged, slabs)
                self._stage_and_turn(stage)

    def _stage_and_turn(self, stage: _Stage) -> None:
        """A staging tile [rows, tiles, slabs * depth] from HBM, and its transposes."""
        panel, depth, writer = self.panel, self.panel.depth, self.writer
        tiles, rows = stage.tiles, stage.rows
        deep = self._depth(stage.first_slab)
        width: int | str = deep
        if stage.slabs != 1:
            fixed = isinstance(stage.slabs, int)
            width = stage.most * depth.tile if fixed else f"slabs * {depth.tile}"
        height = rows if tiles == 1 else tiles * panel.row_tile
        f_start = plus(self.start, stage.within)
        source = self._source(f_start, height, self._k(stage.first_slab), width)
        shape = tuple_text(rows, tiles, width) if tiles > 1 else tuple_text(rows, width)
        allocate(writer, "stage", shape, panel.dtype, "sbuf")
        if tiles > 1:
            source += f".reshape_dim(0, ({tiles}, {panel.row_tile})).permute((1, 0, 2))"
        call(writer, "nisa.dma_copy", "dst=stage", f"src={source}")
        slot = power_of_two_at_least(panel.row_tile)
        slot_bytes = slot * dtypes.itemsize(panel.dtype)
        capacity = TURNED_BANKS * self.limits.psum_bank_bytes // slot_bytes
        most = min(stage.most, max(1, capacity // tiles))
        groups: int | str = -(-stage.most // most)
        if groups != 1 and not isinstance(stage.slabs, int):
            groups = f"-(-slabs // {most})"
        with loop(writer, "q", groups) as q:
            first = times(q, most)
            taken: int | str = most if groups != 1 else stage.slabs
            if groups != 1 and (stage.most % most or not isinstance(stage.slabs, int)):
                writer.line(f"taken = min({most}, {stage.slabs} - {first})")
                taken = "taken"
            shape = tuple_text(deep, most, tiles, slot)
            allocate(writer, "turned", shape, panel.dtype, "psum")
            kept = window("0", rows, slot)
            with loop(writer, "k", taken) as k, loop(writer, "t", tiles) as t:
                columns = window(times(plus(first, k), depth.tile), deep, width)
                data = f"stage[:, {t}, {columns}]" if tiles > 1 else f"stage[:, {columns}]"
                target = f"turned[:, {k}, {t}, {kept}]"
                call(writer, "nisa.nc_transpose", f"dst={target}", f"data={data}")
            self._copy_turned(stage, plus(stage.first_slab, first), taken, most)

    def _copy_turned(self, stage: _Stage, slab: str, taken: int | str, most: int) -> None:
        """One copy from PSUM takes `taken` slabs of the stage's row tiles into the panel."""
        panel, depth, tiles = self.panel, self.panel.depth, stage.tiles
        slabs = slab if taken == 1 else window(slab, taken, panel.num_slabs)
        deep = "0:depth" if depth.ragged else ":"
        height = stage.rows if tiles == 1 else tiles * panel.row_tile
        columns = window(stage.within, height, panel.chunk)
        target = f"{panel.name}[{deep}, {self.chunk}, {slabs}, {columns}]"
        if tiles > 1:
            target += f".reshape_dim({1 if taken == 1 else 2}, ({tiles}, {panel.row_tile}))"
        kept = window("0", stage.rows, power_of_two_at_least(panel.row_tile))
        from_slabs = "0" if taken == 1 else window("0", taken, most)
        source = f"turned[:, {from_slabs}, {':' if tiles > 1 else '0'}, {kept}]"
        call(self.writer, "nisa.tensor_copy", f"dst={target}", f"src={source}")


@dataclass(frozen=True, slots=True)
class _Stage:
    """One staging tile: rows per row tile, row tiles, first F index in the chunk, slabs.

    slabs: as text where the last stage has fewer than `most`.
    """

    rows: int | str
    tiles: int
    within: str
    first_slab: str
    slabs: int | str
    most: int
