"""Knows how element counts become engine time: the cost shapes that instruction files share.

The published formulas are from the AWS Neuron docs at tag v2.26.1 (nki/api/nki/isa), the last
version that prints costs; every constant comes from the machine data.
"""

from __future__ import annotations

from rainshadow.isa.instruction import OperandKind, Signature, Work
from rainshadow.machine import Chip, NeuronCore

_HALF_WIDTH = ("bfloat16", "float16")


def core_of(chip: Chip) -> NeuronCore:
    """The NeuronCore of a chip that has one (recording checked it)."""
    assert chip.core is not None, f"{chip.name} has no NeuronCore"
    return chip.core


def vector_work(chip: Chip, cycles: float) -> Work:
    """VectorE busy for max(minimum initiation interval, cycles)."""
    vector = core_of(chip).vector
    clock = vector.clock.value
    busy = max(vector.min_initiation_cycles.value, cycles) / clock
    return Work(busy, vector.fixed_latency_cycles.value / clock)


def scalar_work(chip: Chip, cycles: float, table: str = "") -> Work:
    """ScalarE busy for max(minimum initiation interval, cycles), then its fixed latency."""
    scalar = core_of(chip).scalar
    busy = max(scalar.min_initiation_cycles.value, cycles) / scalar.clock.value
    return Work(busy, scalar.fixed_latency.value, table=table)


def gpsimd_work(chip: Chip, cycles: float) -> Work:
    """GpSimdE: a start-up of about 150 cycles, then the work."""
    gpsimd = core_of(chip).gpsimd
    return Work((gpsimd.start_cycles.value + cycles) / gpsimd.clock.value)


def unpublished_work(signature: Signature, chip: Chip, elements: float) -> Work:
    """An instruction of VectorE or GpSimdE whose cost AWS does not publish: assumed, with a range.

    See `unpublished_element_cycles` of the machine data.
    """
    core = core_of(chip)
    if signature.engine == "gpsimd":
        return gpsimd_work(chip, elements * core.gpsimd.unpublished_element_cycles.value)
    return vector_work(chip, elements * core.vector.unpublished_element_cycles.value)


def engine_work(signature: Signature, chip: Chip, cycles: float, table: str = "") -> Work:
    """The work on whichever of VectorE, ScalarE and GpSimdE the signature names."""
    match signature.engine:
        case "scalar":
            return scalar_work(chip, cycles, table)
        case "gpsimd":
            return gpsimd_work(chip, cycles)
        case _:
            return vector_work(chip, cycles)


def tensor_work(chip: Chip, cycles: float) -> Work:
    """TensorE busy for `cycles` of its clock."""
    tensor = core_of(chip).tensor
    return Work(cycles / tensor.clock.value, tensor.fixed_latency.value)


def is_half_width(*kinds: OperandKind | None) -> bool:
    """True if all operands given are bf16 or fp16."""
    return all(kind is None or kind.dtype in _HALF_WIDTH for kind in kinds)


def in_psum(*kinds: OperandKind | None) -> bool:
    """True if any operand given lies in PSUM."""
    return any(kind is not None and kind.space == "psum" for kind in kinds)


def copy_rate(signature: Signature, chip: Chip, source: OperandKind) -> float:
    """VectorE's elements per cycle and partition for copies and tensor_scalar.

    NeuronCore-v3 guide, performance mode: the 4x factor needs bf16/fp16, both operands in SBUF
    and contiguous; the 2x factor bf16/fp16 otherwise. 1 without the mode.
    """
    vector = core_of(chip).vector
    dst = signature.dst
    if signature.engine != "vector" or not is_half_width(source, dst):
        return 1.0
    if in_psum(source, dst) or not (source.unit_stride and dst.unit_stride):
        return vector.perf_mode_factor_2x.value
    return vector.perf_mode_factor_4x.value


def hbm_s(chip: Chip, signature: Signature) -> float:
    """Time of all bytes read from and written to HBM at the core's share of its bandwidth."""
    moved = sum(kind.total_bytes for kind in signature.operands.values() if kind.space == "hbm")
    return moved * core_of(chip).count.value / chip.hbm.bandwidth.value


def dma_work(
    chip: Chip, signature: Signature, *, efficiency: float = 1.0, num_transfers: int = 1
) -> Work:
    """A DMA of descriptors ("rows") over the 16 engines of a core.

    Each row costs a fixed overhead and its bytes at the streaming rate of one engine; rows are
    dealt to the engines in turn, and all of them together cannot beat the sustained rate of the
    engines, nor HBM the core's share of its bandwidth: a copy within HBM reads and writes it.
    num_transfers: how many of the size the engines move. Published measurements behind the
    constants: see the `core.dma` section of the machine data.
    """
    dma = core_of(chip).dma
    engines = int(dma.engines.value)
    kinds = list(signature.operands.values())
    moved = max(kind.total_bytes for kind in kinds)
    run = max(1, min(kind.run_bytes for kind in kinds))
    rows = -(-moved // run)
    row_s = dma.row_overhead.value + run / (dma.row_stream_bandwidth.value * efficiency)
    sustained = engines * dma.bandwidth_per_engine.value * efficiency
    transfers = num_transfers * max(rows * row_s / engines, moved / sustained)
    occupancy = max(transfers, hbm_s(chip, signature))
    alone = -(-rows // engines) * row_s
    hardware = signature.params.get("trigger") in ("sync", "scalar")
    issue = dma.hardware_descriptor_issue if hardware else dma.software_descriptor_issue
    return Work(occupancy, max(0.0, alone - occupancy / num_transfers), issue.value)
