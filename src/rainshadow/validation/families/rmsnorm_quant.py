"""nki-library's RMSNorm with quantization: reference times, a published profile, and targets."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from rainshadow.isa.instruction import Signature
from rainshadow.nki.kernel import Shape
from rainshadow.validation.checkouts import Checkouts, module_from
from rainshadow.validation.launch import CannotRun, KernelLaunch
from rainshadow.validation.measured import Measured
from rainshadow.validation.nki_library import (
    CHECKOUT,
    FAMILY_MEDIAN,
    LIBRARY,
    chip_of,
    integer,
    source_folder,
)
from rainshadow.validation.points import Point
from rainshadow.validation.target import Target

_MODULE = "nkilib_src.nkilib.core.rmsnorm.rmsnorm_quant"
_TYPES = "nkilib_src.nkilib.core.utils.common_types"
_PLAIN = re.compile(r"B(\d+) S(\d+) H(\d+) LNC(\d)")
#: Words of a phase of the published profile -> opcodes of its instructions and their engine. The
#: largest of them count: one activation of the same opcode only finishes the norm.
_PHASES = {
    "ScalarE activation_reduce": (("activation",), "scalar"),
    "VectorE 32 x scalar_tensor_tensor": (("scalar_tensor_tensor",), "vector"),
    # Today's kernel has the absolute maximum from a tensor_scalar_reduce.
    "VectorE tensor_reduce": (("tensor_reduce", "tensor_scalar_reduce"), "vector"),
    "VectorE tensor_scalar": (("tensor_scalar",), "vector"),
    "DMA load": (("dma_copy",), "dma"),
}


def claims(point: Point) -> bool:
    return "rmsnorm_quant.py" in point["source_of_kernel"]


def launch(point: Point, checkouts: Checkouts) -> KernelLaunch:
    options = _options(point)
    folder = source_folder(checkouts)
    return KernelLaunch(
        name=f"rmsnorm_quant {sorted(options.items())}",
        chip=chip_of(point),
        lnc=integer(options, "lnc", 2),
        kernel=lambda: module_from(folder, _MODULE).rmsnorm_quant_kernel,
        arguments=lambda: _arguments(folder, options),
    )


def _options(point: Point) -> dict[str, str]:
    """Of either form of the column "shapes". How the data were made does not change the time."""
    plain = _PLAIN.match(point["shapes"])
    if plain:
        names = ("batch", "seqlen", "hidden", "lnc")
        return {**dict(zip(names, plain.groups(), strict=True)), "quant": "ROW"}
    options = point.options
    if not {"batch", "seqlen", "hidden", "quant"} <= options.keys():
        raise CannotRun(f"shapes {point['shapes']!r} say no batch, seqlen, hidden and quant")
    return {name: text for name, text in options.items() if name != "gen"}


def _arguments(folder: Path, options: dict[str, str]) -> dict[str, Any]:
    kernels, types = module_from(folder, _MODULE), module_from(folder, _TYPES)
    hidden = integer(options, "hidden")
    shape = (integer(options, "batch"), integer(options, "seqlen"), hidden)
    quant = types.QuantizationType[options["quant"]]
    only = options.get("quant_only") == "True"
    norm = types.NormType.NO_NORM if only else types.NormType.RMS_NORM
    bound = float(options.get("lower_bound", 0.0))
    given: dict[str, Any] = {
        "hidden": Shape(shape, "bfloat16"),
        "ln_w": Shape((1, hidden) if integer(options, "lnc", 2) > 1 else (hidden,), "bfloat16"),
        "kargs": kernels.RmsNormQuantKernelArgs(
            quantization_type=quant, lower_bound=bound, norm_type=norm, eps=1e-6
        ),
    }
    if options["quant"] == "STATIC":
        given["input_dequant_scale"] = Shape((128, 1), "float32")
    return given


def value(point: Point, measured: Measured) -> float:
    if point.metric.startswith("duration read off"):
        return _phase(point["kernel"], measured)
    return measured.duration_s + measured.launch_s


def _phase(words: str, measured: Measured) -> float:
    for start, (opcodes, engine) in _PHASES.items():
        if not words.startswith(start):
            continue
        phase = [
            signature
            for signature in measured.slowest.trace.signatures
            if signature.opcode in opcodes
            and signature.engine == engine
            and (engine != "dma" or signature.dst.space == "sbuf")
        ]
        largest = max((s.elements * s.partitions for s in phase), default=0)
        chosen = {id(s) for s in phase if s.elements * s.partitions == largest}
        return measured.span_s(measured.rows(partial(_is_one_of, chosen)))
    raise CannotRun(f"no rule for the phase {words!r}")


def _is_one_of(chosen: set[int], signature: Signature) -> bool:
    return id(signature) in chosen


def target(point: Point) -> Target:
    if point.metric.startswith("duration read off"):
        return Target("rmsnorm_quant: phases of the profile", "each", 0.15)
    if point.metric.startswith("target"):
        return Target(
            "rmsnorm_quant: AWS's targets",
            "report",
            remark="goals that AWS's document sets; no measurement of them is published.",
        )
    return Target(f"{CHECKOUT}: rmsnorm_quant", "median", FAMILY_MEDIAN, LIBRARY)
