"""Knows the hardware rules that many instructions share; each raises NkiValidationError.

Source: AWS Neuron docs 2.32, nki.isa API reference and the NeuronCore architecture guides.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow import dtypes
from rainshadow.errors import NkiValidationError
from rainshadow.isa import columns, mx
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import core_of
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import ACCESSORS, Instruction
from rainshadow.isa.integers import shown
from rainshadow.isa.memory import Space
from rainshadow.isa.operators import SINCE_V4, AluOperator
from rainshadow.machine import Chip

#: What TensorE multiplies.
_MATMUL_DTYPES = (
    *("float8_e4m3", "float8_e4m3fn", "float8_e5m2"),
    *("bfloat16", "float16", "tfloat32", "float32"),
)
#: Largest number of partitions by start partition (NeuronCore guides, "start partition").
_QUADRANT = 32


def is_tensor(value: Any) -> bool:
    return isinstance(value, AccessPattern)


def require_tensor(opcode: str, **operands: Any) -> None:
    """Every operand is an NKI tensor."""
    for name, value in operands.items():
        if not isinstance(value, AccessPattern):
            raise NkiValidationError(
                f"{opcode}: {name} is {type(value).__name__}",
                allowed="an NKI tensor (nl.ndarray, or a view of one)",
            )


def require_addressing(instr: Instruction, chip: Chip) -> None:
    """Only operands of `INDIRECT` have rows, of `COLUMNS` columns, that an index tile picks."""
    for name in (*instr.READS, *instr.WRITES):
        view = getattr(instr, name)
        if not is_tensor(view) or view.indirection is None:
            continue
        of_columns = columns.picks_columns(view)
        if name not in (instr.COLUMNS if of_columns else instr.INDIRECT):
            what = "columns" if of_columns else "rows"
            raise NkiValidationError(
                f"{instr.opcode}: the {what} of {name} are picked by an index tile",
                allowed="plain operands",
                fix=f"gather the {what} with nisa.dma_copy or nisa.nc_n_gather first",
            )
    columns.require_columns(instr, str(chip.generation))


def require_real(instr: Instruction) -> None:
    """No number is complex: NumPy would drop its imaginary part."""
    for name in (*instr.PARAMS, *instr.READS):
        if isinstance(getattr(instr, name), complex | np.complexfloating):
            raise NkiValidationError(f"{instr.opcode}: {name} is complex", allowed="real numbers")


def require_flags(instr: Instruction) -> None:
    """What says yes or no is True or False, or 1 or 0."""
    for name in ACCESSORS[type(instr)].flags:
        require_flag(instr.opcode, name, getattr(instr, name))


def require_flag(opcode: str, name: str, value: Any) -> None:
    """True or False, or 1 or 0."""
    if not isinstance(value, int | np.bool_ | np.integer) or value not in (0, 1):
        raise NkiValidationError(f"{opcode}: {name} is {shown(value)}", allowed="True or False")


def require_space(opcode: str, name: str, view: AccessPattern, *spaces: Space) -> None:
    """The operand lies in one of `spaces`."""
    if view.space not in spaces:
        allowed = " or ".join(space.value for space in spaces)
        raise NkiValidationError(
            f"{opcode}: {name} is in {view.space.value}",
            allowed=allowed,
            fix=f"move it with nisa.dma_copy or nisa.tensor_copy into {allowed} first",
        )


def require_on_chip(opcode: str, **operands: Any) -> None:
    """Operands that are tensors lie in SBUF or PSUM and start where a quadrant rule allows."""
    for name, view in operands.items():
        if isinstance(view, AccessPattern):
            require_space(opcode, name, view, Space.sbuf, Space.psum)
            require_start_partition(opcode, name, view)


def start_step(count: int) -> int:
    """What the first of `count` partitions must be a multiple of, for an engine."""
    return 128 if count > 2 * _QUADRANT else 2 * _QUADRANT if count > _QUADRANT else _QUADRANT


def require_start_partition(opcode: str, name: str, view: AccessPattern) -> None:
    """More than 64 partitions start at 0, 33 to 64 at 0 or 64, up to 32 at 0, 32, 64 or 96."""
    start, count = view.start_partition, view.shape[0]
    step = start_step(count)
    if start % step:
        raise NkiValidationError(
            f"{opcode}: {name} covers {count} partitions from partition {start}",
            allowed=f"{count} partitions start at a multiple of {step}",
            fix="place the tile at partition 0 or at a quadrant (0, 32, 64, 96)",
        )


def require_same_partitions(opcode: str, **operands: Any) -> None:
    """All tensors among the operands touch the same number of partitions."""
    counts = {n: v.shape[0] for n, v in operands.items() if isinstance(v, AccessPattern)}
    if len(set(counts.values())) > 1:
        raise NkiValidationError(
            f"{opcode}: partition counts differ: "
            + ", ".join(f"{name} has {count}" for name, count in counts.items()),
            allowed="the same number of partitions for every operand",
        )


def require_same_elements(opcode: str, **operands: Any) -> None:
    """All tensors among the operands have the same number of elements per partition."""
    counts = {n: v.elements for n, v in operands.items() if isinstance(v, AccessPattern)}
    if len(set(counts.values())) > 1:
        raise NkiValidationError(
            f"{opcode}: elements per partition differ: "
            + ", ".join(f"{name} has {count}" for name, count in counts.items()),
            allowed="the same number of elements per partition",
        )


def require_elements(opcode: str, name: str, view: AccessPattern, fewest: int, most: int) -> None:
    """The operand has `fewest` to `most` elements per partition."""
    if not fewest <= view.elements <= most:
        raise NkiValidationError(
            f"{opcode}: {name} has {view.elements} elements per partition",
            allowed=f"{fewest}" if fewest == most else f"{fewest} to {most}",
        )


def require_scalar_or_column(opcode: str, name: str, value: Any, partitions: int) -> None:
    """A number, or a tensor [partitions, 1]."""
    if isinstance(value, AccessPattern):
        require_on_chip(opcode, **{name: value})
        if value.elements != 1 or value.shape[0] != partitions:
            raise NkiValidationError(
                f"{opcode}: {name} has shape {value.shape}",
                allowed=f"a number or a tensor of shape ({partitions}, 1)",
            )
    elif not isinstance(value, int | float | np.number):
        raise NkiValidationError(
            f"{opcode}: {name} is {type(value).__name__}", allowed="a number or a tensor [P, 1]"
        )


def require_column(opcode: str, name: str, view: Any, partitions: int) -> None:
    """The operand is a tensor of one element per partition."""
    wanted = (partitions, 1)
    require_tensor(opcode, **{name: view})
    if (view.shape[0], view.elements) != wanted:
        raise NkiValidationError(
            f"{opcode}: {name} is {view.shape}", allowed=f"a column of shape {wanted}"
        )


def require_number(opcode: str, name: str, value: Any) -> None:
    """A number, Python's or NumPy's."""
    if not isinstance(value, int | float | np.number):
        raise NkiValidationError(f"{opcode}: {name} is {type(value).__name__}", allowed="a number")


def require_dtype(opcode: str, name: str, view: Any, *allowed: str) -> None:
    """A tensor operand has one of the dtypes; numbers pass."""
    if isinstance(view, AccessPattern) and view.dtype not in allowed:
        raise NkiValidationError(
            f"{opcode}: {name} is {view.dtype}",
            allowed=" or ".join(allowed),
            fix="convert it with nisa.tensor_copy into a tile of that dtype",
        )


def require_integers_for_bits(opcode: str, op: AluOperator, **operands: Any) -> None:
    """An operator on bit patterns takes tensors of integers."""
    for name, view in operands.items():
        if op.kind != "bitvec" or not isinstance(view, AccessPattern):
            continue
        if dtypes.numpy_dtype(view.dtype).kind not in "iu":
            raise NkiValidationError(
                f"{opcode}: {name} is {view.dtype}, op {op.name}",
                allowed="integer dtypes, as the operator works on bits",
                fix="use view(dtype) to see the bits of a tensor as integers",
            )


def require_arithmetic(opcode: str, *operators: AluOperator) -> None:
    """Operators that work on numbers, not on bit patterns."""
    for op in operators:
        if op.kind == "bitvec":
            raise NkiValidationError(
                f"{opcode}: operator {op.name} works on bits", allowed="arithmetic operators"
            )


def require_operator_of_chip(opcode: str, chip: Chip, *operators: AluOperator | None) -> None:
    """abs_max, abs_min, and square and relu of the ALU, are NeuronCore-v4's."""
    for op in operators:
        if op is not None and op.name in SINCE_V4 and chip.generation != "gen4":
            raise NkiValidationError(
                f"{opcode}: operator {op.name} on {chip.title} ({chip.generation})",
                allowed="gen4",
                fix="use nisa.activation for square and relu, or nl.maximum of x and -x",
            )


