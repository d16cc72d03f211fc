"""Timelines as Chrome trace events, which ui.perfetto.dev and chrome://tracing open.

One track per engine and DMA queue, one process per core; launches follow one another, the cores of
one launch lie beside each other. The same timelines give the same bytes.
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


@dataclass(frozen=True, slots=True)
class TimelineLaunch:
    """A launch to draw: its kernel's name, its phase and its timeline.

    core: which of the launch's cores; those after core 0 begin when it does.
    """

    kernel: str
    phase: str
    timeline: Timeline
    core: int = 0


def perfetto_json(launches: Sequence[TimelineLaunch], *, max_events: int = 500_000) -> bytes:
    """Gzipped JSON. Beyond `max_events` the rest is one event per launch, which says so."""
    events = list(_metadata(launches))
    at_ps, left = 0, max_events
    for cores in _together(launches):
        drawn = [launch.timeline for launch in cores if launch.timeline.trace.num_rows]
        first = min((int(timeline.start_ps.min()) for timeline in drawn), default=0)
        last = max((int(timeline.end_ps.max()) for timeline in drawn), default=0)
        for launch in cores:
            timeline = launch.timeline
            events.append(_launch_event(launch, at_ps, last - first))
            if timeline.trace.num_rows <= left:
                events += _rows(launch, at_ps + timeline.launch_ps - first)
                left -= timeline.trace.num_rows
        at_ps += max(launch.timeline.launch_ps for launch in cores) + last - first
    document = {"displayTimeUnit": "ns", "traceEvents": events}
    buffer = io.BytesIO()
    # A fixed time stamp and no file name: equal input gives equal bytes.
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, filename="") as stream:
        stream.write(json.dumps(document, separators=(",", ":")).encode())
    return buffer.getvalue()


def _together(launches: Sequence[TimelineLaunch]) -> list[list[TimelineLaunch]]:
    """The cores of each launch."""
    found: list[list[TimelineLaunch]] = []
    for launch in launches:
        if launch.core == 0 or not found:
            found.append([])
        found[-1].append(launch)
    return found


def _metadata(launches: Sequence[TimelineLaunch]) -> Iterator[dict[str, Any]]:
    cores = sorted({launch.core for launch in launches})
    for core in cores:
        number = f" {core}" if len(cores) > 1 else ""
        yield _name("process_name", core, 0, f"NeuronCore{number} (simulated)")
        yield _name("thread_name", core, 0, "kernels")
        for thread, track in enumerate(launches[0].timeline.tracks, 1):
            yield _name("thread_name", core, thread, track)


def _name(kind: str, core: int, thread: int, text: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": core + 1, "tid": thread, "args": {"name": text}}


def _launch_event(launch: TimelineLaunch, at_ps: int, duration_ps: int) -> dict[str, Any]:
    timeline = launch.timeline
    return {
        "ph": "X",
        "name": launch.kernel,
        "cat": launch.phase,
        "pid": launch.core + 1,
        "tid": 0,
        "ts": at_ps / _PS_PER_US,
        "dur": (timeline.launch_ps + duration_ps) / _PS_PER_US,
        "args": {"instructions": timeline.trace.num_rows, "launch_ns": timeline.launch_ps / 1000},
    }


def _rows(launch: TimelineLaunch, zero_ps: int) -> Iterator[dict[str, Any]]:
    """zero_ps: when the timeline's time is 0."""
    timeline, trace = launch.timeline, launch.timeline.trace
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
            "pid": launch.core + 1,
            "tid": track + 1,
            "ts": (zero_ps + start) / _PS_PER_US,
            "dur": busy / _PS_PER_US,
            "args": arguments,
        }
