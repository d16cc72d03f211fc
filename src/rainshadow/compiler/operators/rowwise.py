"""Prints a region of elementwise functions and reductions as one NKI function.

Rows lie on partitions, `group` consecutive rows in each, and columns on the free axis. Where a
whole row does not fit into SBUF the columns are cut into chunks: one pass over the chunks for
each level of reductions, then one for the results.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rainshadow import dtypes
from rainshadow.compiler.graph import Node, Tensor, View
from rainshadow.compiler.operators.elementwise import MapEmitter, Source, Tile
from rainshadow.compiler.operators.tiling import CoreLimits, largest_divisor, store
from rainshadow.compiler.region import Region
from rainshadow.compiler.source_writer import Names, SourceWriter

#: Free elements of a tile beyond which instructions gain nothing from being longer.
_FULL_TILE = 2048
#: PSUM banks that column sums may occupy; the others take the sum over partitions.
_SUM_BANKS = 6
#: Parameter names by kind of input.
_INPUT_NAMES = {"full": "x", "vector": "row", "column": "column", "one": "scalar"}
_START = {"add": "0.0", "maximum": "-3.4e38", "minimum": "3.4e38"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """An HBM argument. kind: as Tile's; view: what the driver passes."""

    name: str
    kind: str
    view: View


@dataclass(frozen=True, slots=True)
class RowPlan:
    """partition_rows x group = rows; chunk: columns at a time."""

    rows: int
    group: int
    columns: int
    chunk: int

    @property
    def partition_rows(self) -> int:
        return self.rows // self.group

    @property
    def chunked(self) -> bool:
        return self.chunk < self.columns


