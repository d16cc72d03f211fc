"""The generated fp32 kernels of AccelOpt's NKIBench, profiled on trn1 by its authors.

A kernel is written for one size, so a point names its file, or the problem and its sizes. The
arguments are those that the benchmark's NumPy reference makes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rainshadow.nki.kernel import Shape
from rainshadow.nki.program import load_kernel
from rainshadow.validation.checkouts import Checkouts
from rainshadow.validation.launch import CannotRun, KernelLaunch
from rainshadow.validation.measured import Measured
from rainshadow.validation.points import Point
from rainshadow.validation.profile_metrics import profile_value
from rainshadow.validation.target import Target

_CHECKOUT = "accelopt"
_FOLDER = "NKIBench"
_FUNCTION = "kernel"
_FILE = re.compile(r"\bkernels/(\w+)\.py")
#: In the names of files: of the kernel's variant, of the reference's.
_VARIANT = re.compile(r"(_numpy)?_\d+$")
_LATENCY = ("latency", "profiled latency", "min_ms", "max_ms")


def claims(point: Point) -> bool:
    return _FOLDER in point["source_of_kernel"] or "accelopt:" in point["source_of_kernel"].lower()


def launch(point: Point, checkouts: Checkouts) -> KernelLaunch:
    folder = checkouts.folder(_CHECKOUT) / _FOLDER
    file = _kernel_file(point, folder / "kernels")
    problem = _words(file)
    references = [f for f in (folder / "reference").glob("*.py") if _words(f) == problem]
    if len(references) != 1:
        raise CannotRun(f"{len(references)} references of {file.stem} in {_FOLDER}/reference")

    def arguments() -> Mapping[str, Any]:
        inputs = load_kernel(references[0], "get_inputs")()
        given = load_kernel(references[0], "transform_to_nki_inputs")(inputs)
        names = inspect.signature(load_kernel(file, _FUNCTION)).parameters
        return {
            name: Shape(value.shape, str(value.dtype)) if hasattr(value, "shape") else value
            for name, value in zip(names, given, strict=True)
        }

    return KernelLaunch(
        name=f"nkibench {file.stem}",
        chip=point["device"],
        lnc=1,
        kernel=lambda: load_kernel(file, _FUNCTION),
        arguments=arguments,
    )


def value(point: Point, measured: Measured) -> float:
    if point.metric.lower().startswith(_LATENCY):
        return measured.duration_s + measured.launch_s
    return profile_value(point, measured)


def target(point: Point) -> Target:
    if point.metric.lower().startswith(_LATENCY):
        return Target("NKIBench: latency", "median", 0.20)
    if "bytes" in point.metric:
        return Target("NKIBench: bytes", "report")
    return Target("NKIBench: other metrics", "report")


def _kernel_file(point: Point, kernels: Path) -> Path:
    """The file that the point names, or the only one of its problem and sizes.

    Errors: `CannotRun` where there is none, or more than one.
    """
    named = _FILE.search(point["source_of_kernel"])
    if named is not None:
        file = kernels / f"{named[1]}.py"
        if not file.is_file():
            raise CannotRun(f"{_FOLDER} has no kernels/{file.name}")
        return file
    wanted = _words(Path(point["kernel"]))
    files = [file for file in kernels.glob("*.py") if _words(file) == wanted]
    if len(files) != 1:
        raise CannotRun(f"{_FOLDER} has {len(files)} kernels for {point['kernel']!r}")
    return files[0]


def _words(file: Path) -> list[str]:
    """A problem and its sizes, in whatever order a name has them."""
    return sorted(_VARIANT.sub("", file.name.removesuffix(".py")).split("_"))
