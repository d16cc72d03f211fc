"""The matmuls of AWS's kernel-optimization tutorial, printed in the document, profiled on trn2."""

from __future__ import annotations

import re

from rainshadow.nki.kernel import Shape
from rainshadow.validation.checkouts import Checkouts
from rainshadow.validation.launch import CannotRun, KernelLaunch, dtype_of
from rainshadow.validation.measured import Measured
from rainshadow.validation.points import Point
from rainshadow.validation.profile_metrics import profile_value
from rainshadow.validation.target import Target

_DOCUMENT = "nki/guides/tutorials/kernel-optimization.rst"
_FUNCTION = "matrix_multiply_kernel"
#: Point's kernel -> words that only its code block contains.
_WORDS = {
    "tiled": ("affine_range(M // TILE_M)", "stationary=lhsT_tile,"),
    "hoisted loads": ("while hoisting the load",),
    "blocked M,N": ("TILES_IN_BLOCK_M = 2",),
    "blocked M,N,K": ("TILES_IN_BLOCK_K",),
}
_SPILLS = (
    "the tiles of the two blocked kernels do not fit SBUF as the tutorial has them (320 and "
    "224 KiB a partition of 207), and the profiles show more bytes than the program asks for (8.7 "
    "and 1.82 GB instead of 4.6 and 1.48). Which tiles AWS's compiler moved away is not published; "
    "in Rainshadow those go first that free their bytes the longest for the time of their moves."
)
_SHAPE = re.compile(r"(\w+) (\d+)x(\d+)")


def claims(point: Point) -> bool:
    return _DOCUMENT in point["source_of_kernel"]


def launch(point: Point, checkouts: Checkouts) -> KernelLaunch:
    name = point["kernel"]
    if name not in _WORDS:
        raise CannotRun(f"the document has no kernel called {name!r}")
    shapes = {key: (int(a), int(b)) for key, a, b in _SHAPE.findall(point["shapes"])}
    missing = {"lhsT", "rhs"} - shapes.keys()
    if missing:
        raise CannotRun(f"shapes {point['shapes']!r} say no {', '.join(sorted(missing))}")
    dtype = dtype_of(point["dtype"])
    return KernelLaunch(
        name=f"kernel-optimization {name} {sorted(shapes.items())} {dtype}",
        chip=point["device"],
        lnc=1,
        kernel=lambda: checkouts.kernel_of_block(
            "aws-neuron-sdk", _DOCUMENT, _FUNCTION, _WORDS[name]
        ),
        arguments=lambda: {key: Shape(shape, dtype) for key, shape in shapes.items()},
    )


def value(point: Point, measured: Measured) -> float:
    return profile_value(point, measured)


def target(point: Point) -> Target:
    metric = point.metric
    if metric.startswith("TensorE active time"):
        return Target("tutorial matmuls: TensorE active", "each", 0.02)
    if metric.startswith(("profile length", "DMA packet")):
        return Target("tutorial matmuls: total and DMA packets", "each", 0.10, remark=_SPILLS)
    return Target("tutorial matmuls: other metrics", "report")