def require_binary(opcode: str, *operators: AluOperator) -> None:
    """Operators of two operands."""
    for op in operators:
        if op.unary:
            raise NkiValidationError(
                f"{opcode}: operator {op.name} takes one operand",
                allowed="operators of two operands",
                fix="use nisa.tensor_scalar, or nisa.activation",
            )


def require_no_operand_of_unary(opcode: str, name: str, op: AluOperator, value: Any) -> None:
    """A unary operator's other operand is None or 0."""
    if op.unary and (is_tensor(value) or (value is not None and value != 0)):
        raise NkiValidationError(
            f"{opcode}: {name} beside {op.name}, which takes one operand", allowed="None or 0"
        )


def require_float32_operand(opcode: str, name: str, op: AluOperator, value: Any) -> None:
    """Beside an arithmetic operator, an operand [partitions, 1] is float32."""
    if op.kind != "bitvec":
        require_dtype(opcode, name, value, "float32")


def require_reduce_cmd(opcode: str, command: str, *allowed: str) -> None:
    """The instruction knows the reduce_cmd."""
    if command not in allowed:
        raise NkiValidationError(
            f"{opcode}: reduce_cmd {shown(command)}", allowed=", ".join(allowed)
        )


def require_most_axes(opcode: str, name: str, view: AccessPattern, most: int) -> None:
    """The operand has at most `most` axes."""
    if view.ndim > most:
        raise NkiValidationError(
            f"{opcode}: {name} has {view.ndim} axes",
            allowed=f"up to {most}",
            fix="merge axes with reshape",
        )


