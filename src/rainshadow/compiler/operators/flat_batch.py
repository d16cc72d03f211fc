"""Prints one elementwise function over many tensors at once, side by side in one SBUF buffer.

An optimizer step does the same to every parameter. Small parameters one by one would cost the
latency of every instruction again; here they are loaded into one flat [partitions, columns] tile,
each in its own columns, and every instruction works on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from rainshadow.compiler.graph import Tensor, View
from rainshadow.compiler.operators.elementwise import Tile
from rainshadow.compiler.operators.rowwise import (
    Parameter,
    RowPlan,
    RowwiseEmitter,
    full_tile_columns,
    tile_dtype,
)
from rainshadow.compiler.operators.tiling import CoreLimits, store, tuple_text
from rainshadow.compiler.region import Region

Members = tuple[View, ...]


class FlatBatchEmitter(RowwiseEmitter):
    """Prints a batch of regions that differ in their tensors only.

    members: flat regions whose sizes are multiples of the partitions. Values that hold for all
    (a learning rate) are theirs in common.
    """

    def __init__(self, members: Sequence[Region], limits: CoreLimits) -> None:
        super().__init__(members[0], limits)
        self.members = members
        self.widths = [flat_columns(member, limits) for member in members]
        self.plan = RowPlan(limits.partitions, 1, sum(self.widths), sum(self.widths))
        self.sources = [member.external_views for member in members]
        self.own_values: dict[View, list[int]] = {}
        self.arguments: list[View | Members] = []

    def emit(self, name: str) -> str:
        """Source of the function; `arguments` then holds its arguments, lists as tuples."""
        self._declare()
        self.arguments = [self._of_all_members(parameter) for parameter in self.parameters]
        writer = self.writer
        writer.line(f"def {name}({', '.join(p.name for p in self.parameters)}):")
        with writer.indent():
            self._docstring()
            starts = [sum(self.widths[:i]) for i in range(len(self.widths))]
            places = [f"nl.ds({s}, {w})" for s, w in zip(starts, self.widths, strict=True)]
            writer.line(f"places = {tuple_text(*places)}")
            self._load_shared()
            self._emit_prelude()
            writer.line(f"rows = {self.limits.partitions}")
            self._emit_nodes(self.region.nodes, "")
        return writer.text

    def _docstring(self) -> None:
        words = [str(node.attrs.get("fn", node.op)) for node in self.region.nodes]
        lines = [f"{source.text}  # line {source.line}" for source in self.region.sources[:4]]
        self.writer.line(
            f'"""{", ".join(dict.fromkeys(words))} over {len(self.members)} tensors, '
            f"{self.plan.columns} columns in all."
        )
        if lines:
            self.writer.line()
        for line in lines:
            self.writer.line(line.replace('"""', ""))
        self.writer.line('"""')

    def _kind_of_view(self, view: View) -> str:
        """As for one region; a single value that differs between members is spread to "full"."""
        if not is_one_value(view):
            return "full"
        index = self.sources[0].index(view)
        values = [views[index] for views in self.sources]
        if all((value.root, value.offset) == (view.root, view.offset) for value in values):
            return "one"
        self.own_values[view] = [value.offset for value in values]
        return "full"

    def _of_all_members(self, parameter: Parameter) -> View | Members:
        if parameter.kind != "full":
            return parameter.view
        inputs = self.sources[0]
        for view, declared in self.loads.items():
            if declared is parameter and view in self.own_values:
                return View(view.root, (view.root.size,), (1,), 0)
            if declared is parameter:
                index = inputs.index(view)
                return tuple(self._flat(views[index]) for views in self.sources)
        tensor = next(t for t, declared in self.stores.items() if declared is parameter)
        position = next(i for i, node in enumerate(self.region.nodes) if node.output is tensor)
        return tuple(self._flat(member.nodes[position].output.view()) for member in self.members)

    def _flat(self, view: View) -> View:
        width = view.size // self.limits.partitions
        return View(view.root, (self.limits.partitions, 1, width), (width, width, 1), view.offset)

    def _load(self, view: View, parameter: Parameter, window: str) -> None:
        name = self.names.fresh(f"{parameter.name}_tile")
        if view in self.own_values:
            self._spread(view, parameter, name)
            return
        tile = self._new_tile(name, tile_dtype(view.dtype))
        with self._for_each(parameter):
            self.writer.line(f"nisa.dma_copy(dst={name}[:, :, place], src=tensor)")
        self.tiles[view] = tile

    def _spread(self, view: View, parameter: Parameter, name: str) -> None:
        """Each member's own value, from a vector that holds them all, over its columns."""
        values = self.names.fresh(f"{parameter.name}_values")
        shape = f"({self.plan.rows}, {view.root.size})"
        dtype = tile_dtype(view.dtype)
        self.writer.line(f"{values} = nl.ndarray({shape}, nl.{dtype}, buffer=nl.sbuf)")
        self.writer.line(
            f"nisa.dma_copy(dst={values}, src={parameter.name}.expand_dim(0)"
            f".broadcast(0, {self.plan.rows}))"
        )
        self.tiles[view] = self._new_tile(name, dtype)
        offsets = tuple_text(*self.own_values[view])
        self.writer.line(f"for own, place in zip({offsets}, places):")
        with self.writer.indent():
            self.writer.line(f"value = {values}[:, own : own + 1].expand_dim(1)")
            self.writer.line(
                f"nisa.tensor_copy(dst={name}[:, :, place], src=value.broadcast(2, place.size))"
            )

    def _store(self, tensor: Tensor, tile: Tile, window: str) -> None:
        with self._for_each(self.stores[tensor]):
            store(self.writer, self.limits, "tensor", f"{tile.name}[:, :, place]")

    def _new_tile(self, name: str, dtype: str) -> Tile:
        shape = f"({self.plan.rows}, 1, {self.plan.columns})"
        self.writer.line(f"{name} = nl.ndarray({shape}, nl.{dtype}, buffer=nl.sbuf)")
        return Tile(name, "full", dtype)

    def _for_each(self, parameter: Parameter) -> AbstractContextManager[None]:
        self.writer.line(f"for tensor, place in zip({parameter.name}, places):")
        return self.writer.indent()


def is_one_value(view: View) -> bool:
    """Every element of the view is the same element of its tensor."""
    return all(
        stride == 0 or extent == 1 for stride, extent in zip(view.strides, view.shape, strict=True)
    )


def flat_columns(region: Region, limits: CoreLimits) -> int:
    """Columns that a flat region takes in a batch."""
    return region.rows * region.columns // limits.partitions


def batch_columns(region: Region, limits: CoreLimits) -> int:
    """Columns that a batch of such regions may have together.

    Half a full tile: the transfers of one batch can then run beside the work on another.
    """
    return full_tile_columns(region, limits) // 2
