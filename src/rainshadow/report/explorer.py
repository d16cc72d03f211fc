"""Timelines as the Parquet tables that AWS's Neuron Explorer documents, so that a profile of a
device and one of ours can be joined. `is_simulation` in Metadata tells them apart.

Columns, types and units: data/explorer/schema.csv, from the schema reference of schema version
7.4.0 (AWS Neuron docs 2.32); what Rainshadow doesn't know is left out where AWS allows that.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from rainshadow import __version__
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Signature
from rainshadow.machine import Chip
from rainshadow.report.occupancy import Occupancy
from rainshadow.report.profile import transpose_flops, union_ps
from rainshadow.report.tables import write_table
from rainshadow.sim.timeline import Timeline

Column = np.ndarray[Any, np.dtype[Any]]
Table = Mapping[str, Any]

_SCHEMA_VERSION = "7.4.0"
_PS_PER_NS = 1000
_PS_PER_S = 1e12
_ENGINES = ("tensor", "vector", "scalar", "gpsimd", "sync")
#: Two cores share an HBM stack, by which AWS's profiler divides.
_CORES_PER_STACK = 2
_TYPES = {
    "integer (int64)": np.int64,
    "integer (int32)": np.int32,
    "number (float)": np.float64,
    "boolean": np.bool_,
    "string": np.str_,
}
_KINDS = {
    "Metadata": "the profile",
    "Summary": "the whole kernel on one core",
    "Instruction": "an executed instruction",
    "DmaPacketAggregated": "a transfer",
    "ActiveTime": "a stretch in which an engine works",
    "OpcodeSummary": "all instructions of one kind",
    "SbufUsage": "SBUF from one moment on",
    "PsumUsage": "PSUM from one moment on",
    "HbmUsage": "transfers of HBM from one moment on",
    "SchemaFields": "a column of a table",
}


@dataclass(frozen=True, slots=True)
class Field:
    """A column: its type as AWS writes it, its unit, whether every profile has it."""

    table: str
    name: str
    type: str
    unit: str
    required: bool
    description: str


@cache
def schema() -> tuple[Field, ...]:
    """The columns that are written, table by table."""
    text = (resources.files("rainshadow") / "data" / "explorer" / "schema.csv").read_text("utf-8")
    return tuple(
        Field(*(row[key] for key in ("table", "field", "type", "unit")), row["required"] == "yes",
              row["description"])
        for row in csv.DictReader(text.splitlines())
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Job:
    """A core's timeline. core: its number in the logical core of `cores`."""

    timeline: Timeline
    chip: Chip
    core: int
    cores: int

    @property
    def is_dma(self) -> Column:
        return self.per_row(lambda signature: signature.engine == Engine.dma.name).astype(bool)

    @property
    def begin_ps(self) -> int:
        start = self.timeline.start_ps
        return int(start.min()) if len(start) else 0

    @property
    def done_ps(self) -> Column:
        """When each row's work ends: of a DMA the last byte, of others the result."""
        assert self.chip.core is not None, "kernels run on chips with NeuronCores"
        completion = round(self.chip.core.dma.completion_latency.value * _PS_PER_S)
        done: Column = self.timeline.end_ps - completion * self.is_dma
        return done

    def per_row(self, value_of: Callable[[Signature], Any]) -> Column:
        """A value of every row's signature."""
        values = np.array([value_of(signature) for signature in self.timeline.trace.signatures])
        if not len(values):
            return np.zeros(0, dtype=np.int64)
        column: Column = values[self.timeline.trace.signature]
        return column

    def times(self, rows: Column) -> dict[str, Column]:
        """start_ts, end_ts and duration_ns."""
        start = (self.timeline.start_ps[rows] - self.begin_ps) // _PS_PER_NS
        end = (self.done_ps[rows] - self.begin_ps) // _PS_PER_NS
        return {"start_ts": start, "end_ts": end, "duration_ns": end - start}


def explorer_tables(
    timeline: Timeline, chip: Chip, core: int = 0, cores: int = 1
) -> dict[str, Table]:
    """Table name -> column name -> array. core, cores: as in `_Job`."""
    job = _Job(timeline, chip, core, cores)
    tables = {
        "Metadata": _metadata(job),
        "Summary": _summary(job),
        "Instruction": _instructions(job),
        "DmaPacketAggregated": _transfers(job),
        "ActiveTime": _active_time(job),
        "OpcodeSummary": _opcodes(job),
        "SbufUsage": _sbuf_usage(job),
        "PsumUsage": _psum_usage(job),
        "HbmUsage": _hbm_usage(job),
        "SchemaFields": _schema_fields(),
    }
    return {name: _typed(name, table) for name, table in tables.items()}


