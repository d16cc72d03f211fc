"""Prints copies within HBM: a view laid out contiguously, or tensors one after another."""

from __future__ import annotations

from collections.abc import Sequence

from rainshadow.compiler.operators.tiling import Writer


def emit_copy(name: str, writer: Writer) -> None:
    """Write `name(x, out)`: out = x, element by element, by the DMA engines."""
    writer.line(f"def {name}(x, out):")
    with writer.indent():
        writer.line('"""The elements of a strided view, laid out one after another."""')
        writer.line("nisa.dma_copy(dst=out, src=x)")


def emit_cat(name: str, sizes: Sequence[int], dim: int, ndim: int, writer: Writer) -> None:
    """Write `name(x0, x1, ..., out)`: the inputs one after another along axis `dim`."""
    names = [f"x{index}" for index in range(len(sizes))]
    writer.line(f"def {name}({', '.join(names)}, out):")
    with writer.indent():
        writer.line(f'"""{len(sizes)} tensors one after another along axis {dim}."""')
        start = 0
        for part, size in zip(names, sizes, strict=True):
            window = [":"] * ndim
            window[dim] = f"{start}:{start + size}"
            writer.line(f"nisa.dma_copy(dst=out[{', '.join(window)}], src={part})")
            start += size
