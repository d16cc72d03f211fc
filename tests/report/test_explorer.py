"""The tables of Neuron Explorer: AWS's names, types and units; sums that agree with the profile."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from rainshadow.machine import load_chip
from rainshadow.report.explorer import explorer_tables, schema, write_explorer_tables
from rainshadow.report.profile import summarize_profile

CHIP = load_chip("trainium2")
REFERENCE = "tools/neuron-explorer/profile-schema-reference.rst"


def test_every_column_is_there_with_its_type(matmul):
    tables = explorer_tables(matmul, CHIP)
    assert set(tables) == {field.table for field in schema()}
    for name, table in tables.items():
        assert list(table) == [field.name for field in schema() if field.table == name]
        assert len({len(column) for column in table.values()}) == 1, name


def test_instructions_and_transfers_are_the_rows_of_the_trace(matmul):
    tables = explorer_tables(matmul, CHIP)
    ids = np.concatenate([tables[name]["id"] for name in ("Instruction", "DmaPacketAggregated")])
    assert sorted(ids.tolist()) == list(range(matmul.trace.num_rows))
    instructions, transfers = tables["Instruction"], tables["DmaPacketAggregated"]
    assert set(instructions["engine"]) <= {"tensor", "vector", "scalar", "gpsimd", "sync"}
    assert (instructions["duration_ns"] >= 0).all()
    assert all(where.startswith("kernels.py:") for where in instructions["nki_source_location"])
    assert set(instructions["opcode"]) == {"MATMUL", "TENSOR_COPY"}
    assert transfers["op"].tolist() == ["read", "read", "write"]
    assert transfers["variable"][:2].tolist() == ["lhs_t", "rhs"]


def test_the_summary_agrees_with_the_profile(matmul):
    (tables, profile) = explorer_tables(matmul, CHIP), summarize_profile(matmul, CHIP)
    summary = {name: column[0] for name, column in tables["Summary"].items()}
    assert summary["total_time"] == pytest.approx(profile["duration_s"])
    assert summary["model_flops"] == profile["tensor"]["flops"]
    assert summary["hbm_read_bytes"] == profile["hbm"]["read_bytes"]
    assert summary["mfu_estimated_percent"] == pytest.approx(
        100 * profile["tensor"]["mfu_fraction"]
    )
    assert summary["dma_active_time"] == pytest.approx(profile["dma"]["active_s"])
    usage = tables["HbmUsage"]
    moved = profile["hbm"]["read_bytes"] + profile["hbm"]["written_bytes"]
    assert usage["total_transfer_bytes"][-1] == pytest.approx(moved, abs=2)
    assert tables["Metadata"]["is_simulation"].tolist() == [True]


def test_a_kernel_without_instructions_has_tables():
    from rainshadow.nki import record
    from rainshadow.sim.timing import time_trace

    empty = time_trace(record(lambda: None, chip=CHIP).trace, CHIP)
    tables = explorer_tables(empty, CHIP)
    assert len(tables["Instruction"]["id"]) == 0
    assert tables["Summary"]["total_time"].tolist() == [0]


def test_memory_fills_and_empties(matmul):
    tables = explorer_tables(matmul, CHIP)
    for name in ("SbufUsage", "PsumUsage"):
        held = tables[name]["avg_util_percent"]
        assert 0 < held.max() <= 100 and held[-1] == pytest.approx(0)
    assert tables["PsumUsage"]["bank_0_util_percent"].max() == pytest.approx(50), "64 partitions"


def test_tables_are_files_that_read_back(matmul, tmp_path):
    duckdb = pytest.importorskip("duckdb")
    write_explorer_tables(matmul, CHIP, tmp_path / "it's", core=1, cores=2)
    folder = str(tmp_path / "it's").replace("'", "''")
    rows = duckdb.sql(
        f"SELECT engine, sum(duration_ns), any_value(pcore_idx) FROM '{folder}/Instruction.parquet'"
        " GROUP BY engine"
    ).fetchall()
    assert {row[2] for row in rows} == {1}
    assert {path.stem for path in (tmp_path / "it's").iterdir()} == {f.table for f in schema()}


@pytest.mark.conformance("RAINSHADOW_CHECKOUT_AWS_NEURON_SDK")
def test_the_schema_is_what_aws_documents(checkout):
    text = (Path(checkout) / REFERENCE).read_text("utf-8")
    assert "``7.4.0``" in text
    row = re.compile(r"   \* - ``(\w+)``\n     - (.*)\n     -(.*)\n     - (Yes|No)\n")
    for table in {field.table for field in schema()}:
        begin = text.index(f".. _profile-schema-{table.lower()}:")
        section = text[begin : text.index(".. _profile-schema-", begin + 10)]
        known = {
            name: (kind.partition(" (:ref")[0], unit.strip(), needed == "Yes")
            for name, kind, unit, needed in row.findall(section)
        }
        ours = {f.name: (f.type, f.unit, f.required) for f in schema() if f.table == table}
        assert ours.items() <= known.items(), table
        assert {name for name, (_, _, needed) in known.items() if needed} <= ours.keys(), table