def write_explorer_tables(
    timeline: Timeline, chip: Chip, folder: Path, core: int = 0, cores: int = 1
) -> None:
    """One Parquet file a table. Errors: as `write_table`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, columns in explorer_tables(timeline, chip, core, cores).items():
        write_table(columns, folder / f"{name}.parquet")


def _typed(name: str, table: Table) -> Table:
    """Columns in the schema's order and types; a single value is a table of one row."""
    return {
        field.name: np.atleast_1d(np.asarray(table[field.name])).astype(_TYPES[field.type])
        for field in schema()
        if field.table == name
    }


def _metadata(job: _Job) -> Table:
    core = job.chip.core
    assert core is not None, "kernels run on chips with NeuronCores"
    last_ns = job.timeline.duration_ps // _PS_PER_NS
    gigahertz = {
        name: getattr(core, name).clock.value / 1e9
        for name in ("tensor", "vector", "scalar", "gpsimd", "sync")
    }
    return {
        "profile_schema_version": _SCHEMA_VERSION,
        "ntff_version": 0,
        "num_physical_cores": job.cores,
        "vnc_enabled": job.cores > 1,
        "first_hw_timestamp": 0,
        "last_hw_timestamp": last_ns,
        "first_ts": str(np.datetime64(0, "ns")).replace("T", " ") + "+00:00",
        "last_ts": str(np.datetime64(last_ns, "ns")).replace("T", " ") + "+00:00",
        "dma_ddr_bandwidth": core.dma.engines.value * core.dma.bandwidth_per_engine.value,
        "num_dma_engines_per_neuroncore": core.dma.engines.value,
        "hbm_ddr_bandwidth": _stack_bandwidth(job.chip),
        "tensor_engine_num_rows": core.tensor.rows.value,
        "tensor_engine_num_cols": core.tensor.columns.value,
        **{f"{name}_engine_clock_freq": gigahertz[name] for name in _ENGINES[:4]},
        **{f"{name}_engine_num_channels": core.partitions.value for name in _ENGINES[1:4]},
        "neuroncore_clock_freq": gigahertz["sync"],
        "ticks_per_nanosec": 1,
        "explorer_version": f"rainshadow {__version__}",
        "profile_name": job.timeline.trace.kernel,
        "is_simulation": True,
    }


def _stack_bandwidth(chip: Chip) -> float:
    assert chip.core is not None, "kernels run on chips with NeuronCores"
    return chip.hbm.bandwidth.value * _CORES_PER_STACK / chip.core.count.value


def _summary(job: _Job) -> Table:
    timeline, trace, chip = job.timeline, job.timeline.trace, job.chip
    total_s = timeline.duration_ps / _PS_PER_S
    flops, transposes = trace.flops, trace.total(transpose_flops)
    moved = {
        f"{space}_{word}_bytes": trace.moved_bytes(space, written=word == "write")
        for space in ("hbm", "sbuf", "psum")
        for word in ("read", "write")
    }
    hbm = moved["hbm_read_bytes"] + moved["hbm_write_bytes"]
    spill = trace.spilled_bytes()
    dma = job.is_dma
    size = job.per_row(_transfer_bytes)[dma]
    dma_active = union_ps(timeline.start_ps[dma], job.done_ps[dma]) / _PS_PER_S
    active = union_ps(timeline.start_ps, job.done_ps) / _PS_PER_S
    transfer_s = float((job.done_ps - timeline.start_ps)[dma].sum()) / _PS_PER_S
    table: dict[str, Any] = {
        "total_time": total_s,
        "model_flops": flops,
        "hardware_flops": flops + transposes,
        "transpose_flops": transposes,
        "mm_arithmetic_intensity": flops / hbm if hbm else 0.0,
        "peak_flops_bandwidth_ratio": chip.core_peak_flops / _stack_bandwidth(chip),
        "dma_active_time": dma_active,
        "dma_active_time_percent": _percent(dma_active, total_s),
        "dma_transfer_average_bytes": float(size.mean()) if len(size) else 0.0,
        "dma_transfer_time": transfer_s,
        "dma_transfer_count": int(dma.sum()),
        "dma_transfer_total_bytes": int(size.sum()),
        "mbu_estimated_percent": _percent(hbm, total_s * _stack_bandwidth(chip)),
        **moved,
        "spill_save_bytes": spill["saved_bytes"],
        "spill_reload_bytes": spill["reloaded_bytes"],
        "matmul_instruction_count": int(job.per_row(_is_matmul).sum()),
        "mfu_estimated_percent": _percent(flops, total_s * chip.core_peak_flops),
        "hfu_estimated_percent": _percent(flops + transposes, total_s * chip.core_peak_flops),
        "total_exec_time": total_s,
        "total_active_time": active,
        "total_active_time_percent": _percent(active, total_s),
    }
    for engine in _ENGINES:
        rows = job.per_row(lambda signature, engine=engine: signature.engine == engine).astype(bool)
        work = union_ps(timeline.start_ps[rows], job.done_ps[rows]) / _PS_PER_S
        spent = float((job.done_ps - timeline.start_ps)[rows].sum()) / _PS_PER_S
        table[f"{engine}_engine_instruction_time"] = spent
        table[f"{engine}_engine_active_time"] = work
        table[f"{engine}_engine_active_time_percent"] = _percent(work, total_s)
        table[f"{engine}_engine_instruction_count"] = int(rows.sum())
    return table


