"""Builds a kernel from a graph: passes, regions, NKI source, and the kernel imported from it.

The product is a readable file of NKI: one function per region and one `@nki.jit` driver. It runs
through the same `rainshadow.nki` a user's kernel runs through.
"""

from __future__ import annotations

import importlib.util
import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rainshadow.compiler.graph import Graph
from rainshadow.compiler.operators.tiling import CoreLimits
from rainshadow.compiler.passes.batch_flat_regions import batch_flat_regions
from rainshadow.compiler.passes.drop_unused import drop_unused
from rainshadow.compiler.passes.fuse_regions import fuse_regions
from rainshadow.compiler.passes.lay_out_operands import lay_out_operands
from rainshadow.compiler.print_nki import print_module
from rainshadow.errors import InputError
from rainshadow.machine import Chip
from rainshadow.nki import Run, Shape, keep, record
from rainshadow.nki.install import nki_names
from rainshadow.sim.options import SimOptions
from rainshadow.sim.replay import Replay

Array = np.ndarray[Any, Any]

#: Graph -> graph, in this order; fusion and printing follow.
PASSES: tuple[Callable[[Graph], Graph], ...] = (drop_unused, lay_out_operands)

#: A kept instruction takes about 2 kB; longer kernels run their Python every time.
_MOST_KEPT = 100_000
_INT32 = np.iinfo(np.int32)
_NUMBER = itertools.count()


@dataclass(frozen=True, slots=True)
class CompiledKernel:
    """An imported kernel. source: its file's text; kernel: the `@nki.jit` function.

    output_shapes: of the HBM tensors it writes; the caller's arrays have the same elements.
    """

    name: str
    source: str
    path: Path
    kernel: Any
    output_shapes: tuple[tuple[int, ...], ...]
    _kept: _Kept = field(default_factory=lambda: _Kept(), repr=False, compare=False)

    def run(
        self,
        arrays: Sequence[Array | Shape],
        outs: Sequence[Array | Shape],
        *,
        chip: Chip,
        options: SimOptions,
    ) -> Run:
        """Execute once. arrays: the graph's inputs; outs: written with its outputs.

        The first launch runs the kernel's Python and records it, the second keeps its
        instructions, later ones on arrays of the same layout only execute these.
        Errors: `InputError` for 64-bit integers that do not fit the chip's 32 bits.
        """
        border = _Border()
        arguments = [border.incoming(value) for value in arrays]
        results = [
            border.outgoing(value, shape)
            for value, shape in zip(outs, self.output_shapes, strict=True)
        ]
        values = (*arguments, *results)
        if options.record or options.data == "none":
            run = record(self.kernel, values, chip=chip, options=options, keep_strides=True)
            # Its arrays are the caller's: they are not kept.
            self._kept.first = replace(run, outputs=None)
        else:
            run = self._again(values, chip, options)
        border.deliver()
        return Run(list(outs), run.trace)

    def _again(self, values: tuple[Array, ...], chip: Chip, options: SimOptions) -> Run:
        """A launch after the first: nothing is recorded."""
        kept = self._kept
        first = kept.first
        if first is None or first.trace.chip != chip.name or first.trace.num_rows > _MOST_KEPT:
            return record(self.kernel, values, chip=chip, options=options, keep_strides=True)
        layout = (options.exact, *((v.shape, v.strides, v.dtype) for v in values))
        if kept.replay is None or kept.layout != layout:
            kept.replay = keep(self.kernel, values, first, chip=chip, exact=options.exact)
            kept.layout = layout
        else:
            kept.replay.run(values)
        return first


@dataclass(slots=True)
class _Kept:
    """The recorded launch of a kernel, and its instructions for arrays of one layout."""

    first: Run | None = None
    replay: Replay | None = None
    layout: Any = None


@dataclass(slots=True)
class _Border:
    """Turns what torch holds into what the chip has: no 64-bit types, no 0 axes, bool as bytes."""

    late: list[tuple[Array, Array]] = field(default_factory=list)

    def incoming(self, value: Array | Shape) -> Array | Shape:
        if isinstance(value, Shape):
            return Shape(value.shape or (1,), _NARROW.get(value.dtype, value.dtype))
        value = value.reshape(1) if value.ndim == 0 else value
        if value.dtype == np.int64:
            if value.size and (value.min() < _INT32.min or value.max() > _INT32.max):
                raise InputError(
                    f"64-bit integers up to {value.max()} go to the chip",
                    allowed=f"{_INT32.min}..{_INT32.max}",
                )
            return value.astype(np.int32)
        if value.dtype == np.float64:
            return value.astype(np.float32)
        return value.view(np.uint8) if value.dtype == np.bool_ else value

    def outgoing(self, value: Array | Shape, shape: tuple[int, ...]) -> Array | Shape:
        """Where the kernel writes: the array itself, or a stand-in that `deliver` copies."""
        if isinstance(value, Shape):
            return Shape(shape, _NARROW.get(value.dtype, value.dtype))
        target = value.reshape(shape) if value.flags.c_contiguous else value
        narrow = {np.dtype(np.int64): np.int32, np.dtype(np.float64): np.float32}.get(target.dtype)
        if narrow is None and target.flags.c_contiguous:
            return target.view(np.uint8) if target.dtype == np.bool_ else target
        dtype = narrow or (np.uint8 if target.dtype == np.bool_ else target.dtype)
        stand_in = np.empty(shape, dtype)
        self.late.append((target, stand_in.reshape(target.shape)))
        return stand_in

    def deliver(self) -> None:
        for target, stand_in in self.late:
            target[...] = stand_in


_NARROW = {"int64": "int32", "float64": "float32", "bool_": "uint8"}


def compile_graph(graph: Graph, chip: Chip, folder: Path | None = None) -> CompiledKernel:
    """Lower, print and import a graph. folder: where the source is kept; default temporary."""
    for apply in PASSES:
        graph = apply(graph)
        graph.verify()
    limits = CoreLimits.of(chip)
    regions = batch_flat_regions(fuse_regions(graph), limits)
    source = print_module(graph, regions, limits)
    target = folder or _temporary_folder()
    target.mkdir(parents=True, exist_ok=True)
    path = target / f"{graph.name}.py"
    number = 2
    while path.exists() and path.read_text("utf-8") != source:
        path = target / f"{graph.name}_{number}.py"
        number += 1
    path.write_text(source, "utf-8")
    shapes = tuple(view.root.shape or (1,) for view in graph.outputs)
    return CompiledKernel(graph.name, source, path, _import_kernel(path, graph.name), shapes)


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []


def _temporary_folder() -> Path:
    """One folder for this process, removed at its end."""
    if not _FOLDERS:
        _FOLDERS.append(tempfile.TemporaryDirectory(prefix="rainshadow-kernels-"))
    return Path(_FOLDERS[0].name)


def _import_kernel(path: Path, name: str) -> Any:
    """The driver of an emitted file, imported as any user's module is."""
    spec = importlib.util.spec_from_file_location(f"rainshadow_kernel_{next(_NUMBER)}", path)
    assert spec is not None and spec.loader is not None, "a file we have just written"
    module = importlib.util.module_from_spec(spec)
    with nki_names():
        spec.loader.exec_module(module)
    return getattr(module, name)