def require_descriptors(opcode: str, chip: Chip, mode: str, trigger: Engine) -> None:
    """Descriptors by hardware (hwdge) from NeuronCore-v3 on, triggered by SyncE or ScalarE.

    An engine can be named with hwdge only.
    """
    if mode == "hwdge":
        require_generation(f"{opcode} with dge_mode hwdge", chip, "gen3", "gen4")
        require_engine(f"{opcode} with dge_mode hwdge", trigger, Engine.sync, Engine.scalar)
    elif trigger is not Engine.gpsimd:
        raise NkiValidationError(
            f"{opcode}: engine {trigger.name} with dge_mode {mode}",
            allowed="engine sync or scalar, with dge_mode hwdge",
            fix="pass dge_mode=nisa.dge_mode.hwdge, or no engine",
        )


def require_software_descriptors(opcode: str, mode: str, *views: Any) -> None:
    """Rows that an index tile picks need descriptors by software: dge_mode swdge or unknown.

    An address that a tensor holds needs either sort of generated descriptors.
    """
    for view in views:
        if view.indirection is not None and mode not in ("unknown", "swdge"):
            raise NkiValidationError(
                f"{opcode}: rows picked by an index tile with dge_mode {mode}",
                allowed="dge_mode swdge, or unknown",
            )
        if view.offset_from is not None and mode == "none":
            raise NkiValidationError(
                f"{opcode}: an address that a tensor holds, with dge_mode none",
                allowed="dge_mode swdge, hwdge or unknown",
            )


