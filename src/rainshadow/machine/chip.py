"""Knows what a chip's description holds: every leaf is a Figure with source and grade.

Reading the files is left to `machine.load`. `quantity("Hz")` declares a leaf's dimension.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rainshadow.sources import Figure


def quantity(dimension: str, *, optional: bool = False) -> Any:
    """A dataclass field that holds a Figure of `dimension`."""
    metadata = {"dimension": dimension}
    if optional:
        return field(default=None, metadata=metadata)
    return field(metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hbm:
    """Memory of the whole chip."""

    capacity: Figure = quantity("B")
    bandwidth: Figure = quantity("B/s")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEngine:
    """The systolic array: rows hold the contraction axis, columns the stationary free axis."""

    clock: Figure = quantity("Hz")
    rows: Figure = quantity("count")
    columns: Figure = quantity("count")
    stationary_free_max: Figure = quantity("count")
    moving_free_max: Figure = quantity("count")
    min_initiation_cycles: Figure = quantity("count")
    fp32_passes: Figure = quantity("count")
    fp8_rate: Figure = quantity("count")
    load_stationary_speedup: Figure = quantity("count")
    fixed_latency: Figure = quantity("s")


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorEngine:
    """One element per partition and cycle, times a performance-mode factor.

    access_setup_cycles, psum_setup_cycles: before the first element, where all operands are in
    SBUF and where one is in PSUM.  dependent_overhead_cycles: beyond the elements, from an
    instruction's start to that of one that reads its result.
    quad_rate: elements per cycle of exponential, quantize_mx and rand2.
    unpublished_element_cycles: per element, of instructions whose cost AWS does not publish.
    """

    clock: Figure = quantity("Hz")
    min_initiation_cycles: Figure = quantity("count")
    access_setup_cycles: Figure = quantity("count")
    psum_setup_cycles: Figure = quantity("count")
    dependent_overhead_cycles: Figure = quantity("count")
    perf_mode_factor_2x: Figure = quantity("count")
    perf_mode_factor_4x: Figure = quantity("count")
    quad_rate: Figure = quantity("count")
    unpublished_element_cycles: Figure = quantity("count")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalarEngine:
    """One element per partition and cycle; functions come from loadable tables.

    access_setup_cycles: before the first element, part of fixed_latency.
    """

    clock: Figure = quantity("Hz")
    min_initiation_cycles: Figure = quantity("count")
    access_setup_cycles: Figure = quantity("count")
    fixed_latency: Figure = quantity("s")
    activation_table_load: Figure = quantity("s")
    read_accumulator_cycles: Figure = quantity("count")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpsimdEngine:
    """Eight programmable cores.

    unpublished_element_cycles: per element, of instructions whose cost AWS does not publish.
    """

    clock: Figure = quantity("Hz")
    start_cycles: Figure = quantity("count")
    unpublished_element_cycles: Figure = quantity("count")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncEngine:
    """The engine that only starts DMAs and handles semaphores."""

    clock: Figure = quantity("Hz")


@dataclass(frozen=True, slots=True, kw_only=True)
class DmaEngines:
    """The DMA engines of one core.

    engine_partitions: neighbouring partitions of SBUF whose rows an engine moves; 0 where rows are
    dealt to all engines.  engine_stagger: from one engine's start to the next one's.
    """

    engines: Figure = quantity("count")
    engine_partitions: Figure = quantity("count")
    bandwidth_per_engine: Figure = quantity("B/s")
    row_overhead: Figure = quantity("s")
    row_stream_bandwidth: Figure = quantity("B/s")
    trigger_latency: Figure = quantity("s")
    engine_stagger: Figure = quantity("s")
    completion_latency: Figure = quantity("s")
    software_descriptor_issue: Figure = quantity("s")
    hardware_descriptor_issue: Figure = quantity("s")
    transpose_efficiency_hbm: Figure = quantity("count")
    transpose_efficiency_sbuf: Figure = quantity("count")
    accumulate_efficiency: Figure = quantity("count")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sbuf:
    """State buffer, per partition; usable: what kernels may allocate.

    min_align: what first bytes within a partition are multiples of.
    spill_headroom: what stays free for tiles on their way where the compiler moves some away.
    vector_gpsimd_ports: how many of VectorE and GpSimdE can access it at once.
    """

    bytes_per_partition: Figure = quantity("B")
    min_align: Figure = quantity("B")
    usable_bytes_per_partition: Figure = quantity("B")
    spill_headroom_bytes_per_partition: Figure = quantity("B")
    vector_gpsimd_ports: Figure = quantity("count")


@dataclass(frozen=True, slots=True, kw_only=True)
class Psum:
    """Partial-sum buffer, per partition; min_align: as of SBUF.

    vector_scalar_ports: how many of VectorE and ScalarE can access it at once.
    """

    bytes_per_partition: Figure = quantity("B")
    min_align: Figure = quantity("B")
    banks: Figure = quantity("count")
    bank_bytes_per_partition: Figure = quantity("B")
    vector_scalar_ports: Figure = quantity("count")


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """What collectives between ranks of one server use.

    bandwidth: a core's share of its chip's links, per direction.  hop_latency: per step of an
    algorithm.  mesh_largest, halving_largest: the message sizes up to which the mesh, and
    recursive halving and doubling, are AWS's choice.
    """

    bandwidth: Figure = quantity("B/s")
    hop_latency: Figure = quantity("s")
    mesh_largest: Figure = quantity("B")
    halving_largest: Figure = quantity("B")


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuronCore:
    """One core; count: cores per chip; semaphore_latency: signal of one engine to another."""

    count: Figure = quantity("count")
    partitions: Figure = quantity("count")
    semaphore_latency: Figure = quantity("s")
    tensor: TensorEngine
    vector: VectorEngine
    scalar: ScalarEngine
    gpsimd: GpsimdEngine
    sync: SyncEngine
    dma: DmaEngines
    sbuf: Sbuf
    psum: Psum
    links: Links


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Fixed time to start and end a kernel, by logical-core size.

    benchmark: what nki.benchmark's latencies hold of it.
    """

    lnc1: Figure = quantity("s")
    lnc2: Figure = quantity("s")
    benchmark: Figure | None = quantity("s", optional=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One chip. peak_flops: dense, whole chip, by NKI dtype name.

    achievable_matmul_fraction, achievable_fp8_fraction: best measured bf16 or fp8 matmul over peak,
    where anyone has published one.  host_link: to its host, per direction, where it is not PCIe.
    family "cpu": a host, never planned on as an accelerator.
    """

    name: str
    title: str
    vendor: str
    family: str
    generation: str | None = None
    aliases: tuple[str, ...] = ()
    peak_flops: dict[str, Figure] = field(metadata={"dimension": "FLOPS"})
    hbm: Hbm
    tdp: Figure | None = quantity("W", optional=True)
    achievable_matmul_fraction: Figure | None = quantity("count", optional=True)
    achievable_fp8_fraction: Figure | None = quantity("count", optional=True)
    host_link: Figure | None = quantity("B/s", optional=True)
    core: NeuronCore | None = None
    launch: Launch | None = None

    @property
    def core_hbm_bytes(self) -> int:
        """One core's share of the chip's HBM capacity, in bytes.

        Errors: AssertionError for a chip without NeuronCores (callers check `core`).
        """
        assert self.core is not None, f"{self.name} has no NeuronCore"
        return int(self.hbm.capacity.value) // int(self.core.count.value)

    @property
    def core_peak_flops(self) -> float:
        """bf16 FLOP/s of one core's tensor engine: rows x columns x 2 x clock.

        Errors: AssertionError for a chip without NeuronCores (callers check `core`).
        """
        assert self.core is not None, f"{self.name} has no NeuronCore"
        tensor = self.core.tensor
        return tensor.rows.value * tensor.columns.value * 2 * tensor.clock.value
