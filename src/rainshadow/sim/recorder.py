"""Executes instructions as a kernel calls them and appends each to a Trace.

The kernel's Python runs as written; every `nki.isa` call arrives here. What instructions mean
and cost is left to `isa`, when they run to `sim.timing`.
"""

from __future__ import annotations

import threading
import zlib
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import index
from typing import Any

import numpy as np

from rainshadow import dtypes
from rainshadow.errors import CapacityError, InputError, NkiValidationError, SourceLine
from rainshadow.isa import columns, numerics, rules
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.accumulator import Accumulator
from rainshadow.isa.instruction import ACCESSORS, Instruction, Signature, make_signature
from rainshadow.isa.integers import wholes
from rainshadow.isa.memory import Buffer, Space
from rainshadow.isa.random import Generators
from rainshadow.isa.started import Started
from rainshadow.isa.strides import contiguous_strides
from rainshadow.machine import Chip, NeuronCore
from rainshadow.sim.cores import Cores
from rainshadow.sim.fast import fast_paths
from rainshadow.sim.memory import Memories
from rainshadow.sim.options import SimOptions
from rainshadow.sim.range_table import RangeTable
from rainshadow.sim.replay import Step, flat_bytes
from rainshadow.sim.room import placed
from rainshadow.sim.spilling import Rows
from rainshadow.sim.step_limit import StepLimit
from rainshadow.sim.storage import PARTITION_PADDING_BYTES, Storage
from rainshadow.sim.tensor_table import TensorTable, label_of
from rainshadow.sim.trace import (
    ARGUMENT,
    GIVEN,
    RETURNED,
    SPACES,
    Trace,
    TraceLine,
    with_dependencies,
)
from rainshadow.sim.user_lines import UserLines

Column = np.ndarray[Any, np.dtype[Any]]

_SPACE_NUMBER = {
    Space.sbuf: SPACES.index("sbuf"),
    Space.psum: SPACES.index("psum"),
    Space.private_hbm: SPACES.index("hbm"),
    Space.shared_hbm: SPACES.index("hbm"),
}


#: Frames from where lines are numbered to the caller of a function of `nki.isa`: all are ours, and
#: the caller is, or is the user's.
_ISSUE_DEPTH = 5
#: The same to what allocates.
_ALLOCATE_DEPTH = 3


