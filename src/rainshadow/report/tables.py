"""Timelines as Parquet, one row per instruction, for whatever reads tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rainshadow.errors import InputError
from rainshadow.sim.timeline import Timeline


def timeline_columns(timeline: Timeline) -> dict[str, Any]:
    """Column name -> array with one entry per row, in program order. Times in picoseconds."""
    trace = timeline.trace
    signatures, lines = trace.signatures, trace.lines

    def of_signature(values: list[Any]) -> Any:
        return np.array(values)[trace.signature]

    def of_line(values: list[Any]) -> Any:
        return np.array(values)[trace.line]

    return {
        "opcode": of_signature([signature.opcode for signature in signatures]),
        "track": np.array(timeline.tracks)[timeline.track],
        "start_ps": timeline.start_ps,
        "end_ps": timeline.end_ps,
        "busy_ps": timeline.busy_ps,
        "wait_ps": timeline.wait_ps,
        "cause": np.array(timeline.causes)[timeline.cause],
        "added_ps": timeline.added_ps,
        "partitions": of_signature([signature.partitions for signature in signatures]),
        "elements": of_signature([signature.elements for signature in signatures]),
        "flops": of_signature([signature.flops for signature in signatures]),
        "function": of_line([line.function for line in lines]),
        "file": of_line([line.source.file for line in lines]),
        "line": of_line([line.source.line for line in lines]),
    }


def write_parquet(timeline: Timeline, path: Path) -> None:
    """Errors: as `write_table`."""
    write_table(timeline_columns(timeline), path)


def write_table(columns: Mapping[str, Any], path: Path) -> None:
    """Columns of equal length, NumPy arrays, as one Parquet file.

    Errors: `InputError` where the extra [tables] is not installed.
    """
    try:
        import duckdb
    except ImportError:
        raise InputError("Parquet needs duckdb", fix="pip install 'rainshadow[tables]'") from None
    with duckdb.connect() as connection:
        connection.register("columns", dict(columns))
        target = str(path).replace("'", "''")
        connection.execute(f"COPY columns TO '{target}' (FORMAT parquet)")
