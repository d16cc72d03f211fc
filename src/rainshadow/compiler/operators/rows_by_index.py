"""Prints embedding lookups and their gradient.

A lookup picks rows by indirect DMA. The gradient adds rows that share an index: a product of a
one-hot matrix with the gradient rows, because indirect DMA can't add one row twice.
"""

from __future__ import annotations

from rainshadow.compiler.operators.tiling import CoreLimits, Writer


def emit_gather_rows(
    name: str, rows: int, columns: int, dtype: str, limits: CoreLimits, writer: Writer
) -> None:
    """Write `name(table, index, out)`: out[i] = table[index[i]], index int32 [rows, 1]."""
    step = limits.partitions
    writer.line(f"def {name}(table, index, out):")
    with writer.indent():
        writer.line(f'"""{rows} rows of {columns} {dtype} elements, picked by index."""')
        writer.line(f"for start in nl.affine_range(0, {rows}, {step}):")
        with writer.indent():
            writer.line(f"stop = min(start + {step}, {rows})")
            writer.line("picks = nl.ndarray((stop - start, 1), nl.int32, buffer=nl.sbuf)")
            writer.line("nisa.dma_copy(dst=picks, src=index[start:stop])")
            writer.line(
                f"picked = nl.ndarray((stop - start, {columns}), nl.{dtype}, buffer=nl.sbuf)"
            )
            writer.line("nisa.dma_copy(dst=picked, src=table.vector_select(0, picks))")
            writer.line("nisa.dma_copy(dst=out[start:stop], src=picked)")


def emit_scatter_add_rows(
    name: str, rows: int, columns: int, table_rows: int, dtype: str, padding: int,
    limits: CoreLimits, writer: Writer,
) -> None:  # fmt: skip
    """Write `name(grad, index, out)`: out[v] = sum of grad[i] where index[i] == v."""
    step, width = limits.partitions, limits.moving_max
    writer.line(f"def {name}(grad, index, out):")
    with writer.indent():
        writer.line(f'"""{rows} rows added into a table of {table_rows} rows by index."""')
        writer.line("# Column v of the one-hot matrix is 1 in the rows whose index is v.")
        writer.line(f"for first in nl.affine_range(0, {table_rows}, {step}):")
        with writer.indent():
            writer.line(f"last = min(first + {step}, {table_rows})")
            writer.line(f"classes = nl.ndarray(({step}, last - first), nl.float32, buffer=nl.sbuf)")
            writer.line("nisa.iota(dst=classes, pattern=[[1, last - first]], offset=first)")
            writer.line(f"for left in nl.affine_range(0, {columns}, {width}):")
            with writer.indent():
                writer.line(f"right = min(left + {width}, {columns})")
                writer.line(
                    "total = nl.ndarray((last - first, right - left), nl.float32, buffer=nl.psum)"
                )
                _emit_row_tiles(rows, step, dtype, writer)
                _emit_result(dtype, padding, writer)


def _emit_row_tiles(rows: int, step: int, dtype: str, writer: Writer) -> None:
    writer.line(f"for start in nl.affine_range(0, {rows}, {step}):")
    with writer.indent():
        writer.line(f"stop = min(start + {step}, {rows})")
        writer.line("picks = nl.ndarray((stop - start, 1), nl.int32, buffer=nl.sbuf)")
        writer.line("nisa.dma_copy(dst=picks, src=index[start:stop])")
        writer.line("position = nl.ndarray((stop - start, 1), nl.float32, buffer=nl.sbuf)")
        writer.line("nisa.tensor_copy(dst=position, src=picks)")
        writer.line(
            f"one_hot = nl.ndarray((stop - start, last - first), nl.{dtype}, buffer=nl.sbuf)"
        )
        writer.line(
            "nisa.tensor_scalar(dst=one_hot, data=classes[0:stop - start], op0=nl.equal, "
            "operand0=position)"
        )
        writer.line(f"rows = nl.ndarray((stop - start, right - left), nl.{dtype}, buffer=nl.sbuf)")
        writer.line("nisa.dma_copy(dst=rows, src=grad[start:stop, left:right])")
        writer.line(
            "nisa.nc_matmul(dst=total, stationary=one_hot, moving=rows, accumulate=start > 0)"
        )


def _emit_result(dtype: str, padding: int, writer: Writer) -> None:
    writer.line(f"summed = nl.ndarray((last - first, right - left), nl.{dtype}, buffer=nl.sbuf)")
    writer.line("nisa.tensor_copy(dst=summed, src=total)")
    if padding >= 0:
        writer.line(f"# Row {padding} is padding: it has no gradient.")
        writer.line(
            "nisa.affine_select(dst=summed, pattern=[[0, right - left]], channel_multiplier=1, "
            f"on_true_tile=summed, on_false_value=0.0, cmp_op=nl.not_equal, "
            f"offset=first - {padding})"
        )
    writer.line("nisa.dma_copy(dst=out[first:last, left:right], src=summed)")
