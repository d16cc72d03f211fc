"""Parquet tables hold the timeline, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from rainshadow.report.tables import timeline_columns, write_parquet


def test_columns_have_one_entry_per_instruction(matmul):
    columns = timeline_columns(matmul)
    assert {len(column) for column in columns.values()} == {matmul.trace.num_rows}
    assert columns["flops"].sum() == matmul.trace.flops
    assert columns["added_ps"].sum() == matmul.duration_ps


def test_parquet_reads_back(matmul, tmp_path):
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "it's.parquet"
    write_parquet(matmul, path)
    quoted = str(path).replace("'", "''")
    rows = duckdb.sql(f"SELECT opcode, start_ps FROM '{quoted}'").fetchall()
    columns = timeline_columns(matmul)
    assert [row[0] for row in rows] == columns["opcode"].tolist()
    np.testing.assert_array_equal([row[1] for row in rows], matmul.start_ps)
