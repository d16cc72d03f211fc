"""The three Mamba scans of AWS's tutorial on trn1."""

from __future__ import annotations

import re
from typing import Any

from rainshadow.nki.kernel import Shape
from rainshadow.nki.program import load_kernel
from rainshadow.validation.checkouts import Checkouts
from rainshadow.validation.launch import CannotRun, KernelLaunch
from rainshadow.validation.measured import Measured
from rainshadow.validation.points import Point
from rainshadow.validation.profile_metrics import profile_value
from rainshadow.validation.target import Target

_FILE = "nki/examples/fused_mamba/mamba_nki_kernels.py"
_SIZE = re.compile(r"\b([BCLS])(\d+)\b")
_WINDOW = "VectorE window"
_RELOADS = (
    "the kernel loads delta and u 16 times for each tile of channels, AWS's profile shows about "
    "7: its compiler drops loads that Rainshadow keeps, so the window is bound by VectorE there "
    "and by DMA here."
)
_SPILLS = (
    "which tiles AWS's compiler moves out of SBUF, and how much of them, is not published; "
    "Rainshadow moves whole tiles, those whose next use is farthest, and at 7,168 and 8,192 tokens "
    "far more than AWS does."
)


def claims(point: Point) -> bool:
    return _FILE in point["source_of_kernel"]


def launch(point: Point, checkouts: Checkouts) -> KernelLaunch:
    sizes = {letter: int(number) for letter, number in _SIZE.findall(point["shapes"])}
    if sorted(sizes) != ["B", "C", "L", "S"]:
        raise CannotRun(f"shapes {point['shapes']!r} are not B, C, L and S")
    function = point["kernel"]
    batch, channels, length, states = (sizes[letter] for letter in "BCLS")

    def kernel() -> Any:
        return load_kernel(checkouts.file("aws-neuron-sdk", _FILE), function)

    def arguments() -> dict[str, Shape]:
        tokens = Shape((batch, channels, length), "float32")
        per_state = Shape((batch, states, length), "float32")
        decay = Shape((channels, states), "float32")
        return {"delta": tokens, "u": tokens, "A": decay, "B": per_state, "C": per_state}

    checkouts.file("aws-neuron-sdk", _FILE)
    return KernelLaunch(
        name=f"mamba {function} {sizes}",
        chip=point["device"],
        lnc=1,
        kernel=kernel,
        arguments=arguments,
    )


def value(point: Point, measured: Measured) -> float:
    metric = point.metric
    if metric.startswith("NEFF device latency"):
        return measured.duration_s + measured.launch_s
    rows = measured.rows(lambda signature: signature.engine == "vector")
    if metric.startswith(_WINDOW):
        return measured.span_s(rows)
    if metric.startswith("time before first VectorE"):
        raise CannotRun("the profile's start-up is not split from its end; see the launch constant")
    return profile_value(point, measured)


def target(point: Point) -> Target:
    if point.metric.startswith(_WINDOW):
        return Target("Mamba v1 window", "each", 0.05, remark=_RELOADS)
    spills = point["kernel"] == "mamba_v2" and "spill" in point["note"]
    if point.metric.startswith("NEFF device latency") and not spills:
        return Target("Mamba latency", "each", 0.10)
    if spills:
        return Target("Mamba v2 where AWS's compiler spilled", "report", remark=_SPILLS)
    return Target("Mamba: other metrics", "report")
