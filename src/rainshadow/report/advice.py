"""What would make a kernel quicker, and by how much: the same instructions, timed differently.

Each experiment takes one cost away and times the Trace again, so its figure is the most that a
change of the kernel can save there; the figures do not add up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rainshadow.errors import RainshadowError
from rainshadow.isa.instruction import OperandKind, Signature
from rainshadow.machine import Chip
from rainshadow.machine.what_if import what_if
from rainshadow.sim.launch_timing import time_launch
from rainshadow.sim.place_again import place_apart
from rainshadow.sim.timeline import Timeline
from rainshadow.sim.timing import TimingOptions
from rainshadow.sim.trace import Trace

_PS_PER_S = 1e12
#: Savings below this share of the kernel's time are left out.
_LEAST_FRACTION = 0.01
#: More than any kernel needs.
_ENDLESS = "1000000 TB/s"


@dataclass(frozen=True, slots=True)
class _Experiment:
    """without: what is taken away.  how: what to change in the kernel."""

    without: str
    how: str
    change: Callable[[Trace, Chip], tuple[Trace, Chip]]


def advise(
    launch: Sequence[Timeline], core: int, chip: Chip, options: TimingOptions | None = None
) -> list[dict[str, Any]]:
    """Experiments that save something, the most first: what, how, saved_s, saved_fraction.

    launch: its cores, on all of which the cost is taken away; `core` is the one that is judged.
    """
    timeline, found = launch[core], []
    for experiment in _EXPERIMENTS:
        try:
            changes = [experiment.change(each.trace, chip) for each in launch]
            traces, machine = [trace for trace, _ in changes], changes[core][1]
            changed = time_launch(traces, machine, options)[core]
        except RainshadowError:
            continue  # a cost that this chip does not have
        saved = timeline.duration_ps - changed.duration_ps
        fraction = saved / timeline.duration_ps if timeline.duration_ps else 0.0
        if fraction >= _LEAST_FRACTION:
            found.append(
                {
                    "without": experiment.without,
                    "how": experiment.how,
                    "saved_s": saved / _PS_PER_S,
                    "saved_fraction": fraction,
                }
            )
    return sorted(found, key=lambda row: -row["saved_fraction"])


def _on(changes: str) -> Callable[[Trace, Chip], tuple[Trace, Chip]]:
    return lambda trace, chip: (trace, what_if(chip, changes))


def _apart(trace: Trace, chip: Chip) -> tuple[Trace, Chip]:
    return place_apart(trace), chip


def _half_width_matmuls(trace: Trace, chip: Chip) -> tuple[Trace, Chip]:
    return replace(trace, signatures=tuple(map(_half_width, trace.signatures))), chip


def _half_width(signature: Signature) -> Signature:
    if signature.opcode != "nc_matmul":
        return signature
    operands = {
        name: replace(kind, dtype="bfloat16", **_halved(kind))
        if kind.dtype == "float32" and name not in signature.writes
        else kind
        for name, kind in signature.operands.items()
    }
    return replace(signature, operands=operands)


def _halved(kind: OperandKind) -> dict[str, int]:
    return {"run_bytes": kind.run_bytes // 2, "total_bytes": kind.total_bytes // 2}


_EXPERIMENTS = (
    _Experiment(
        "waits for SBUF and PSUM that other tiles hold",
        "give loads and results more buffers, or make tiles smaller",
        _apart,
    ),
    _Experiment(
        "the bandwidth of HBM and of the DMA engines",
        "keep in SBUF what is loaded again, or move fewer bytes: a narrower dtype, fused steps",
        _on(f"hbm.bandwidth={_ENDLESS},dma.bandwidth_per_engine={_ENDLESS},"
            f"dma.row_stream_bandwidth={_ENDLESS}"),
    ),
    _Experiment(
        "the fixed cost of each row of a DMA",
        "move longer contiguous rows: load several tiles at once, let rows run along the free axis",
        _on("dma.row_overhead=0s"),
    ),
    _Experiment(
        "the latency of DMAs",
        "start loads earlier, while what came before is computed, or in fewer and larger pieces",
        _on("dma.trigger_latency=0s,dma.completion_latency=0s,dma.engine_stagger=0s,"
            "dma.software_descriptor_issue=0s,dma.hardware_descriptor_issue=0s"),
    ),
    _Experiment(
        "loading ScalarE's activation tables",
        "group activations that share a table, or move some to another engine",
        _on("scalar.activation_table_load=0s"),
    ),
    _Experiment(
        "float32 operands of matmuls",
        "cast them to bfloat16 where the result allows it",
        _half_width_matmuls,
    ),
    _Experiment(
        "hand-overs between engines",
        "let one engine do steps that follow each other, on larger tiles",
        _on("core.semaphore_latency=0s"),
    ),
    *(
        _Experiment(
            f"the time of {label}",
            f"do less on {label}, in fewer and larger instructions, or on an engine that is idle",
            _on(f"{name}.clock=1000000 GHz" + more),
        )
        for name, label, more in (
            ("vector", "VectorE", ""),
            ("scalar", "ScalarE", ",scalar.fixed_latency=0s"),
            ("gpsimd", "GpSimdE", ""),
            ("tensor", "TensorE", ",tensor.fixed_latency=0s"),
        )
    ),
)  # fmt: skip