def _percent(part: float, whole: float) -> float:
    return 100 * part / whole if whole else 0.0


def _transfer_bytes(signature: Signature) -> int:
    return max(sum(_moved(signature, written)) for written in (False, True))


def _moved(signature: Signature, written: bool) -> list[int]:
    return [signature.moved_bytes(space, written=written) for space in ("sbuf", "psum", "hbm")]


def _is_matmul(signature: Signature) -> bool:
    return signature.opcode in ("nc_matmul", "nc_matmul_mx")


def _instructions(job: _Job) -> Table:
    timeline, trace = job.timeline, job.timeline.trace
    rows = np.flatnonzero(~job.is_dma)
    engine = job.per_row(lambda signature: signature.engine)[rows]
    lines = np.array(
        [f"{Path(line.source.file).name}:{line.source.line}" for line in trace.lines] or [""]
    )
    columns: dict[str, Any] = {
        **job.times(rows),
        "engine": engine,
        "pcore_idx": np.full(len(rows), job.core),
        "opcode": job.per_row(_opcode)[rows],
        "operands": job.per_row(_operands)[rows],
        "id": rows,
        "pc": _number_within(engine),
        "bir_id": rows,
        "evt_wait_time_ns": timeline.wait_ps[rows] // _PS_PER_NS,
        "nki_source_location": lines[trace.line[rows]],
        "raw_flops": job.per_row(lambda s: s.flops + transpose_flops(s))[rows],
        "flops_transpose": job.per_row(transpose_flops)[rows],
        "tensor_instruction_type": job.per_row(_tensor_type)[rows],
    }
    for space in ("hbm", "sbuf", "psum"):
        for word in ("read", "write"):
            columns[f"{space}_{word}_bytes"] = job.per_row(
                lambda s, space=space, word=word: s.moved_bytes(space, written=word == "write")
            )[rows]
    return columns


@cache
def _opcode_names() -> Mapping[tuple[str, str], str]:
    """(instruction of `nki.isa`, engine) -> AWS's opcode, where it isn't the name in capitals."""
    text = (resources.files("rainshadow") / "data" / "explorer" / "opcodes.csv").read_text("utf-8")
    return {
        (row["instruction"], row["engine"]): row["opcode"]
        for row in csv.DictReader(text.splitlines())
    }


def _opcode(signature: Signature) -> str:
    return _opcode_names().get((signature.opcode, signature.engine), signature.opcode.upper())


def _operands(signature: Signature) -> str:
    return " ".join(
        f"{name}={kind.space}:{kind.dtype}[{kind.partitions}x{kind.elements}]"
        for name, kind in signature.operands.items()
    )


def _tensor_type(signature: Signature) -> str:
    if signature.engine != Engine.tensor.name:
        return ""
    return "TRANSPOSE" if transpose_flops(signature) else "REGULAR"


def _number_within(labels: Column) -> Column:
    """Of each entry how many equal ones come before it."""
    number = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        mine = labels == label
        number[mine] = np.arange(int(mine.sum()))
    return number