class RowwiseEmitter:
    """Prints one region. `parameters` is filled by `emit`, in the function's argument order."""

    def __init__(self, region: Region, limits: CoreLimits) -> None:
        self.region = region
        self.limits = limits
        nodes = [*region.prelude, *region.nodes]
        self.made = {tensor for node in nodes for tensor in node.outputs}
        self.kinds = _kinds(region)
        self.plan = _plan(region, limits)
        self.names = Names(frozenset({"rows", "start", "stop", "first", "last", "nl", "nisa"}))
        self.writer = SourceWriter()
        self.parameters: list[Parameter] = []
        self.loads: dict[View, Parameter] = {}
        self.stores: dict[Tensor, Parameter] = {}
        self.tiles: dict[Tensor | View, Tile] = {}
        self.sums: dict[Tensor, str] = {}
        self.label: dict[Tensor, str] = {}
        self.loaded: dict[View, str] = {}

    # -- parameters ----------------------------------------------------------------------------

    def _declare(self) -> None:
        # Names tell what a value is here, not where it comes from: equal functions print equal.
        for view in self.region.external_views:
            kind = self._kind_of_view(view)
            self.loads[view] = self._parameter(_INPUT_NAMES[kind], kind, view)
        for node in [*self.region.prelude, *self.region.nodes]:
            word = str(node.attrs.get("fn", node.op))
            if node.output in self.region.outputs:
                kind = self.kinds[node.output]
                self.stores[node.output] = self._parameter(f"{word}_out", kind, node.output.view())
            self.label[node.output] = self.names.fresh(word)

    def _parameter(self, name: str, kind: str, view: View) -> Parameter:
        parameter = Parameter(self.names.fresh(name), kind, self._arranged(kind, view))
        self.parameters.append(parameter)
        return parameter

    def _kind_of_view(self, view: View) -> str:
        plan = self.plan
        if view.size == 1:
            return "one"
        if view.size == plan.rows and plan.columns > 1:
            strides = view.as_rows(plan.rows, 1)
            return "column" if strides and strides[0] else "one"
        row, column = view.as_rows(self.region.rows, self.region.columns) or (0, 0)
        if row and (column or self.region.columns == 1):
            return "full"
        if column:
            return "vector" if self.region.rows > 1 else "full"
        return "column" if row else "one"

    def _arranged(self, kind: str, view: View) -> View:
        """The view in the function's own axes: [rows / group, group, columns] and so on."""
        plan, root = self.plan, view.root
        if kind == "out" or kind == "one":
            count = view.size if kind == "out" else 1
            return View(root, (count,), (1,), view.offset)
        matrix = view.as_rows(self.region.rows, self.region.columns)
        if kind == "full" and (plan.rows, plan.columns) != (self.region.rows, self.region.columns):
            # A flat region: the view is contiguous and is cut anew.
            matrix = (plan.columns, 1)
        if kind == "column":
            per_row = view.as_rows(plan.rows, 1) if view.size == plan.rows else matrix
            row = per_row[0] if per_row else 1
            shape: tuple[int, ...] = (plan.partition_rows, plan.group)
            return View(root, shape, (row * plan.group, row), view.offset)
        row, column = matrix or (0, 0)
        if kind == "vector":
            return View(root, (plan.columns,), (column,), view.offset)
        shape = (plan.partition_rows, plan.group, plan.columns)
        return View(root, shape, (row * plan.group, row, column or 1), view.offset)

    # -- the function --------------------------------------------------------------------------

    def emit(self, name: str) -> str:
        """Source of the function; `parameters` then holds its arguments."""
        self._declare()
        writer = self.writer
        writer.line(f"def {name}({', '.join(p.name for p in self.parameters)}):")
        with writer.indent():
            self._docstring()
            self._load_shared()
            self._emit_prelude()
            self._start_sums()
            step = self.limits.partitions
            writer.line(f"for start in nl.affine_range(0, {self.plan.partition_rows}, {step}):")
            with writer.indent():
                writer.line(f"stop = min(start + {step}, {self.plan.partition_rows})")
                writer.line("rows = stop - start")
                self._body()
            self._finish_sums()
        return writer.text

    def _docstring(self) -> None:
        words = [str(node.attrs.get("fn", node.op)) for node in self.region.nodes]
        self.writer.line(f'"""{", ".join(dict.fromkeys(words))} over {self.region.rows} rows of '
                         f"{self.region.columns}.")  # fmt: skip
        if self.region.sources:
            self.writer.line()
            for source in self.region.sources[:4]:
                self.writer.line(f"{source.text.replace(chr(34) * 3, '')}  # line {source.line}")
        self.writer.line('"""')

    def _load_shared(self) -> None:
        """Row vectors and single values are loaded once, into every partition."""
        partitions = self.limits.partitions
        for view, parameter in self.loads.items():
            if parameter.kind not in ("vector", "one") or self._late(parameter):
                continue
            width = self.plan.columns if parameter.kind == "vector" else 1
            tile = self.names.fresh(f"{parameter.name}_tile")
            dtype = tile_dtype(view.dtype)
            self.writer.line(
                f"{tile} = nl.ndarray(({partitions}, {width}), nl.{dtype}, buffer=nl.sbuf)"
            )
            self.writer.line(
                f"nisa.dma_copy(dst={tile}, src={parameter.name}.expand_dim(0)"
                f".broadcast(0, {partitions}))"
            )
            dtype = self._widen_scalar(tile, parameter, dtype)
            self.tiles[view] = Tile(tile, parameter.kind, dtype)

    def _emit_prelude(self) -> None:
        """Single values that are computed, in every partition alike."""
        emitter = MapEmitter(self.writer, 1, "1", str(self.limits.partitions))
        for node in self.region.prelude:
            operands = [self._operand(operand, "") for operand in node.inputs]
            tile = emitter.allocate(self.label[node.output], "one", tile_dtype(node.output.dtype))
            self.tiles[node.output] = tile
            emitter.emit(node.attrs["fn"], tile, operands)

    def _widen_scalar(self, tile: str, parameter: Parameter, dtype: str) -> str:
        """Scalar operands are float32: a single value of another dtype is cast once."""
        if parameter.kind != "one" or dtype == "float32":
            return dtype
        self.writer.line(
            f"{tile}_f32 = nl.ndarray(({self.limits.partitions}, 1), nl.float32, buffer=nl.sbuf)"
        )
        self.writer.line(f"nisa.tensor_copy(dst={tile}_f32, src={tile})")
        self.writer.line(f"{tile} = {tile}_f32")
        return "float32"

    def _late(self, parameter: Parameter) -> bool:
        """Vectors of a chunked region are loaded chunk by chunk."""
        return parameter.kind == "vector" and self.plan.chunked

    # -- loop body -----------------------------------------------------------------------------

    def _body(self) -> None:
        for view, parameter in self.loads.items():
            if parameter.kind == "column":
                self._load(view, parameter, "")
        if not self.plan.chunked:
            self._emit_nodes(self.region.nodes, "")
            return
        self._start_running()
        levels = _levels(self.region.nodes, self.kinds)
        reductions = [n for n in self.region.nodes if n.op == "reduce"]
        row_reductions = [n for n in reductions if n.attrs["kind"] == "row"]
        for level in sorted({levels[n.output] for n in row_reductions}):
            wanted = [n for n in row_reductions if levels[n.output] == level]
            self._pass(_needed(wanted, self.region.nodes, self.kinds))
            self._emit_nodes(_column_maps(self.region.nodes, self.kinds, levels, level), "")
        results = [n for n in self.region.nodes if n.output in self.stores or n in reductions]
        finals = [
            n for n in results if n not in row_reductions and self.kinds[n.output] != "column"
        ]
        self._pass(_needed(finals, self.region.nodes, self.kinds))
        self._store_columns()

    def _pass(self, nodes: Sequence[Node]) -> None:
        """One loop over the column chunks that computes `nodes`."""
        if not nodes:
            return
        self.writer.line(
            f"for first in nl.affine_range(0, {self.plan.columns}, {self.plan.chunk}):"
        )
        with self.writer.indent():
            self.writer.line(f"last = min(first + {self.plan.chunk}, {self.plan.columns})")
            self.tiles = {
                key: tile for key, tile in self.tiles.items() if tile.kind in ("column", "one")
            }
            self._emit_nodes(nodes, "first:last")

    def _emit_nodes(self, nodes: Iterable[Node], window: str) -> None:
        width = "last - first" if window else str(self.plan.columns)
        emitter = MapEmitter(self.writer, self.plan.group, width)
        for node in nodes:
            operands = [self._operand(operand, window) for operand in node.inputs]
            if node.op == "reduce":
                data = emitter.as_full(operands[0], f"{self.label[node.output]}_data")
                self._reduce(node, data, emitter, window)
                continue
            tensor = node.output
            tile = emitter.allocate(
                self.label[tensor], self.kinds[tensor], tile_dtype(tensor.dtype)
            )
            self.tiles[tensor] = tile
            if node.op == "iota":
                self._iota(tile, width, window)
            else:
                emitter.emit(node.attrs["fn"], tile, operands)
            if tensor in self.stores and not (self.plan.chunked and tile.kind == "column"):
                self._store(tensor, tile, window)

    def _operand(self, operand: View | float | int, window: str) -> Source:
        if not isinstance(operand, View):
            return operand
        if operand.root in self.made:
            return self.tiles[operand.root]
        if operand not in self.tiles:
            self._load(operand, self.loads[operand], window)
        return self.tiles[operand]

    def _load(self, view: View, parameter: Parameter, window: str) -> None:
        if view not in self.loaded:
            self.loaded[view] = self.names.fresh(f"{parameter.name}_tile")
        name = self.loaded[view]
        dtype = tile_dtype(view.dtype)
        width = "last - first" if window else str(self.plan.columns)
        columns = window or ":"
        if parameter.kind == "vector":
            shape = f"({self.limits.partitions}, {width})"
            source = (
                f"{parameter.name}[{columns}].expand_dim(0).broadcast(0, {self.limits.partitions})"
            )
        elif parameter.kind == "column":
            shape, source = f"(rows, {self.plan.group})", f"{parameter.name}[start:stop]"
        else:
            shape = f"(rows, {self.plan.group}, {width})"
            source = f"{parameter.name}[start:stop{', :, ' + window if window else ''}]"
        self.writer.line(f"{name} = nl.ndarray({shape}, nl.{dtype}, buffer=nl.sbuf)")
        self.writer.line(f"nisa.dma_copy(dst={name}, src={source})")
        if parameter.kind == "column" and dtype != "float32":
            self.writer.line(f"{name}_f32 = nl.ndarray({shape}, nl.float32, buffer=nl.sbuf)")
            self.writer.line(f"nisa.tensor_copy(dst={name}_f32, src={name})")
            self.tiles[view] = Tile(f"{name}_f32", "column", "float32")
        else:
            self.tiles[view] = Tile(name, parameter.kind, dtype)

    def _store(self, tensor: Tensor, tile: Tile, window: str) -> None:
        target = self.stores[tensor].name
        columns = f", :, {window}" if window and tile.kind == "full" else ""
        store(self.writer, self.limits, f"{target}[start:stop{columns}]", tile.name)

    def _store_columns(self) -> None:
        for tensor in self.stores:
            if self.kinds[tensor] == "column":
                self._store(tensor, self.tiles[tensor], "")

    def _iota(self, tile: Tile, width: str, window: str) -> None:
        offset = ", offset=first" if window else ""
        pattern = f"[[0, {self.plan.group}], [1, {width}]]"
        self.writer.line(f"nisa.iota(dst={tile.name}, pattern={pattern}{offset})")

    # -- reductions ----------------------------------------------------------------------------

    def _reduce(self, node: Node, data: Tile, emitter: MapEmitter, window: str) -> None:
        match node.attrs["kind"]:
            case "row":
                self._reduce_row(node, data, emitter, window)
            case "column":
                self._reduce_column(node, data, window)
            case _:
                self._reduce_all(node, data)

    def _reduce_row(self, node: Node, data: Tile, emitter: MapEmitter, window: str) -> None:
        name, fn = self.label[node.output], node.attrs["fn"]
        if not window:
            tile = emitter.allocate(name, "column", tile_dtype(node.output.dtype))
            self._tensor_reduce(tile.name, fn, data, "(2,)")
            self.tiles[node.output] = tile
            if node.output in self.stores:
                self._store(node.output, tile, "")
            return
        part = emitter.allocate(f"{name}_part", "column", "float32")
        self._tensor_reduce(part.name, fn, data, "(2,)")
        self.writer.line(
            f"nisa.tensor_tensor(dst={name}, data1={name}, data2={part.name}, op=nl.{fn})"
        )

    def _tensor_reduce(self, dst: str, fn: str, data: Tile, axis: str) -> None:
        self.writer.line(
            f"nisa.tensor_reduce(dst={dst}, op=nl.{fn}, data={data.name}, axis={axis})"
        )

    def _start_running(self) -> None:
        """Row reductions of a chunked region run over its chunks."""
        for node in self.region.nodes:
            if node.op == "reduce" and node.attrs["kind"] == "row":
                name = self.label[node.output]
                shape = f"(rows, {self.plan.group})"
                self.writer.line(f"{name} = nl.ndarray({shape}, nl.float32, buffer=nl.sbuf)")
                self.writer.line(f"nisa.memset(dst={name}, value={_START[node.attrs['fn']]})")
                self.tiles[node.output] = Tile(name, "column", "float32")

    def _start_sums(self) -> None:
        """Sums over rows are products with ones, accumulated in SBUF over the row tiles."""
        sums = [n for n in self.region.nodes if n.op == "reduce" and n.attrs["kind"] != "row"]
        if not sums:
            return
        partitions = self.limits.partitions
        for dtype in dict.fromkeys(tile_dtype(n.views[0].dtype) for n in sums):
            ones = f"ones_{dtype}"
            self.writer.line(f"{ones} = nl.ndarray(({partitions}, 1), nl.{dtype}, buffer=nl.sbuf)")
            self.writer.line(f"nisa.memset(dst={ones}, value=1.0)")
        for node in sums:
            name = self.names.fresh(f"{self.stores[node.output].name}_sum")
            self.sums[node.output] = name
            full = node.attrs["kind"] == "all"
            shape = f"({partitions}, 1)" if full else f"(1, {self.plan.columns})"
            self.writer.line(f"{name} = nl.ndarray({shape}, nl.float32, buffer=nl.sbuf)")
            self.writer.line(f"nisa.memset(dst={name}, value={_START[node.attrs['fn']]})")

    def _reduce_column(self, node: Node, data: Tile, window: str) -> None:
        total, width = self.sums[node.output], self.limits.moving_max
        first, last = window.split(":") if window else ("0", str(self.plan.columns))
        ones = f"ones_{data.dtype}[0:rows]"
        self.writer.line(f"for left in nl.affine_range({first}, {last}, {width}):")
        with self.writer.indent():
            self.writer.line(f"right = min(left + {width}, {last})")
            part = f"{total}_part"
            self.writer.line(f"{part} = nl.ndarray((1, right - left), nl.float32, buffer=nl.psum)")
            inside = f"left - {first}:right - {first}" if window else "left:right"
            with _loop_rows(self.writer, self.plan.group) as row:
                self.writer.line(
                    f"nisa.nc_matmul(dst={part}, stationary={ones}, "
                    f"moving={data.name}[:, {row}, {inside}]"
                    + (f", accumulate={row} > 0)" if row != "0" else ", accumulate=False)")
                )
            self.writer.line(
                f"nisa.tensor_tensor(dst={total}[:, left:right], data1={total}[:, left:right], "
                f"data2={part}, op=nl.add)"
            )

    def _reduce_all(self, node: Node, data: Tile) -> None:
        total, fn = self.sums[node.output], node.attrs["fn"]
        part = self.names.fresh(f"{total}_part")
        self.writer.line(f"{part} = nl.ndarray((rows, 1), nl.float32, buffer=nl.sbuf)")
        self._tensor_reduce(part, fn, data, "(1, 2)")
        self.writer.line(
            f"nisa.tensor_tensor(dst={total}[0:rows], data1={total}[0:rows], data2={part}, "
            f"op=nl.{fn})"
        )

    def _finish_sums(self) -> None:
        for tensor, total in self.sums.items():
            node = next(n for n in self.region.nodes if tensor in n.outputs)
            if node.attrs["kind"] == "all":
                self._across_partitions(total, node.attrs["fn"])
            dtype = tile_dtype(tensor.dtype)
            source = f"{total}_all" if node.attrs["kind"] == "all" else total
            if dtype != "float32":
                width = 1 if node.attrs["kind"] == "all" else self.plan.columns
                self.writer.line(
                    f"{total}_cast = nl.ndarray((1, {width}), nl.{dtype}, buffer=nl.sbuf)"
                )
                self.writer.line(f"nisa.tensor_copy(dst={total}_cast, src={source})")
                source = f"{total}_cast"
            store(self.writer, self.limits, f"{self.stores[tensor].name}.expand_dim(0)", source)

    def _across_partitions(self, total: str, fn: str) -> None:
        """[128, 1] to [1, 1]: a product with ones, or a transpose and a reduction."""
        partitions, writer = self.limits.partitions, self.writer
        writer.line(f"{total}_all = nl.ndarray((1, 1), nl.float32, buffer=nl.sbuf)")
        if fn == "add":
            writer.line(f"{total}_psum = nl.ndarray((1, 1), nl.float32, buffer=nl.psum)")
            writer.line(f"{total}_ones = nl.ndarray(({partitions}, 1), nl.float32, buffer=nl.sbuf)")
            writer.line(f"nisa.memset(dst={total}_ones, value=1.0)")
            writer.line(
                f"nisa.nc_matmul(dst={total}_psum, stationary={total}_ones, moving={total}, "
                "accumulate=False)"
            )
            writer.line(f"nisa.tensor_copy(dst={total}_all, src={total}_psum)")
            return
        writer.line(f"{total}_row = nl.ndarray((1, {partitions}), nl.float32, buffer=nl.psum)")
        writer.line(f"nisa.nc_transpose(dst={total}_row, data={total})")
        writer.line(f"nisa.tensor_reduce(dst={total}_all, op=nl.{fn}, data={total}_row, axis=(1,))")


