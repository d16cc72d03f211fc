"""The matmuls of AWS's tutorial in nki/examples, measured on trn1 with nki.benchmark.

The times were taken with the kernels of docs 2.20 to 2.26; the same kernels in today's API run.
"""

from __future__ import annotations

import re
from typing import Any

from rainshadow.nki.kernel import Shape
from rainshadow.nki.program import load_kernel
from rainshadow.validation.checkouts import Checkouts
from rainshadow.validation.launch import CannotRun, KernelLaunch, dtype_of
from rainshadow.validation.measured import Measured
from rainshadow.validation.points import Point
from rainshadow.validation.profile_metrics import profile_value
from rainshadow.validation.target import Target

_FILE = "nki/examples/matrix_multiplication/matrix_multiplication_nki_kernels.py"
_SIZE = re.compile(r"\b([MKN])(\d+)\b")


def claims(point: Point) -> bool:
    return _FILE in point["source_of_kernel"]


def launch(point: Point, checkouts: Checkouts) -> KernelLaunch:
    sizes = {letter: int(number) for letter, number in _SIZE.findall(point["shapes"])}
    dtype = dtype_of(point["dtype"])
    if sorted(sizes) != ["K", "M", "N"]:
        raise CannotRun(f"shapes {point['shapes']!r} are not K, M and N")
    file = checkouts.file("aws-neuron-sdk", _FILE)
    function = point["kernel"]

    def arguments() -> dict[str, Any]:
        return {
            "lhsT": Shape((sizes["K"], sizes["M"]), dtype),
            "rhs": Shape((sizes["K"], sizes["N"]), dtype),
        }

    return KernelLaunch(
        name=f"matmul {function} {sizes} {dtype}",
        chip=point["device"],
        lnc=1,
        kernel=lambda: load_kernel(file, function),
        arguments=arguments,
    )


def value(point: Point, measured: Measured) -> float:
    if point.metric == "nki.benchmark latency":
        return measured.duration_s + measured.benchmark_launch_s
    return profile_value(point, measured)


def target(point: Point) -> Target:
    if point.metric == "nki.benchmark latency":
        return Target("trn1 matmuls: latency", "each", 0.20)
    return Target("trn1 matmuls: other metrics", "report")
