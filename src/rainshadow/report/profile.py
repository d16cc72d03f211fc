"""Aggregates of one kernel's Timeline as plain numbers: engines, waits, memory, lines.

Every key that is a quantity ends in its unit.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Signature
from rainshadow.machine import Chip
from rainshadow.sim.timeline import Timeline

Column = np.ndarray[Any, np.dtype[Any]]

_PS_PER_S = 1e12
#: Columns of `Trace.tensors`.
_SPACE, _, _, _, _SIZE, _FLAGS = range(6)


def summarize_profile(
    timeline: Timeline, chip: Chip, core: int = 0, cores: int = 1
) -> dict[str, Any]:
    """A kernel launch on one core. core, cores: its number, and how many the launch has.

    duration_s: first start to last result, without launch_s.  bound_by: the track busy longest.
    ideal: what no order of instructions can beat, and by what.  tensor: matmul work over the
    core's bf16 peak, as mfu without and as hfu with transposes.  hbm: bytes through DMA over the
    core's share of the HBM's rate (mbu).  dma: what its transfers are like, and their rate while
    one is under way over that of all DMA engines.  Lines add up to the duration.
    """
    trace = timeline.trace
    return {
        "kernel": trace.kernel,
        "chip": chip.name,
        "core": core,
        "cores": cores,
        "duration_s": timeline.duration_ps / _PS_PER_S,
        "launch_s": timeline.launch_ps / _PS_PER_S,
        "instructions": trace.num_rows,
        "bound_by": _busiest(timeline),
        "ideal": _ideal(timeline, chip),
        "engines": _engines(timeline),
        "wait_s": _waits(timeline),
        "tensor": _tensor(timeline, chip),
        "hbm": _hbm(timeline, chip),
        "dma": _dma(timeline, chip),
        "peak_bytes": _peaks(timeline, chip),
        "spill": trace.spilled_bytes(),
        "opcodes": _opcodes(timeline),
        "lines": _lines(timeline),
        "left_out": list(timeline.left_out),
    }


def _busiest(timeline: Timeline) -> str | None:
    busy = timeline.engine_busy_ps
    return max(busy, key=busy.__getitem__) if any(busy.values()) else None


def _engines(timeline: Timeline) -> list[dict[str, Any]]:
    counts = np.bincount(timeline.track, minlength=len(timeline.tracks)).tolist()
    duration = timeline.duration_ps or 1
    rows = [
        {"name": name, "instructions": count, "busy_s": ps / _PS_PER_S,
         "busy_fraction": ps / duration}
        for (name, ps), count in zip(timeline.engine_busy_ps.items(), counts, strict=True)
        if count
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -row["busy_s"])


def _waits(timeline: Timeline) -> dict[str, float]:
    waits = Counter(timeline.wait_by_cause_ps)
    waits.pop("none", None)
    return {name: ps / _PS_PER_S for name, ps in waits.most_common() if ps}


def _ideal(timeline: Timeline, chip: Chip) -> dict[str, Any]:
    """The longest of: matmuls at peak, bytes at the HBM's rate, each engine's own work."""
    bounds = {name: ps / _PS_PER_S for name, ps in timeline.engine_busy_ps.items()}
    bounds["matmul peak"] = timeline.trace.flops / chip.core_peak_flops
    bounds["HBM bandwidth"] = _hbm_bytes(timeline) / _hbm_rate(chip)
    by = max(bounds, key=bounds.__getitem__)
    duration = timeline.duration_ps / _PS_PER_S
    return {
        "time_s": bounds[by],
        "by": by,
        "fraction": bounds[by] / duration if duration else 0.0,
        "roofline": "compute" if bounds["matmul peak"] > bounds["HBM bandwidth"] else "memory",
        "bounds_s": {name: value for name, value in bounds.items() if value},
    }


def _tensor(timeline: Timeline, chip: Chip) -> dict[str, float]:
    trace = timeline.trace
    flops, transposes = trace.flops, trace.total(transpose_flops)
    possible = chip.core_peak_flops * timeline.duration_ps / _PS_PER_S
    return {
        "flops": flops,
        "transpose_flops": transposes,
        "mfu_fraction": flops / possible if possible else 0.0,
        "hfu_fraction": (flops + transposes) / possible if possible else 0.0,
    }


def transpose_flops(signature: Signature) -> int:
    """2 per multiply-add that TensorE does to transpose: not the model's work."""
    if signature.opcode == "nc_transpose" and signature.engine == Engine.tensor.name:
        data = signature["data"]
        return 2 * data.partitions * data.partitions * data.elements
    if signature.opcode == "nc_matmul" and signature.params["is_transpose"]:
        stationary, moving = signature["stationary"], signature["moving"]
        return 2 * stationary.partitions * stationary.elements * moving.elements
    return 0


def _hbm_rate(chip: Chip) -> float:
    """A core's share of the HBM bandwidth."""
    assert chip.core is not None, "a Trace is recorded on a chip with NeuronCores"
    return chip.hbm.bandwidth.value / chip.core.count.value


def _hbm_bytes(timeline: Timeline) -> int:
    trace = timeline.trace
    return sum(trace.moved_bytes("hbm", written=written) for written in (False, True))