class Recorder:
    """One core executing one kernel launch.

    Errors: whatever an instruction's rules raise, with the user's file and line added.
    """

    def __init__(
        self,
        chip: Chip,
        options: SimOptions,
        kernel: str = "kernel",
        addresses: Column | None = None,
        cores: Cores | None = None,
        program_id: int = 0,
    ) -> None:
        if chip.core is None:
            raise InputError(
                f"{chip.name} has no NeuronCore to run NKI kernels on",
                allowed="a chip with NeuronCores: see `rainshadow machines`",
            )
        self.chip = chip
        self.core: NeuronCore = chip.core
        self.options = options
        self.kernel = kernel
        self.memories = Memories.of(chip, chip.core)
        self.generators = Generators(
            str(chip.generation), int(chip.core.partitions.value), options.seed
        )
        self.with_data = options.data == "full"
        self.numerics = _numerics_of(options, program_id)
        self._fast = fast_paths() if self.numerics.is_plain and options.may_be_fast else {}
        self.instruction_count = 0
        self.vector_accumulator = Accumulator(int(chip.core.partitions.value))
        self.scalar_accumulator = Accumulator(int(chip.core.partitions.value))
        self._signatures: list[Signature] = []
        self._signature_ids: dict[Any, int] = {}
        self._lines = UserLines()
        self.ranges = RangeTable()
        self._signature_column = array("i")
        self._line_column = array("i")
        self._access_column = array("i")
        self._access_end_column = array("i")
        self._storage = Storage(chip.core, options, addresses)
        #: Where the on-chip tensors lie: known when the trace is made, or from an earlier launch,
        #: which is then executed at those addresses and kept.
        self.addresses = addresses
        self.kept: list[Step] | None = None if addresses is None else []
        self.arguments: list[Buffer] = []
        #: This core's logical core, and its number in it.
        self.cores = cores or Cores()
        self.program_id = program_id
        #: Blocks of nl.no_reorder that are open.
        self.num_ordered_regions = 0
        #: Rows of the instructions that have a name.
        self.named_rows: dict[str, int] = {}
        self._num_shared = 0
        self._num_tensors = 0
        self._placed = 0
        self._tiles: dict[tuple[Any, ...], AccessPattern] = {}
        self.tensors = TensorTable()
        self._dependencies: list[tuple[int, int]] = []
        self._stored: list[tuple[int, int]] = []
        #: The kernel's compiler moves tiles away where they do not fit (`sim.room`).
        self.may_spill = options.spill == "model"
        self._records = options.record
        self.steps = StepLimit(kernel, options.max_instructions, self._located)

    # -- memory ------------------------------------------------------------------------------

    def allocate(
        self,
        shape: Sequence[int],
        dtype: str,
        space: Space,
        name: str = "",
        address: tuple[int, int] | None = None,
        flags: int = 0,
    ) -> AccessPattern:
        """A new tensor; partition axis first for SBUF and PSUM.

        address: (first partition, first byte) that the kernel asks for on chip.  flags: of
        `Trace.tensors`.

        Errors: `NkiValidationError` for impossible shapes, `CapacityError` when memory is full.
        """
        try:
            extents = tuple(map(index, shape))
        except (TypeError, AttributeError):
            extents = wholes(shape, "shape")
        tile = self._tiles.get((extents, dtype, space))
        if tile is None:
            tile = self._first_tile(extents, dtype, space)
        if space is Space.shared_hbm and self.cores.count > 1:
            return self._shared_tensor(tile, name, flags)
        return self._view(tile, self._buffer(tile.buffer_, name, address, flags))

    def _view(self, tile: AccessPattern, buffer: Buffer) -> AccessPattern:
        view = AccessPattern(buffer, tile.dtype, tile.shape, tile.strides)
        if not buffer.start_partition:
            view.kind_number = tile.kind_number
        return view

    def _first_tile(self, extents: tuple[int, ...], dtype: str, space: Space) -> AccessPattern:
        """A tile without address or bytes, that others of its kind are made like."""
        if not extents or min(extents) < 1:
            raise self._located(
                NkiValidationError(f"tensor of shape {extents}", allowed="axes of 1 or more")
            )
        if space.on_chip and extents[0] > int(self.core.partitions.value):
            raise self._located(
                NkiValidationError(
                    f"tensor of shape {extents} in {space.value}: {extents[0]} partitions",
                    allowed=f"{int(self.core.partitions.value)} partitions",
                    fix="tile axis 0",
                )
            )
        shape = (extents[0], 1) if space.on_chip and len(extents) == 1 else extents
        buffer = Buffer(space=space, shape=shape, dtype=dtype)
        tile = AccessPattern(buffer, dtype, shape, contiguous_strides(shape))
        tile.kind()  # known to all that are made like it
        self._tiles[extents, dtype, space] = tile
        return tile

    def _shared_tensor(self, tile: AccessPattern, name: str, flags: int) -> AccessPattern:
        """The n-th shared tensor of every core is one tensor.

        Errors: `NkiValidationError` where the cores disagree about it.
        """
        number = self._num_shared
        self._num_shared += 1
        buffer = self.cores.shared(number, lambda: self._buffer(tile.buffer_, name, None, flags))
        if (buffer.shape, buffer.dtype) != (tile.shape, tile.dtype):
            raise self._located(
                NkiValidationError(
                    f"shared_hbm tensor {number + 1} is {tile.dtype}{list(tile.shape)} on core "
                    f"{self.program_id}, {buffer.dtype}{list(buffer.shape)} on another",
                    allowed="the same shared tensors in the same order on every core",
                )
            )
        self._note(buffer, flags, f"shared {number}")
        return self._view(tile, buffer)

    def _buffer(
        self, like: Buffer, name: str, address: tuple[int, int] | None, flags: int
    ) -> Buffer:
        buffer = like.twin(name)
        if not buffer.on_chip:
            buffer.address = self._hbm_address(buffer, label_of(buffer))
            buffer.ordinal = self.cores.new_hbm_ordinal()
            self._note(buffer, flags)
        elif address is not None:
            self._put(buffer, *address)
        else:
            self._request(buffer)
        self._num_tensors += 1
        if self._num_tensors > self.steps.most:
            raise self.steps.endless("allocations")
        if self.with_data:
            line = self._lines.here() if self.options.zeroed else None
            buffer.storage = self._storage.of(buffer, line)
        if self.kept is None and (self.with_data or not buffer.on_chip):
            buffer.release = self._release
        return buffer

    def _put(self, buffer: Buffer, partition: int, first_byte: int) -> None:
        """At the address the kernel gives: placement keeps other tiles away from it."""
        memory = self.core.sbuf if buffer.space is Space.sbuf else self.core.psum
        partitions, size = int(self.core.partitions.value), int(memory.bytes_per_partition.value)
        end = first_byte + buffer.size_bytes
        if (
            partition < 0
            or partition + buffer.partitions > partitions
            or first_byte < 0
            or end > size
        ):
            raise self._located(
                CapacityError(
                    f"{label_of(buffer)} at address ({partition}, {first_byte}): "
                    f"partitions {partition}..{partition + buffer.partitions - 1}, "
                    f"bytes {first_byte}..{end - 1}",
                    allowed=f"partitions 0..{partitions - 1}, bytes 0..{size - 1} of "
                    f"{buffer.space.value}",
                )
            )
        buffer.start_partition, buffer.address = partition, first_byte
        buffer.partition_bytes = size + PARTITION_PADDING_BYTES
        self._number(buffer, GIVEN)

    def _request(self, buffer: Buffer) -> None:
        """On-chip addresses are given out when the kernel is over (`sim.placement`)."""
        arena = self.memories.sbuf if buffer.space is Space.sbuf else self.memories.psum
        if buffer.size_bytes > arena.capacity_bytes:
            raise self._located(
                CapacityError(
                    f"{label_of(buffer)}: {buffer.size_bytes} B per partition of {arena.name}",
                    allowed=f"{arena.capacity_bytes} B",
                    fix="tile the free axes",
                )
            )
        self._number(buffer, 0)

    def _number(self, buffer: Buffer, flags: int) -> None:
        if self._records:
            self._note(buffer, flags)
        elif self.addresses is not None:
            buffer.ordinal = self._placed
            self._placed += 1

    def enter(self, buffer: Buffer, line: int, flags: int = 0) -> None:
        """A tensor that the kernel does not know of: moves of tiles need it."""
        if not buffer.on_chip:
            buffer.address = self._hbm_address(buffer, label_of(buffer))
            buffer.ordinal = self.cores.new_hbm_ordinal()
        self.tensors.add(buffer, _SPACE_NUMBER[buffer.space], line, flags)

    def _hbm_address(self, buffer: Buffer, label: str) -> int:
        try:
            return self.memories.hbm.allocate(buffer.size_bytes, label)
        except CapacityError as error:
            raise self._located(error) from None

    def _release(self, buffer: Buffer) -> None:
        if not buffer.on_chip:
            self.memories.hbm.release(buffer.address)
        else:
            self._storage.release(buffer)

    def bind(self, array_: np.ndarray[Any, Any], name: str) -> AccessPattern:
        """An HBM tensor over the memory of a NumPy array, without a copy."""
        try:
            dtype = dtypes.from_numpy(array_.dtype)
        except NkiValidationError as error:
            error.what = f"argument {name}: {error.what}"
            raise
        item = array_.dtype.itemsize
        strides = tuple(stride // item for stride in array_.strides)
        flat = flat_bytes(array_)
        buffer = Buffer(space=Space.shared_hbm, shape=(flat.size // item,), dtype=dtype, name=name)
        buffer.address = self.memories.hbm.allocate(buffer.size_bytes, name)
        buffer.storage = flat if self.with_data else None
        buffer.ordinal = self.cores.new_hbm_ordinal()
        self.tensors.add(buffer, _SPACE_NUMBER[buffer.space], -1, ARGUMENT, f"argument {name}")
        self.arguments.append(buffer)
        return AccessPattern(buffer, dtype, tuple(array_.shape), strides)

    def declare(self, shape: Sequence[int], dtype: str, name: str) -> AccessPattern:
        """An HBM argument of which only the shape is known (data="none")."""
        return self.allocate(shape, dtype, Space.shared_hbm, name, flags=ARGUMENT)

    def _note(self, buffer: Buffer, flags: int = 0, shared: str = "") -> None:
        """Enter a tensor in the Trace's table, with the line that makes it."""
        if self._records:
            line = -1 if flags & ARGUMENT else self._lines.number(_ALLOCATE_DEPTH)
            self.tensors.add(buffer, _SPACE_NUMBER[buffer.space], line, flags, shared)

    def note_results(self, returned: Any) -> None:
        """The kernel has returned these: tensors, or lists and tuples of them."""
        if isinstance(returned, AccessPattern) and self.options.record:
            self.tensors.mark(returned.buffer_, RETURNED)
        elif isinstance(returned, list | tuple):
            for item in returned:
                self.note_results(item)

    # -- instructions ------------------------------------------------------------------------

    def issue(self, instr: Instruction) -> None:
        """Check, execute and record one instruction."""
        cls = type(instr)
        accessors = ACCESSORS[cls]
        fields = accessors.fields(instr)
        operands = fields[accessors.num_options :]
        kinds = [
            value.kind_number or value.kind() if type(value) is AccessPattern else _kind(value)
            for value in operands
        ]
        key = (cls, fields[: accessors.num_options], *kinds)
        if accessors.numbers is not None:
            key += accessors.numbers(instr)
        signature = self._signature_ids.get(key)
        if signature is None:
            signature = self._first_of_its_kind(instr, key)
        if self.cores.count > 1 and any(map(_is_shared, operands[: accessors.num_writes])):
            self.cores.give_way(self.program_id)
        if self.with_data:
            self._execute(cls, instr)
        elif cls.MEETS:
            instr.meet()
        self.instruction_count += 1
        if self.instruction_count > self.steps.most:
            raise self.steps.endless("instructions")
        if self._records:
            writes, reads = operands[: accessors.num_writes], operands[accessors.num_writes :]
            if self.with_data and self.cores.count > 1:
                self._note_stored(writes, reads)
            self._append(signature, writes, reads)

    def _execute(self, cls: type[Instruction], instr: Instruction) -> None:
        try:
            fast = self._fast.get(cls)
            if fast is None or not fast(instr):
                fast = None
                columns.execute(instr)
            if self.kept is not None:
                self.kept.append((fast or columns.execute, instr))
        except NkiValidationError as error:
            raise self._located(error) from None

    def _note_stored(self, writes: tuple[Any, ...], reads: tuple[Any, ...]) -> None:
        """What the row that comes next has stored where other cores see it.

        Of rows that an index picks: the index, and what the row has read.
        """
        checksum = None
        for view in filter(_is_shared, writes):
            picked = view.indirection
            parts = [view] if picked is None else [picked.index, *reads]
            for part in parts:
                if type(part) is AccessPattern:
                    checksum = zlib.crc32(part.array.tobytes(), checksum or 0)
        if checksum is not None:
            self._stored.append((len(self._signature_column), checksum))

    def _append(self, signature: int, writes: tuple[Any, ...], reads: tuple[Any, ...]) -> None:
        self._signature_column.append(signature)
        self._line_column.append(self._lines.number(_ISSUE_DEPTH))
        access, ranges = self._access_column, self.ranges
        for view in writes:
            if type(view) is AccessPattern:
                access.append(ranges.number(view) * 2 + 1)
            elif type(view) is tuple:
                access.extend([ranges.number(v) * 2 + 1 for v in view])
        for view in reads:
            if type(view) is AccessPattern:
                access.append(ranges.number(view) * 2)
                if view.is_indirect():
                    self._append_indices(view)
            elif type(view) is tuple or type(view) is list:
                access.extend([ranges.number(v) * 2 for v in view])
        for view in writes:
            if type(view) is AccessPattern and view.is_indirect():
                self._append_indices(view)
        self._access_end_column.append(len(access))

    def _append_indices(self, view: AccessPattern) -> None:
        """What is read to know where the view lies."""
        if view.indirection is not None:
            self._access_column.append(self.ranges.number(view.indirection.index) * 2)
        if view.offset_from is not None:
            self._access_column.append(self.ranges.number(view.offset_from) * 2)

    def signature_of(self, instr: Instruction) -> int:
        """Number of an instruction's signature, whose rules are checked the first time."""
        accessors = ACCESSORS[type(instr)]
        fields = accessors.fields(instr)
        options, operands = fields[: accessors.num_options], fields[accessors.num_options :]
        key: tuple[Any, ...] = (type(instr), options, *map(_kind, operands))
        if accessors.numbers is not None:
            key += accessors.numbers(instr)
        number = self._signature_ids.get(key)
        return self._first_of_its_kind(instr, key) if number is None else number

    def _first_of_its_kind(self, instr: Instruction, key: Any) -> int:
        try:
            rules.require_addressing(instr, self.chip)
            rules.require_real(instr)
            rules.require_flags(instr)
            instr.check(self.chip)
        except NkiValidationError as error:
            raise self._located(error) from None
        self._signatures.append(make_signature(instr))
        number = len(self._signatures) - 1
        self._signature_ids[key] = number
        return number

    def depend(self, row: int, producer: int) -> None:
        """Row `row` starts when row `producer` is done, whatever they touch."""
        if self.options.record and producer >= 0:
            self._dependencies.append((row, producer))

    def start_sum(self, dst: AccessPattern) -> Any:
        """Count `dst` as written by a matmul; what of it was before (`isa.started`)."""
        started = dst.buffer_.started
        if started is None:
            started = dst.buffer_.started = Started()
        return started.add(dst)

    @property
    def lines(self) -> list[TraceLine]:
        """The lines of the user's kernel, by number."""
        return self._lines.lines

    @property
    def signatures(self) -> list[Signature]:
        """The signatures of the instructions, by number."""
        return self._signatures

    def line(self) -> SourceLine:
        """The line of the user's kernel that is running."""
        return self._lines.here()

    def line_number(self) -> int:
        """Number of that line, for `on_line`."""
        return self._lines.number()

    @contextmanager
    def on_line(self, number: int) -> Iterator[None]:
        """Instructions and errors in this block belong to a line that was running earlier."""
        with self._lines.at(number):
            try:
                yield
            except NkiValidationError as error:
                raise self._located(error) from None

    def _located(self, error: Any) -> Any:
        """The same error with the user's line, unless it has one."""
        if error.where is None:
            error.where = self._lines.here()
        return error

    # -- result ------------------------------------------------------------------------------

    def trace(self) -> Trace:
        """What has been recorded, with every tensor at its address.

        Errors: `CapacityError` where more tensors are live at once than SBUF or PSUM holds.
        """
        recorded = Rows(
            _column(self._signature_column),
            _column(self._line_column),
            _column(self._access_column),
            _column(self._access_end_column),
            self._dependencies,
            self._stored,
        )
        rows, self.addresses = placed(self, recorded)
        tensors = self.tensors.rows(self.addresses)
        owner = self.tensors.indices(self.ranges.ordinals)
        measured = self.ranges.measured(tensors, owner, SPACES.index("hbm"))
        renumbered = measured.range[rows.access >> 1] * 2 + (rows.access & 1)
        uses = np.stack([owner, measured.footprint], axis=1)
        trace = Trace(
            kernel=self.kernel,
            chip=self.chip.name,
            signature=rows.signature,
            line=rows.line,
            access=renumbered.astype(np.int32),
            access_end=rows.access_end,
            ranges=measured.ranges,
            signatures=tuple(self._signatures),
            lines=tuple(self._lines.lines),
            peak_bytes=self.memories.peaks(),
            tensors=tensors,
            use=rows.access >> 1,
            uses=uses.astype(np.int32),
            footprints=measured.footprints,
            names=tuple(self.tensors.names),
            stored=np.array(rows.stored, dtype=np.int64).reshape(-1, 2),
        )
        return with_dependencies(trace, rows.dependencies)


def _numerics_of(options: SimOptions, number: int) -> numerics.Numerics:
    stochastic = options.rounding == "stochastic"
    random = np.random.default_rng([options.seed, number]) if stochastic else None
    return numerics.Numerics(random, options.beyond_range)


def _is_shared(view: Any) -> bool:
    return type(view) is AccessPattern and view.buffer_.space is Space.shared_hbm


def _kind(value: Any) -> Any:
    if type(value) is AccessPattern:
        return value.kind_number or value.kind()
    return tuple(map(_kind, value)) if type(value) is tuple else type(value)


def _column(values: array[int]) -> np.ndarray[Any, Any]:
    return np.frombuffer(values.tobytes(), dtype=np.int32)


class _Active(threading.local):
    """The recorders of the kernels that run on this thread, innermost last."""

    def __init__(self) -> None:
        self.stack: list[Recorder] = []


_ACTIVE = _Active()


def inside_kernel() -> bool:
    """Whether a kernel is running on this thread."""
    return bool(_ACTIVE.stack)


def active_recorder() -> Recorder:
    """The recorder of the kernel that is running.

    Errors: `NkiValidationError` outside a kernel.
    """
    if not _ACTIVE.stack:
        raise NkiValidationError(
            "an NKI instruction outside a kernel",
            fix="call it from a function decorated with @nki.jit, through nki.simulate",
        )
    return _ACTIVE.stack[-1]


@contextmanager
def activate(recorder: Recorder) -> Iterator[Recorder]:
    """Make a recorder the active one while a kernel runs.

    Overflow and NaN are values to an engine, not events: NumPy warns of none.
    """
    _ACTIVE.stack.append(recorder)
    try:
        with np.errstate(all="ignore"), numerics.use(recorder.numerics):
            yield recorder
    finally:
        _ACTIVE.stack.pop()
