"""Knows tensor indirection: columns of SBUF or PSUM that an index tile picks, `view.indirect(...)`.

Sources: AWS Neuron docs 2.32, NkiTensor.indirect, "Tensor indirection" of each nki.isa function,
and the Trainium 3 guide. AWS leaves open (docs/numerics.md): every group of partitions reads the
offsets from its own rows of the index tile, and later offsets of a scatter win.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rainshadow.errors import NkiValidationError, OutOfBoundsError
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.engine import Engine
from rainshadow.isa.indices import COLUMN_AXIS
from rainshadow.isa.memory import Buffer, Space

if TYPE_CHECKING:
    from rainshadow.isa.instruction import Instruction

Array = np.ndarray[Any, Any]
_QUADRANT = 32
_VECTOR_ENGINES = (Engine.vector, Engine.scalar, Engine.gpsimd)


def picks_columns(view: Any) -> bool:
    """Whether an index tile picks the columns of an operand."""
    if not isinstance(view, AccessPattern) or view.indirection is None:
        return False
    return view.indirection.axis == COLUMN_AXIS


def group_of(engine: Engine) -> int:
    """Partitions that share one list of offsets."""
    return _QUADRANT if engine is Engine.tensor else _QUADRANT // 2


# -- rules -------------------------------------------------------------------------------------


def require_columns(instr: Instruction, generation: str) -> None:
    """NeuronCore-v4 gathers and scatters columns, from and to the operands of `COLUMNS`.

    The index tile starts at a quadrant, where its operand starts; that of a scatter where the
    first gathered operand starts.
    """
    names = [name for name in instr.COLUMNS if picks_columns(getattr(instr, name))]
    if not names:
        return
    if generation != "gen4":
        raise NkiValidationError(
            f"{instr.opcode}: columns of {names[0]} picked by an index tile, on {generation}",
            allowed="gen4",
            fix="gather with nisa.nc_n_gather or nisa.dma_copy first",
        )
    for name in names:
        _require_index(instr, name)
    _require_starts(instr, names)
    if instr.engine is Engine.scalar and picks_columns(instr.dst):  # type: ignore[attr-defined]
        _require_sbuf_scatter(instr)
    position = getattr(instr, "tile_position", ())
    if any(position):
        raise NkiValidationError(
            f"{instr.opcode}: tile_position {position} with columns picked by an index tile",
            allowed="(0, 0), or none",
        )


def require_same_columns(instr: Instruction, name: str, other: str) -> None:
    """Operands that are one tensor, as elements and their scales are, take the same columns."""
    first, second = getattr(instr, name), getattr(instr, other)
    indices = [view.indirection and view.indirection.index for view in (first, second)]
    if indices[0] is not indices[1]:
        raise NkiValidationError(
            f"{instr.opcode}: {name} and {other} picked by different index tiles",
            allowed="one index tile for both, or none",
        )


def require_plain_or_narrow(instr: Instruction, is_transpose: bool) -> None:
    """TensorE picks columns of floats of 8 and 16 bits, and none of moving in a transpose."""
    for name in instr.COLUMNS[1:]:
        view = getattr(instr, name)
        transposed = name == "moving" and is_transpose
        if picks_columns(view) and (view.itemsize > 2 or transposed):
            raise NkiValidationError(
                f"{instr.opcode}: columns of {name}, {view.dtype}, picked by an index tile"
                f"{' in a transpose' if transposed else ''}",
                allowed="floats of 8 and 16 bits, and plain moving operands of transposes",
            )


def _require_index(instr: Instruction, name: str) -> None:
    view = getattr(instr, name)
    index, group = view.indirection.index, group_of(instr.engine)
    if view.shape[0] % group or view.elements > group * index.elements:
        raise NkiValidationError(
            f"{instr.opcode} on {instr.engine.name}: {view.elements} columns of {name} in "
            f"{view.shape[0]} partitions by an index tile {list(index.shape)}",
            allowed=f"a multiple of {group} partitions, {group} offsets a column of the index",
        )
    if index.start_partition % _QUADRANT:
        raise NkiValidationError(
            f"{instr.opcode}: the index tile of {name} starts at partition {index.start_partition}",
            allowed=f"a multiple of {_QUADRANT}",
        )


def _require_starts(instr: Instruction, names: list[str]) -> None:
    gathered = instr.COLUMNS[1]
    source = getattr(instr, gathered)
    for name in names:
        view = getattr(instr, name)
        index, wanted = view.indirection.index.start_partition, view.start_partition
        if name == "dst":
            in_psum = source.space is Space.psum
            if in_psum and not picks_columns(source):
                continue
            wanted = source.indirection.index.start_partition if in_psum else source.start_partition
        if index != wanted:
            raise NkiValidationError(
                f"{instr.opcode}: the index tile of {name} starts at partition {index}",
                allowed=f"{wanted}, where {gathered if name == 'dst' else name} starts",
            )


def _require_sbuf_scatter(instr: Instruction) -> None:
    dst: AccessPattern = instr.dst  # type: ignore[attr-defined]
    if dst.space is Space.psum:
        raise NkiValidationError(
            f"{instr.opcode} on scalar: columns of dst, in PSUM, picked by an index tile",
            allowed="dst in SBUF",
        )


# -- meaning -----------------------------------------------------------------------------------


def execute(instr: Instruction) -> None:
    """The instruction's meaning, on stand-ins for operands whose columns an index tile picks."""
    names = [name for name in instr.COLUMNS if picks_columns(getattr(instr, name))]
    if not names:
        instr.meaning()
        return
    places = {name: _places(getattr(instr, name), instr) for name in names}
    stand_ins = {name: _stand_in(getattr(instr, name), places[name]) for name in names}
    replace(instr, **stand_ins).meaning()  # type: ignore[type-var]
    for name in names:
        if name in instr.WRITES:
            view = getattr(instr, name)
            np.put_along_axis(_all_columns(view), places[name], _flat(stand_ins[name]), axis=1)