def require_priority(opcode: str, priority: Any, chip: Chip) -> None:
    """A DMA's priority is 0, the highest, to 3, on NeuronCore-v4."""
    if priority is None:
        return
    require_generation(f"{opcode} with a priority", chip, "gen4")
    if not isinstance(priority, int) or not 0 <= priority <= 3:
        raise NkiValidationError(f"{opcode}: priority {priority}", allowed="0, the highest, to 3")


def require_representable(opcode: str, name: str, value: Any, dst: AccessPattern) -> None:
    """A number written to an integer tensor is one of its dtype."""
    kind = dtypes.numpy_dtype(dst.dtype)
    if kind.kind not in "iu":
        return
    info = np.iinfo(kind)
    if not (info.min <= value <= info.max and float(value).is_integer()):
        raise NkiValidationError(
            f"{opcode}: {name} {value} into {dst.dtype}",
            allowed=f"integers from {info.min} to {info.max}",
        )


def require_not_both_psum(opcode: str, **operands: Any) -> None:
    """At most one of the operands lies in PSUM."""
    names = [n for n, v in operands.items() if is_tensor(v) and v.space is Space.psum]
    if len(names) > 1:
        raise NkiValidationError(
            f"{opcode}: {' and '.join(names)} are all in PSUM",
            allowed="at most one operand in PSUM",
            fix="copy one of them to SBUF with nisa.tensor_copy",
        )


def require_engine(opcode: str, engine: Engine, *allowed: Engine) -> None:
    """The engine asked for can run the instruction."""
    if engine not in allowed:
        raise NkiValidationError(
            f"{opcode} on engine {getattr(engine, 'name', shown(engine))}",
            allowed=", ".join(item.name for item in allowed),
        )


def require_no_gpsimd_psum(opcode: str, engine: Engine, **operands: Any) -> None:
    """GpSimdE can't reach PSUM."""
    for name, view in operands.items():
        if engine is Engine.gpsimd and is_tensor(view) and view.space is Space.psum:
            raise NkiValidationError(
                f"{opcode} on gpsimd: {name} is in PSUM",
                allowed="SBUF operands on GpSimdE",
                fix="use engine=nisa.engine.vector, or copy to SBUF first",
            )


def require_affine_pattern(opcode: str, pattern: Any, dst: AccessPattern) -> None:
    """At most 4 axes whose counts multiply to dst's elements per partition."""
    count = 1
    for _, extent in pattern:
        count *= extent
    if len(pattern) > 4 or count != dst.elements:
        raise NkiValidationError(
            f"{opcode}: pattern {pattern} generates {count} values per partition",
            allowed=f"at most 4 axes and {dst.elements} values, as dst has",
        )


def require_generation(opcode: str, chip: Chip, *generations: str) -> None:
    """The chip's NeuronCore has the instruction."""
    if chip.generation not in generations:
        raise NkiValidationError(
            f"{opcode} on {chip.title} ({chip.generation})",
            allowed=", ".join(generations),
            fix="choose another target, or write it with other instructions",
        )


def require_scale_rows(opcode: str, name: str, scale: AccessPattern, data: AccessPattern) -> None:
    """A scale tile has a row for every group of the partitions of an MX tile."""
    needed = mx.num_scale_rows(data.shape[0])
    if scale.shape[0] < needed:
        raise NkiValidationError(
            f"{opcode}: {name} has {scale.shape[0]} partitions for {data.shape[0]} of data",
            allowed=f"at least {needed}: {mx.SCALES_PER_QUADRANT} rows at the start of each "
            f"quadrant of {mx.QUADRANT}",
        )