def _transfers(job: _Job) -> Table:
    timeline, trace = job.timeline, job.timeline.trace
    rows = np.flatnonzero(job.is_dma)
    times = job.times(rows)
    sizes = [job.per_row(lambda s, w=w: sum(_moved(s, w)))[rows] for w in (False, True)]
    queue = timeline.track[rows]
    seconds = (job.done_ps - timeline.start_ps)[rows] / _PS_PER_S
    size = np.maximum(*sizes)
    columns: dict[str, Any] = {
        **times,
        "id": rows,
        "pcore_idx": np.full(len(rows), job.core),
        "block_id": rows,
        "queue_idx": queue,
        "queue_name": np.array(timeline.tracks)[queue],
        "queue_type": job.per_row(_queue_type)[rows],
        "op": job.per_row(_direction)[rows],
        "variable": _variables(job, rows),
        "read_bytes": sizes[0],
        "write_bytes": sizes[1],
        "transfer_bytes": size,
        "throughput": size / np.maximum(seconds, 1 / _PS_PER_S),
        "is_transpose_mode": job.per_row(lambda s: s.opcode == "dma_transpose")[rows],
        **dict.fromkeys(
            ("semaphore_id", "read_offset", "read_steps", "write_offset", "write_steps"),
            np.full(len(rows), ""),
        ),
    }
    for word, place in (("read", "source"), ("write", "dest")):
        sides = [_side(s, written=word == "write") for s in trace.signatures]
        chosen = [sides[number] for number in trace.signature[rows].tolist()]
        columns[place] = np.array([side[0] for side in chosen], dtype=np.str_)
        columns[f"{word}_sbuf_partitions"] = np.array([side[1] for side in chosen], dtype=np.str_)
        columns[f"{word}_num_sbuf_partitions"] = np.array([side[2] for side in chosen])
        columns[f"{word}_shape"] = np.array([side[3] for side in chosen], dtype=np.str_)
    return columns


def _side(signature: Signature, *, written: bool) -> tuple[str, str, int, str]:
    """Space, partitions of SBUF as text, how many, and the shape of what is read or written."""
    kinds = [kind for name, kind in signature.operands.items()
             if (name in signature.writes) == written]  # fmt: skip
    if not kinds:
        return "", "", 0, ""
    kind = kinds[0]
    on_sbuf = kind.space == "sbuf"
    partitions = f"{kind.start}-{kind.start + kind.partitions - 1}" if on_sbuf else ""
    shape = f"[{kind.partitions}, {kind.elements}]"
    return f"[{kind.space.upper()}]", partitions, kind.partitions if on_sbuf else 0, shape


def _queue_type(signature: Signature) -> str:
    trigger = signature.params.get("trigger", Engine.gpsimd.name)
    return "software_dynamic" if trigger == Engine.gpsimd.name else "hardware_dynamic"


def _direction(signature: Signature) -> str:
    reads, writes = _moved(signature, False)[2], _moved(signature, True)[2]
    return "read" if reads and not writes else "write" if writes and not reads else "copy"


def _variables(job: _Job, rows: Column) -> Column:
    """Name of the tensor in HBM that a transfer touches, else of any."""
    trace = job.timeline.trace
    names = np.array([trace.tensor(n).name for n in range(len(trace.tensors))] or [""])
    in_hbm = [trace.tensor(n).space == "hbm" for n in range(len(trace.tensors))]
    ends = trace.access_end.tolist()
    found = []
    for row in rows.tolist():
        uses = [use for use in trace.use[ends[row - 1] if row else 0 : ends[row]].tolist()
                if use >= 0]  # fmt: skip
        tensors = [int(trace.uses[use, 0]) for use in uses]
        best = next(
            (tensor for tensor in tensors if in_hbm[tensor]), tensors[0] if tensors else None
        )
        found.append("" if best is None else str(names[best]))
    return np.array(found, dtype=np.str_)


