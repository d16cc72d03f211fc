"""The Perfetto file: determinate, complete, on one clock."""

from __future__ import annotations

import gzip
import json

from rainshadow.report.perfetto import TimelineLaunch, perfetto_json


def events(data: bytes) -> list[dict]:
    return [e for e in json.loads(gzip.decompress(data))["traceEvents"] if e["ph"] == "X"]


def test_the_same_timelines_give_the_same_bytes(matmul, scaling):
    launches = [TimelineLaunch("a", "forward", matmul), TimelineLaunch("b", "backward", scaling)]
    assert perfetto_json(launches) == perfetto_json(launches)


def test_every_instruction_lies_inside_its_launch(matmul, scaling):
    launches = [TimelineLaunch("a", "forward", matmul), TimelineLaunch("b", "backward", scaling)]
    drawn = events(perfetto_json(launches))
    frames = [event for event in drawn if event["tid"] == 0]
    rows = [event for event in drawn if event["tid"] != 0]
    assert [frame["name"] for frame in frames] == ["a", "b"]
    assert len(rows) == matmul.trace.num_rows + scaling.trace.num_rows
    assert frames[1]["ts"] >= frames[0]["ts"] + frames[0]["dur"] - 1e-6
    for row in rows:
        inside = [f for f in frames if f["ts"] <= row["ts"] <= f["ts"] + f["dur"] + 1e-6]
        assert inside, row


def test_beyond_the_limit_launches_are_single_events(matmul, scaling):
    launches = [TimelineLaunch("a", "forward", matmul), TimelineLaunch("b", "backward", scaling)]
    drawn = events(perfetto_json(launches, max_events=matmul.trace.num_rows))
    assert len(drawn) == matmul.trace.num_rows + 2
    assert perfetto_json([]) == perfetto_json([])


def test_the_cores_of_a_launch_are_processes_beside_each_other(matmul, scaling):
    launches = [TimelineLaunch("a", "kernel", matmul, core) for core in (0, 1)]
    launches.append(TimelineLaunch("b", "kernel", scaling))
    drawn = events(perfetto_json(launches))
    by_core = [[e for e in drawn if e["pid"] == core + 1] for core in (0, 1)]
    assert [e["name"] for core in by_core for e in core if e["tid"] == 0] == ["a", "b", "a"]
    assert [e["ts"] for e in by_core[1]] == [e["ts"] for e in by_core[0][: len(by_core[1])]]
