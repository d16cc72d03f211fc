"""Knows how element counts become engine time: the cost shapes that instruction files share.

The published formulas are from the AWS Neuron docs at tag v2.26.1 (nki/api/nki/isa), the last
version that prints costs; every constant comes from the machine data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rainshadow.isa.instruction import OperandKind, Signature, Work
from rainshadow.machine import Chip, NeuronCore
from rainshadow.machine.chip import TensorEngine

#: Four row groups times four column groups of TensorE.
_ALL_CELLS = (1 << 16) - 1
_HALF_WIDTH = ("bfloat16", "float16")
_EIGHT_BITS = ("float8_e4m3", "float8_e4m3fn", "float8_e5m2")


def core_of(chip: Chip) -> NeuronCore:
    """The NeuronCore of a chip that has one (recording checked it)."""
    assert chip.core is not None, f"{chip.name} has no NeuronCore"
    return chip.core


def vector_work(signature: Signature, chip: Chip, cycles: float) -> Work:
    """VectorE busy for its operands' set-up and `cycles`, at least its initiation interval.

    An instruction that reads the result waits for the rest of the static overhead.
    """
    vector = core_of(chip).vector
    clock, setup = vector.clock.value, vector.access_setup_cycles.value
    if in_psum(*signature.operands.values()):
        setup = vector.psum_setup_cycles.value
    busy = max(vector.min_initiation_cycles.value, setup + cycles)
    overhead = vector.dependent_overhead_cycles.value
    return Work(busy / clock, max(0.0, overhead - setup) / clock)


def scalar_work(chip: Chip, cycles: float, table: str = "") -> Work:
    """ScalarE busy for its operands' set-up and `cycles`, at least its initiation interval.

    The result is there when the rest of the fixed latency is over.
    """
    scalar = core_of(chip).scalar
    clock, setup = scalar.clock.value, scalar.access_setup_cycles.value
    busy = max(scalar.min_initiation_cycles.value, setup + cycles) / clock
    return Work(busy, scalar.fixed_latency.value - setup / clock, table=table)


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
    return vector_work(signature, chip, elements * core.vector.unpublished_element_cycles.value)


def engine_work(signature: Signature, chip: Chip, cycles: float, table: str = "") -> Work:
    """The work on whichever of VectorE, ScalarE and GpSimdE the signature names."""
    match signature.engine:
        case "scalar":
            return scalar_work(chip, cycles, table)
        case "gpsimd":
            return gpsimd_work(chip, cycles)
        case _:
            return vector_work(signature, chip, cycles)


def tensor_work(
    chip: Chip, cycles: float, stationary_cycles: float, params: Mapping[str, Any] | None = None
) -> Work:
    """TensorE busy for `cycles` of its clock; loading the stationary operand takes a part of what
    streaming as many columns would. params: of a matmul that may use a tile of the array; tiles
    that share no cell run at the same time.
    """
    tensor = core_of(chip).tensor
    load = stationary_cycles / tensor.load_stationary_speedup.value
    clock = tensor.clock.value
    cells = _cells(tensor, params or {})
    return Work(
        cycles / clock,
        tensor.fixed_latency.value,
        preload_s=load / clock,
        cells=cells,
        interval_s=tensor.min_initiation_cycles.value / clock if cells else 0.0,
    )


def _cells(tensor: TensorEngine, params: Mapping[str, Any]) -> int:
    """The cells of `Work` under the array's tile that the matmul names, 0 for the whole array."""
    position, size = params.get("tile_position"), params.get("tile_size")
    if not position or not size:
        return 0
    cell_rows, cell_columns = int(tensor.rows.value) // 4, int(tensor.columns.value) // 4
    rows = range(position[0] // cell_rows, -(-(position[0] + size[0]) // cell_rows))
    columns = range(position[1] // cell_columns, -(-(position[1] + size[1]) // cell_columns))
    cells = sum(1 << (4 * row + column) for row in rows for column in columns)
    return 0 if cells == _ALL_CELLS else cells


def is_half_width(*kinds: OperandKind | None) -> bool:
    """True if all operands given are bf16 or fp16."""
    return all(kind is None or kind.dtype in _HALF_WIDTH for kind in kinds)


def in_psum(*kinds: OperandKind | None) -> bool:
    """True if any operand given lies in PSUM."""
    return any(kind is not None and kind.space == "psum" for kind in kinds)


def copy_rate(signature: Signature, chip: Chip, source: OperandKind) -> float:
    """VectorE's elements per cycle and partition for copies and tensor_scalar.

    NeuronCore-v3 guide, performance mode: the 4x factor needs bf16/fp16, both operands in SBUF
    and contiguous; the 2x factor bf16/fp16 otherwise. 1 without the mode. Writing fp8 has the 2x
    factor in the published profile of rmsnorm_quant: 9.0 us for 16,384 elements.
    """
    vector = core_of(chip).vector
    dst = signature.dst
    if signature.engine != "vector" or not is_half_width(source):
        return 1.0
    if not is_half_width(dst):
        return vector.perf_mode_factor_2x.value if dst.dtype in _EIGHT_BITS else 1.0
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

    From v3 on an engine moves the rows of eight neighbouring partitions of SBUF, so a tile of few
    partitions is moved by few engines; before, and between tensors of HBM, all share them. A row is
    what lies contiguous in HBM, and costs a fixed overhead and its bytes at the streaming rate of
    one engine; all DMAs together share the core's part of the HBM bandwidth. num_transfers: how
    many of the size are moved.
    Published measurements behind the constants: see the `core.dma` section of the machine data.
    """
    core = core_of(chip)
    dma = core.dma
    engines = int(dma.engines.value)
    kinds = list(signature.operands.values())
    moved = max(kind.total_bytes for kind in kinds)
    first, used = 0, engines
    moved_each = moved / engines
    lanes = int(dma.engine_partitions.value)
    tile = next((kind for kind in kinds if kind.space == "sbuf"), None)
    if lanes and tile is not None:
        first = tile.start // lanes
        used = min(engines, -(-(tile.start + tile.partitions) // lanes)) - first
        moved_each = moved * min(lanes, tile.partitions) / tile.partitions
    in_hbm = [kind.run_bytes for kind in kinds if kind.space == "hbm"]
    run = min(in_hbm or [kind.run_bytes for kind in kinds])
    rows = moved_each / max(1, min(run, moved_each if tile is None or lanes else moved))
    stream = dma.row_stream_bandwidth.value * efficiency
    busy = rows * dma.row_overhead.value + moved_each / stream
    hardware = signature.params.get("trigger") in ("sync", "scalar")
    issue = dma.hardware_descriptor_issue if hardware else dma.software_descriptor_issue
    return Work(
        num_transfers * busy,
        issue_s=issue.value,
        first_engine=first,
        num_engines=used,
        hbm_s=hbm_s(chip, signature),
    )
