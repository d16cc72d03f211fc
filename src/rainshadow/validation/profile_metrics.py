"""Knows how the metrics of AWS's profiler are computed from a timed kernel, by their names."""

from __future__ import annotations

import re
from collections.abc import Callable

from rainshadow.isa.instruction import Signature
from rainshadow.validation.launch import CannotRun
from rainshadow.validation.measured import Measured
from rainshadow.validation.points import Point

#: AWS's profiler divides by the HBM bandwidth of two cores.
_MBU_CORES = 2
_PS = 1e-12
_ENGINE = re.compile(
    r"^(tensor|vector|scalar|gpsimd) ?(?:e|engine) active (time percent|time|share|percent|%)"
)


def profile_value(point: Point, measured: Measured) -> float:
    """The metric that the point names.

    Errors: `CannotRun` for one that Rainshadow does not compute.
    """
    metric = " ".join(point.metric.lower().replace("_", " ").split())
    match = _ENGINE.match(metric)
    if match is not None:
        active = measured.active_s(measured.rows(_on(match[1])))
        return active if match[2] == "time" else active / measured.duration_s
    for words, compute in _METRICS.items():
        if metric.startswith(words.lower()):
            return compute(measured)
    raise CannotRun(f"no rule for the metric {point.metric!r}")


def _on(engine: str) -> Callable[[Signature], bool]:
    return lambda signature: signature.engine == engine


def _dma_active_s(measured: Measured) -> float:
    return measured.active_s(measured.rows(_on("dma")))


def _dma_packets_s(measured: Measured) -> float:
    """Time of all descriptors, summed over the engines of the core."""
    busy = measured.slowest.busy_ps[measured.rows(_on("dma"))]
    return float(busy.sum()) * _PS * measured.core.dma.engines.value


def _matmul_instructions(measured: Measured) -> float:
    """The profiler counts two for a float32 nc_matmul."""
    trace = measured.slowest.trace
    return float(
        trace.total(
            lambda signature: (
                (2 if signature["moving"].dtype == "float32" else 1)
                if signature.opcode == "nc_matmul"
                else 0
            )
        )
    )


def _tensor_instructions(measured: Measured) -> float:
    """Of TensorE: a float32 matmul is one for each of its passes."""
    passes = int(measured.core.tensor.fp32_passes.value)

    def count(signature: Signature) -> int:
        moving = signature.operands.get("moving")
        if signature.engine != "tensor":
            return 0
        return passes if moving is not None and moving.dtype == "float32" else 1

    return float(measured.slowest.trace.total(count))


def _hbm_share(measured: Measured) -> float:
    bandwidth = measured.chip.hbm.bandwidth.value * _MBU_CORES / measured.core.count.value
    return measured.hbm_bytes / measured.duration_s / bandwidth


def _flops_share(measured: Measured) -> float:
    flops = measured.slowest.trace.flops
    return flops / measured.duration_s / measured.peak_flops


_METRICS: dict[str, Callable[[Measured], float]] = {
    "profile length": lambda measured: measured.duration_s,
    "DMA active time": _dma_active_s,
    "DMA packet time summed": _dma_packets_s,
    "DMA active share": lambda measured: _dma_active_s(measured) / measured.duration_s,
    "matmul instruction count": _matmul_instructions,
    "MBU": _hbm_share,
    "HFU": _flops_share,
    "HBM read": lambda measured: measured.slowest.trace.moved_bytes("hbm", written=False),
    "HBM write": lambda measured: measured.slowest.trace.moved_bytes("hbm", written=True),
    "spill save": lambda measured: measured.slowest.trace.spilled_bytes()["saved_bytes"],
    "spill reload": lambda measured: measured.slowest.trace.spilled_bytes()["reloaded_bytes"],
    "TensorE instruction count": _tensor_instructions,
}