def _active_time(job: _Job) -> Table:
    engine = job.per_row(lambda signature: signature.engine)
    stretches: list[tuple[int, int, str]] = []
    for name in _ENGINES:
        rows = np.flatnonzero(engine == name)
        if not len(rows):
            continue
        rows = rows[np.argsort(job.timeline.start_ps[rows], kind="stable")]
        start = job.timeline.start_ps[rows]
        reach = np.maximum.accumulate(job.done_ps[rows])
        first = np.flatnonzero(np.append(True, start[1:] > reach[:-1]))
        last = np.append(first[1:], len(rows)) - 1
        stretches += [
            (int(start[a]), int(reach[b]), name) for a, b in zip(first, last, strict=True)
        ]
    begin = job.begin_ps
    starts = np.array([(start - begin) // _PS_PER_NS for start, _, _ in stretches], dtype=np.int64)
    ends = np.array([(end - begin) // _PS_PER_NS for _, end, _ in stretches], dtype=np.int64)
    return {
        "start_ts": starts,
        "end_ts": ends,
        "engine": np.array([name for _, _, name in stretches], dtype=np.str_),
        "pcore_idx": np.full(len(stretches), job.core),
        "duration_ns": ends - starts,
    }


def _opcodes(job: _Job) -> Table:
    rows = ~job.is_dma
    kinds = job.per_row(lambda s: f"{s.engine} {_opcode(s)}")
    found: dict[str, list[Any]] = {field.name: [] for field in schema()
                                   if field.table == "OpcodeSummary"}  # fmt: skip
    for kind in np.unique(kinds[rows]).tolist() if rows.any() else []:
        mine = kinds == kind
        start, done = job.timeline.start_ps[mine], job.done_ps[mine]
        active = union_ps(start, done)
        engine, opcode = kind.split(" ")
        values = (engine, opcode, len(start), int((done - start).sum()) // _PS_PER_NS,
                  active // _PS_PER_NS, _percent(active, job.timeline.duration_ps))  # fmt: skip
        for column, value in zip(found.values(), values, strict=True):
            column.append(value)
    return found


def _held_percent(job: _Job, occupancy: Occupancy, weights: Column, capacity: float) -> Column:
    """From each moment at which anything changes on, how full something is."""
    times = np.concatenate([occupancy.start_ps, occupancy.end_ps])
    _, place = np.unique(times, return_inverse=True)
    steps = np.bincount(place.reshape(-1), weights=np.concatenate([weights, -weights]))
    held: Column = np.minimum(np.cumsum(steps), capacity) * 100 / capacity
    return held


def _moments(job: _Job, occupancy: Occupancy) -> dict[str, Column]:
    times = np.unique(np.concatenate([occupancy.start_ps, occupancy.end_ps]))
    return {
        "timestamp": (times - job.begin_ps) // _PS_PER_NS,
        "pcore_idx": np.full(len(times), job.core),
    }


def _sbuf_usage(job: _Job) -> Table:
    core = job.chip.core
    assert core is not None, "kernels run on chips with NeuronCores"
    size, partitions = core.sbuf.bytes_per_partition.value, core.partitions.value
    held = Occupancy.of(job.timeline, "sbuf")
    columns = _moments(job, held)
    whole = held.size_bytes * held.partitions.astype(np.float64)
    columns["avg_util_percent"] = _held_percent(job, held, whole, size * partitions)
    for number in (0, 32, 64, 96):
        inside = (held.partition <= number) & (number < held.partition + held.partitions)
        weights = held.size_bytes * inside.astype(np.float64)
        columns[f"partition_{number}_util_percent"] = _held_percent(job, held, weights, size)
    return columns


def _psum_usage(job: _Job) -> Table:
    core = job.chip.core
    assert core is not None, "kernels run on chips with NeuronCores"
    size, partitions = core.psum.bytes_per_partition.value, core.partitions.value
    bank = core.psum.bank_bytes_per_partition.value
    held = Occupancy.of(job.timeline, "psum")
    columns = _moments(job, held)
    spread = held.partitions.astype(np.float64)
    columns["avg_util_percent"] = _held_percent(
        job, held, held.size_bytes * spread, size * partitions
    )
    for number in range(8):
        low, high = number * bank, (number + 1) * bank
        inside = np.minimum(held.address + held.size_bytes, high) - np.maximum(held.address, low)
        weights = np.maximum(inside, 0) * spread
        columns[f"bank_{number}_util_percent"] = _held_percent(
            job, held, weights, bank * partitions
        )
    return columns


def _hbm_usage(job: _Job) -> Table:
    """Each transfer moves its bytes evenly from its start to its last byte."""
    size = job.per_row(lambda s: sum(_moved(s, w)[2] for w in (False, True)))
    rows = np.flatnonzero(job.is_dma & (size > 0))
    start, end = job.timeline.start_ps[rows], job.done_ps[rows]
    rate = size[rows] / np.maximum(end - start, 1)
    times, place = np.unique(np.concatenate([start, end]), return_inverse=True)
    steps = np.bincount(place.reshape(-1), weights=np.concatenate([rate, -rate]))
    current = np.maximum(np.cumsum(steps), 0.0)
    moved = np.concatenate([[0.0], np.cumsum(current[:-1] * np.diff(times))])[: len(times)]
    return {
        "timestamp": (times - job.begin_ps) // _PS_PER_NS,
        "current_throughput": current * _PS_PER_S,
        "total_transfer_bytes": np.round(moved),
        "pcore_idx": np.full(len(times), job.core),
    }


def _schema_fields() -> Table:
    fields = schema()
    types = [field.type.partition(" (") for field in fields]
    return {
        "table_name": [field.table for field in fields],
        "table_description": [_KINDS[field.table] for field in fields],
        "field_name": [field.name for field in fields],
        "field_description": [field.description for field in fields],
        "field_type": [kind for kind, _, _ in types],
        "field_required": [field.required for field in fields],
        "field_format": [form.rstrip(")") for _, _, form in types],
        "field_unit": [field.unit for field in fields],
    }
