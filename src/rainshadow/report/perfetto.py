"""Timelines as Chrome trace events, which ui.perfetto.dev and chrome://tracing open.

One track per engine and DMA queue; launches follow one another as on the core. The same timelines
give the same bytes.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rainshadow.sim.timeline import Timeline

_PS_PER_US = 1e6
_PROCESS = 1


@dataclass(frozen=True, slots=True)
class TimelineLaunch:
    """A launch to draw: its kernel's name, its phase and its timeline."""

    kernel: str
    phase: str
    timeline: Timeline


def perfetto_json(launches: Sequence[TimelineLaunch], *, max_events: int = 500_000) -> bytes:
    """Gzipped JSON. Beyond `max_events` the rest is one event per launch, which says so."""
    events = list(_metadata(launches))
    at_ps, left = 0, max_events
    for launch in launches:
        timeline = launch.timeline
        events.append(_launch_event(launch, at_ps))
        at_ps += timeline.launch_ps
        if timeline.trace.num_rows <= left:
            events += _rows(timeline, at_ps)
            left -= timeline.trace.num_rows
        at_ps += timeline.duration_ps
    document = {"displayTimeUnit": "ns", "traceEvents": events}
    buffer = io.BytesIO()
    # A fixed time stamp and no file name: equal input gives equal bytes.
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, filename="") as stream:
        stream.write(json.dumps(document, separators=(",", ":")).encode())
    return buffer.getvalue()


def _metadata(launches: Sequence[TimelineLaunch]) -> Iterator[dict[str, Any]]:
    yield _name("process_name", 0, "NeuronCore (simulated)")
    yield _name("thread_name", 0, "kernels")
    if launches:
        for number, track in enumerate(launches[0].timeline.tracks):
            yield _name("thread_name", number + 1, track)


def _name(kind: str, thread: int, text: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": _PROCESS, "tid": thread, "args": {"name": text}}


def _launch_event(launch: TimelineLaunch, at_ps: int) -> dict[str, Any]:
    timeline = launch.timeline
    return {
        "ph": "X",
        "name": launch.kernel,
        "cat": launch.phase,
        "pid": _PROCESS,
        "tid": 0,
        "ts": at_ps / _PS_PER_US,
        "dur": (timeline.launch_ps + timeline.duration_ps) / _PS_PER_US,
        "args": {"instructions": timeline.trace.num_rows, "launch_ns": timeline.launch_ps / 1000},
    }


def _rows(timeline: Timeline, at_ps: int) -> Iterator[dict[str, Any]]:
    trace = timeline.trace
    first = int(timeline.start_ps.min()) if trace.num_rows else 0
    columns = zip(
        trace.signature.tolist(),
        trace.line.tolist(),
        timeline.track.tolist(),
        timeline.start_ps.tolist(),
        timeline.busy_ps.tolist(),
        timeline.wait_ps.tolist(),
        timeline.cause.tolist(),
        strict=True,
    )
    for number, line_number, track, start, busy, wait, cause in columns:
        signature, line = trace.signatures[number], trace.lines[line_number]
        arguments: dict[str, Any] = {
            "line": f"{line.source.file.rsplit('/', 1)[-1]}:{line.source.line}",
            "source": line.source.text,
            "shape": f"{signature.partitions} x {signature.elements}",
        }
        if wait:
            arguments["waited_ns"] = wait / 1000
            arguments["for"] = timeline.causes[cause]
        yield {
            "ph": "X",
            "name": signature.opcode,
            "cat": line.function,
            "pid": _PROCESS,
            "tid": track + 1,
            "ts": (at_ps + start - first) / _PS_PER_US,
            "dur": busy / _PS_PER_US,
            "args": arguments,
        }
