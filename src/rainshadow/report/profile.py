"""Aggregates of one kernel's Timeline as plain numbers: engines, waits, memory, lines.

Every key that is a quantity ends in its unit.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from rainshadow.machine import Chip
from rainshadow.sim.timeline import Timeline

_PS_PER_S = 1e12


def summarize_profile(timeline: Timeline, chip: Chip) -> dict[str, Any]:
    """A kernel launch on one core.

    duration_s: first start to last result, without launch_s. bound_by: the track busy longest.
    tensor: matmul work over the core's bf16 peak. hbm: bytes through DMA over the core's share
    of the HBM's rate. Lines add up to the duration.
    """
    trace = timeline.trace
    return {
        "kernel": trace.kernel,
        "chip": chip.name,
        "duration_s": timeline.duration_ps / _PS_PER_S,
        "launch_s": timeline.launch_ps / _PS_PER_S,
        "instructions": trace.num_rows,
        "bound_by": _busiest(timeline),
        "engines": _engines(timeline),
        "wait_s": _waits(timeline),
        "tensor": _tensor(timeline, chip),
        "hbm": _hbm(timeline, chip),
        "peak_bytes": _peaks(timeline, chip),
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


def _tensor(timeline: Timeline, chip: Chip) -> dict[str, float]:
    flops = timeline.trace.flops
    possible = chip.core_peak_flops * timeline.duration_ps / _PS_PER_S
    return {"flops": flops, "peak_fraction": flops / possible if possible else 0.0}


def _hbm(timeline: Timeline, chip: Chip) -> dict[str, float]:
    assert chip.core is not None, "a Trace is recorded on a chip with NeuronCores"
    read = timeline.trace.moved_bytes("hbm", written=False)
    written = timeline.trace.moved_bytes("hbm", written=True)
    duration_s = timeline.duration_ps / _PS_PER_S
    rate = (read + written) / duration_s if duration_s else 0.0
    share = chip.hbm.bandwidth.value / chip.core.count.value
    return {
        "read_bytes": read,
        "written_bytes": written,
        "bytes_per_s": rate,
        "share_fraction": rate / share,
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