class _loop_rows:  # noqa: N801 - a context manager reads as a verb
    """`for row in range(group):`, or no loop for a single row."""

    def __init__(self, writer: SourceWriter, group: int) -> None:
        self.writer, self.group = writer, group
        self.indent = writer.indent()

    def __enter__(self) -> str:
        if self.group == 1:
            return "0"
        self.writer.line(f"for row in nl.affine_range({self.group}):")
        self.indent.__enter__()
        return "row"

    def __exit__(self, *error: object) -> None:
        if self.group > 1:
            self.indent.__exit__(None, None, None)


def tile_dtype(dtype: str) -> str:
    """How a tensor's elements lie in SBUF: booleans as bytes."""
    return "uint8" if dtype == "bool_" else dtype


def _kinds(region: Region) -> dict[Tensor, str]:
    """Where each tensor of the region lies: full, column or out (sums that leave at the end)."""
    kinds: dict[Tensor, str] = {node.output: "one" for node in region.prelude}
    for node in region.nodes:
        if node.op == "reduce":
            kinds[node.output] = "column" if node.attrs["kind"] == "row" else "out"
        else:
            full = node.output.size == region.rows * region.columns
            kinds[node.output] = "full" if full else "column"
    return kinds


def _levels(nodes: Sequence[Node], kinds: dict[Tensor, str]) -> dict[Tensor, int]:
    """How many row reductions lie one behind the other before a tensor."""
    levels: dict[Tensor, int] = {}
    for node in nodes:
        below = [levels[v.root] for v in node.views if v.root in levels]
        is_row = node.op == "reduce" and node.attrs["kind"] == "row"
        levels[node.output] = max(below, default=0) + is_row
    return levels