def require_matmul_dtypes(
    opcode: str, chip: Chip, stationary: AccessPattern, moving: AccessPattern
) -> None:
    """TensorE's floats; float32 and tfloat32 with each other only, float8_e4m3fn on v4 only.

    float8_e4m3 and float8_e4m3fn are not mixed.
    """
    for name, view in (("stationary", stationary), ("moving", moving)):
        require_dtype(opcode, name, view, *_MATMUL_DTYPES)
        if view.dtype == "float8_e4m3fn":
            require_generation(f"{opcode} of float8_e4m3fn", chip, "gen4")
    pair = {str(stationary.dtype), str(moving.dtype)}
    wide = pair & {"float32", "tfloat32"}
    if (wide and wide != pair) or pair == {"float8_e4m3", "float8_e4m3fn"}:
        raise NkiValidationError(
            f"{opcode}: stationary {stationary.dtype}, moving {moving.dtype}",
            allowed="float32 or tfloat32 only with each other, and one kind of float8_e4m3",
            fix="cast both operands to one dtype",
        )


def require_matmul_dst(
    opcode: str, chip: Chip, dst: AccessPattern, *operands: AccessPattern, is_transpose: bool
) -> None:
    """dst is float32, on v4 also bfloat16; a transpose may write its operand's dtype."""
    allowed = ["float32"] + (["bfloat16"] if chip.generation == "gen4" else [])
    if is_transpose:
        allowed += [str(view.dtype) for view in operands if view.dtype not in allowed]
        allowed += ["bfloat16", "float16"] if operands[0].itemsize == 1 else []
    require_dtype(opcode, "dst", dst, *allowed)


def require_psum_room(opcode: str, chip: Chip, dst: AccessPattern, columns: int, most: int) -> None:
    """The moving free size fits one PSUM bank, on v4 the whole of a PSUM partition."""
    core = core_of(chip)
    bank = int(core.psum.bank_bytes_per_partition.value)
    _, _, first, end = dst.box()
    if chip.generation == "gen4":
        most = int(core.psum.bytes_per_partition.value) // dst.itemsize
    if columns > most:
        raise NkiValidationError(
            f"{opcode}: moving free size {columns}", allowed=f"at most {most}", fix="tile that axis"
        )
    if chip.generation != "gen4" and first // bank != (end - 1) // bank:
        raise NkiValidationError(
            f"{opcode}: dst covers bytes {first}..{end - 1} of a PSUM partition",
            allowed=f"one bank of {bank} bytes",
            fix="tile the moving free axis to 512 float32 columns",
        )


def require_array_tile(
    opcode: str,
    chip: Chip,
    position: tuple[int, ...],
    size: tuple[int, ...],
    stationary: AccessPattern,
    *,
    rows_only: bool = False,
) -> None:
    """A tile of TensorE's array: its sizes, where it starts, and that stationary fits into it.

    128 rows are cut into 64s, from NeuronCore-v3 on into 32s too, and columns likewise.
    """
    if not position and not size:
        return
    whole = 128
    allowed = (64, whole) if chip.generation == "gen2" else (_QUADRANT, 64, whole)
    form = f"both as (row, column): sizes of {', '.join(map(str, allowed))}, starts that are "
    form += f"multiples of them below {whole}" + (", columns whole" if rows_only else "")
    complete = len(position) == len(size) == 2
    if not complete or any(
        extent not in allowed or start % extent or not 0 <= start < whole
        for start, extent in zip(position, size, strict=True)
    ):
        raise NkiValidationError(
            f"{opcode}: tile_position {position}, tile_size {size}", allowed=form
        )
    if rows_only and size[1] != whole:
        raise NkiValidationError(f"{opcode}: tile_size {size}", allowed=form)
    if stationary.shape[0] > size[0] or stationary.elements > size[1]:
        raise NkiValidationError(
            f"{opcode}: stationary {stationary.shape} in a tile of {size}",
            allowed="a stationary operand no larger than the tile",
        )