def _places(view: AccessPattern, instr: Instruction) -> Array:
    """int64[P, columns]: which column of the free axes each partition takes."""
    indirection, group = view.indirection, group_of(instr.engine)
    assert indirection is not None, "only views with picked columns have places"
    index = indirection.index.array.reshape(view.shape[0], -1).astype(np.int64)
    columns = np.arange(view.elements)
    lists = index.reshape(-1, group, index.shape[1])[:, columns % group, columns // group]
    if lists.min() < 0 or lists.max() >= indirection.limit:
        outside = lists[(lists < 0) | (lists >= indirection.limit)][0]
        raise OutOfBoundsError(
            f"{instr.opcode}: offset {outside} into {view.name or 'a tile'}",
            allowed=f"0..{indirection.limit - 1}",
            fix="mend the index tile",
        )
    return np.repeat(lists, group, axis=0)


def _all_columns(view: AccessPattern) -> Array:
    indirection = view.indirection
    assert indirection is not None, "only views with picked columns reach further"
    shape = (view.shape[0], indirection.limit)
    strides = (view.strides[0], indirection.stride)
    return AccessPattern(view.buffer_, view.dtype, shape, strides, view.offset).array


def _flat(view: AccessPattern) -> Array:
    return view.array.reshape(view.shape[0], -1)


def _stand_in(view: AccessPattern, places: Array) -> AccessPattern:
    """A tile of its own with the picked columns."""
    buffer = Buffer(space=view.space, shape=view.shape, dtype=view.dtype)
    buffer.storage = np.zeros(buffer.size_bytes * buffer.partitions, dtype=np.uint8)
    buffer.start_partition = view.start_partition
    result = AccessPattern(buffer, view.dtype, view.shape, (view.elements, 1))
    result.array[...] = np.take_along_axis(_all_columns(view), places, axis=1)
    return result