def _needed(wanted: Sequence[Node], nodes: Sequence[Node], kinds: dict[Tensor, str]) -> list[Node]:
    """`wanted` and the full-tile nodes they are computed from, in order."""
    needed = set(wanted)
    tensors = {view.root for node in wanted for view in node.views}
    for node in reversed(nodes):
        if node.output in tensors and kinds[node.output] == "full" and node not in needed:
            needed.add(node)
        if node in needed:
            tensors.update(view.root for view in node.views)
    return [node for node in nodes if node in needed]


def _column_maps(
    nodes: Sequence[Node], kinds: dict[Tensor, str], levels: dict[Tensor, int], level: int
) -> list[Node]:
    """Maps of one value per row that become computable with this level's reductions."""
    return [
        node
        for node in nodes
        if node.op != "reduce" and kinds[node.output] == "column" and levels[node.output] == level
    ]


def is_flat(region: Region) -> bool:
    """No row structure: every operand is a whole contiguous tensor or one number for all."""
    kinds = _kinds(region)
    for node in region.nodes:
        if node.op == "iota" or (node.op == "reduce" and node.attrs["kind"] != "all"):
            return False
        for view in node.views:
            whole = view.is_contiguous and view.size == region.rows * region.columns
            strides = view.as_rows(region.rows, region.columns)
            if view.root not in kinds and not whole and strides != (0, 0):
                return False
    return all(kind != "column" for kind in kinds.values())