def _dma(timeline: Timeline, chip: Chip) -> dict[str, float]:
    """run_bytes: that lie together in HBM, on average by transfer.  efficiency_fraction: of what
    the DMA engines can move while at least one transfer is under way.
    """
    assert chip.core is not None, "a Trace is recorded on a chip with NeuronCores"
    dma = chip.core.dma
    trace = timeline.trace
    is_dma = np.array([s.engine == Engine.dma.name for s in trace.signatures], dtype=bool)
    rows = is_dma[trace.signature] if trace.num_rows else np.zeros(0, dtype=bool)
    moved = np.array([_transfer_bytes(s) for s in trace.signatures], dtype=np.int64)
    runs = np.array([_run_bytes(s) for s in trace.signatures], dtype=np.int64)
    some = trace.signature[rows]
    total = int(moved[some].sum()) if rows.any() else 0
    completion = round(dma.completion_latency.value * _PS_PER_S)
    active = union_ps(timeline.start_ps[rows], timeline.end_ps[rows] - completion) / _PS_PER_S
    rate = total / active if active else 0.0
    return {
        "transfers": int(rows.sum()),
        "bytes": total,
        "mean_bytes": float(moved[some].mean()) if rows.any() else 0.0,
        "mean_run_bytes": float(runs[some].mean()) if rows.any() else 0.0,
        "active_s": active,
        "bytes_per_s": rate,
        "efficiency_fraction": rate / (dma.engines.value * dma.bandwidth_per_engine.value),
    }


def _transfer_bytes(signature: Signature) -> int:
    return max((signature[name].total_bytes for name in signature.writes), default=0)


def _run_bytes(signature: Signature) -> int:
    runs = [kind.run_bytes for kind in signature.operands.values() if kind.space == "hbm"]
    return min(runs, default=0)


def union_ps(start: Column, end: Column) -> int:
    """Time in which at least one of the stretches is under way."""
    if not len(start):
        return 0
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order])
    before = np.concatenate([[start[0]], reach[:-1]])
    return int(np.maximum(reach - np.maximum(before, start), 0).sum())


def _hbm(timeline: Timeline, chip: Chip) -> dict[str, float]:
    read = timeline.trace.moved_bytes("hbm", written=False)
    written = timeline.trace.moved_bytes("hbm", written=True)
    duration_s = timeline.duration_ps / _PS_PER_S
    rate = (read + written) / duration_s if duration_s else 0.0
    return {
        "read_bytes": read,
        "written_bytes": written,
        "bytes_per_s": rate,
        "mbu_fraction": rate / _hbm_rate(chip),
    }


def _peaks(timeline: Timeline, chip: Chip) -> dict[str, dict[str, float]]:
    assert chip.core is not None, "a Trace is recorded on a chip with NeuronCores"
    capacity = {
        "sbuf": chip.core.sbuf.usable_bytes_per_partition.value,
        "psum": chip.core.psum.bytes_per_partition.value,
        "hbm": chip.core_hbm_bytes,
    }
    used = timeline.trace.peak_bytes
    return {
        space: {"used_bytes": used.get(space, 0), "capacity_bytes": int(total)}
        for space, total in capacity.items()
    }


def _opcodes(timeline: Timeline) -> list[dict[str, Any]]:
    signatures = timeline.trace.signatures
    counts: Counter[str] = Counter()
    busy: Counter[str] = Counter()
    by_signature = np.bincount(
        timeline.trace.signature, weights=timeline.busy_ps, minlength=len(signatures)
    )
    for signature, count, ps in zip(
        signatures, timeline.trace.count_by_signature(), by_signature, strict=True
    ):
        counts[signature.opcode] += int(count)
        busy[signature.opcode] += int(ps)
    return [
        {"opcode": opcode, "instructions": counts[opcode], "busy_s": ps / _PS_PER_S}
        for opcode, ps in busy.most_common()
    ]


def _lines(timeline: Timeline) -> list[dict[str, Any]]:
    """Per source line, what it adds to the end; longest first."""
    trace, lines = timeline.trace, timeline.trace.lines
    size = len(lines)
    added = np.bincount(trace.line, weights=timeline.added_ps, minlength=size)
    busy = np.bincount(trace.line, weights=timeline.busy_ps, minlength=size)
    counts = np.bincount(trace.line, minlength=size)
    causes = len(timeline.causes)
    waits = np.bincount(
        trace.line.astype(np.int64) * causes + timeline.cause,
        weights=timeline.wait_ps,
        minlength=size * causes,
    ).reshape(size, causes)
    rows = []
    for index in np.argsort(-added, kind="stable"):
        if not counts[index]:
            continue  # a line that only allocates
        worst = int(waits[index].argmax())
        source = lines[index].source
        rows.append(
            {
                "file": source.file,
                "line": source.line,
                "text": source.text,
                "function": lines[index].function,
                "added_s": added[index] / _PS_PER_S,
                "busy_s": busy[index] / _PS_PER_S,
                "instructions": int(counts[index]),
                "wait_s": float(waits[index].sum()) / _PS_PER_S,
                "waits_for": timeline.causes[worst] if waits[index, worst] else None,
            }
        )
    return rows
