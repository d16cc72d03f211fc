"""The two kernels of AWS's DMA overview, load, exp and store, read off their trn2 timelines."""

from __future__ import annotations

import re
from collections.abc import Callable

from rainshadow.isa.instruction import work_of
from rainshadow.nki.kernel import Shape
from rainshadow.validation.checkouts import Checkouts
from rainshadow.validation.launch import CannotRun, KernelLaunch
from rainshadow.validation.measured import Measured
from rainshadow.validation.points import Point
from rainshadow.validation.target import Target

_DOCUMENT = "nki/get-started/about/nki-dma-overview.rst"
_FUNCTION = "tensor_exp_kernel_isa"
_SHAPE = re.compile(r"\[(\d+),(\d+)\]")
_PS = 1e-12


def claims(point: Point) -> bool:
    return _FUNCTION in point["source_of_kernel"]


def launch(point: Point, checkouts: Checkouts) -> KernelLaunch:
    match = _SHAPE.search(point["source_of_kernel"])
    if match is None:
        raise CannotRun(f"no shape in {point['source_of_kernel']!r}")
    shape = (int(match[1]), int(match[2]))
    words = [f"an input tensor of shape {match[0]}"]
    return KernelLaunch(
        name=f"dma overview {shape}",
        chip=point["device"],
        lnc=1,
        kernel=lambda: checkouts.kernel_of_block("aws-neuron-sdk", _DOCUMENT, _FUNCTION, words),
        arguments=lambda: {"in_tensor": Shape(shape, "bfloat16")},
    )


def value(point: Point, measured: Measured) -> float:
    for words, compute in _EVENTS.items():
        if f"{point['kernel']}: {point.metric}".startswith(words):
            return compute(measured)
    raise CannotRun(f"no rule for {point['kernel']!r}, {point.metric!r}")


def target(point: Point) -> Target:
    return Target("DMA and activation events", "each", 0.15)


def _moving(measured: Measured, row: int) -> float:
    """From the first byte of a DMA to its last one."""
    return float(measured.done_ps[row] - measured.slowest.start_ps[row]) * _PS


def _load(measured: Measured) -> float:
    return _moving(measured, 0)


def _store(measured: Measured) -> float:
    return _moving(measured, -1)


def _one_engine(measured: Measured) -> float:
    """What each of the engines is busy with the load."""
    return float(work_of(measured.slowest.trace.signatures[0], measured.chip).occupancy_s)


def _completion(measured: Measured) -> float:
    return float(measured.slowest.start_ps[1] - measured.done_ps[0]) * _PS


def _table_load(measured: Measured) -> float:
    return float(measured.core.scalar.activation_table_load.value)


def _activation(measured: Measured) -> float:
    """From its start, without the table load, until its result can be read."""
    timeline = measured.slowest
    return float(timeline.end_ps[1] - timeline.start_ps[1]) * _PS - _table_load(measured)


def _trigger(measured: Measured) -> float:
    return float(measured.core.dma.trigger_latency.value)


def _whole(measured: Measured) -> float:
    """From the first trigger to the last byte."""
    timeline = measured.slowest
    completion = measured.core.dma.completion_latency.value
    return _trigger(measured) + timeline.duration_ps * _PS - completion


_EVENTS: dict[str, Callable[[Measured], float]] = {
    "dma_copy HBM->SBUF:": _load,
    "32 KiB over 16 engines:": _load,
    "one DMA engine 2 KiB": _one_engine,
    "dma_copy SBUF->HBM:": _store,
    "DMA end -> waiting engine start:": _completion,
    "activation table load:": _table_load,
    "activation exp:": _activation,
    "SWDGE trigger -> first DMA byte:": _trigger,
    "load+exp+store:": _whole,
}