def _live_bytes(region: Region, kinds: dict[Tensor, str]) -> int:
    """Bytes per column of the full tiles that live at once, at most."""
    last_use: dict[Tensor | View, int] = {}
    for position, node in enumerate(region.nodes):
        for view in node.views:
            last_use[view.root if view.root in kinds else view] = position
    live, peak, alive = 0, 0, set()
    for position, node in enumerate(region.nodes):
        arriving = [v for v in node.views if v.root not in kinds and v not in alive]
        alive.update(arriving)
        live += sum(dtypes.itemsize(v.dtype) for v in arriving)
        if kinds[node.output] == "full":
            # A `where` may need a second tile for its cast.
            live += 2 * dtypes.itemsize(node.output.dtype)
        peak = max(peak, live)
        for view in node.views:
            key = view.root if view.root in kinds else view
            if last_use[key] == position and (key not in kinds or kinds[key] == "full"):  # type: ignore[index]
                factor = 2 if key in kinds else 1
                live -= factor * dtypes.itemsize(view.dtype)
                last_use[key] = -1
    return max(peak, 4)


def _fitting_columns(region: Region, limits: CoreLimits) -> int:
    """Columns of which two loop iterations fit into SBUF."""
    return limits.sbuf_bytes // (2 * _live_bytes(region, _kinds(region)))


def full_tile_columns(region: Region, limits: CoreLimits) -> int:
    """Columns of a tile of the region beyond which nothing is gained, or does not fit."""
    return max(1, min(_fitting_columns(region, limits), _FULL_TILE))


def _plan(region: Region, limits: CoreLimits) -> RowPlan:
    rows, columns = region.rows, region.columns
    fits, most = _fitting_columns(region, limits), full_tile_columns(region, limits)
    if is_flat(region):
        total = rows * columns
        even = max(1, -(-total // limits.partitions))
        columns = largest_divisor(total, min(most, even))
        rows = total // columns
    if columns > fits:
        return RowPlan(rows, 1, columns, most)
    wanted = max(1, min(most // columns, rows // limits.partitions))
    return RowPlan(rows, largest_divisor(rows, wanted), columns, columns)
